//! What is to be pushed, and in which order: decided before anything is read.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use snowbank_core::hash::NarHash;
use snowbank_core::receipt::{Receipt, UpstreamReason};
use snowbank_core::signing::PublicKey;
use snowbank_core::store_path::{StoreDir, StorePath};
use snowbank_core::wire::{
    CacheInfo, DifferentPath, MissingPathsRequest, MissingPathsResponse, PathQuery,
};

use super::read::ToRead;
use super::{Ledger, PushError, PushOptions};
use crate::api::{Api, ApiError};
use crate::exit::Exit;
use crate::store::{COLLECTED, Closure, PathInfo};

/// Questions about missing paths under way at a time.
const QUESTIONS: usize = 4;
/// Most bytes of such a question: what nginx lets through unless told otherwise is 1 MiB.
const QUESTION_BYTES: usize = 512 << 10;
/// What a path takes in a question besides its name.
const QUERY_BYTES: usize = 120;

/// The cache that is pushed to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) cache: CacheInfo,
    pub(super) store_dir: StoreDir,
    keys: Arc<[PublicKey]>,
}

/// A path of the closure that is to be in the cache.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) info: PathInfo,
    /// Base names of those of its references that upstream has.
    pub(super) upstream: Vec<String>,
}

/// A path to push.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) info: PathInfo,
    pub(super) upstream: Vec<String>,
    /// Where its files are.
    pub(super) root: PathBuf,
    /// Those of its references that are pushed too; they come before it.
    pub(super) references: Vec<u32>,
}

/// All paths to push, references first.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) paths: Vec<Planned>,
}

impl Target {
    pub(super) fn new(cache: CacheInfo, local: &StoreDir) -> Result<Self, PushError> {
        if cache.store_dir != local.as_str() {
            return Err(PushError::StoreDir { cache: cache.store_dir, local: local.clone() });
        }
        cache.cut.validate()?;
        let parse = |key: &String| key.parse().map_err(|_| PushError::Key { key: key.clone() });
        let keys = cache.public_keys.iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { cache, store_dir: local.clone(), keys })
    }

    pub(super) fn full(&self, path: &StorePath) -> String {
        path.full(&self.store_dir)
    }

    /// The cache's keys.
    pub(super) fn keys(&self) -> Arc<[PublicKey]> {
        Arc::clone(&self.keys)
    }

    /// Whether `receipt` is one for the path as it is here, signed by a key of the cache.
    pub(super) fn check(&self, receipt: &Receipt, info: &PathInfo) -> Result<(), &'static str> {
        self.check_signed(receipt, info, receipt.verify(&self.keys))
    }

    /// As [`Target::check`], where somebody has looked already whether it is signed.
    pub(super) fn check_signed(
        &self,
        receipt: &Receipt,
        info: &PathInfo,
        is_signed: bool,
    ) -> Result<(), &'static str> {
        if receipt.cache != self.cache.name || receipt.store_path != self.full(&info.path) {
            Err("the server's receipt is for another path or cache")
        } else if (receipt.nar_hash, receipt.nar_size) != (info.nar_hash, info.nar_size) {
            Err("the server's receipt has another NAR hash or size than the path here")
        } else if !is_signed {
            Err("the server's receipt is not signed by a key of the cache")
        } else {
            Ok(())
        }
    }
}

/// Those paths of `closure` that can be pushed: all but what Nix does not know and, if the closure
/// is wanted, what refers to such a path. The others are in the ledger.
pub(super) fn known(
    closure: Closure,
    options: &PushOptions,
    target: &Target,
    ledger: &mut Ledger,
) -> Result<Vec<PathInfo>, PushError> {
    for path in &closure.absent {
        ledger.failed(target.full(path), format!("not pushed: {COLLECTED}"), Exit::Store)?;
    }
    let mut lost: HashSet<StorePath> = closure.absent.into_iter().collect();
    if lost.is_empty() || !options.closure {
        return Ok(closure.infos);
    }
    let mut known = Vec::with_capacity(closure.infos.len());
    for info in closure.infos {
        match info.references.iter().find(|path| lost.contains(*path)) {
            None => known.push(info),
            Some(reference) => {
                let reason = not_without(&target.full(reference));
                ledger.failed(target.full(&info.path), reason, Exit::Store)?;
                lost.insert(info.path);
            }
        }
    }
    Ok(known)
}

/// Why a path is not pushed that refers to one that is not.
pub(super) fn not_without(reference: &str) -> String {
    format!("not pushed: it refers to {reference}, which was not pushed")
}

/// Which of the closure `infos` are to be in the cache: all or only `roots`, less what upstream
/// has, if asked to.
pub(super) fn choose(
    infos: Vec<PathInfo>,
    roots: &[StorePath],
    options: &PushOptions,
    target: &Target,
    ledger: &mut Ledger,
) -> Result<Vec<Wanted>, PushError> {
    let keys: HashSet<&str> = target.cache.upstream_keys.iter().map(String::as_str).collect();
    let signed_by_upstream = |info: &PathInfo| {
        let signature = info.signatures.iter().find(|signature| keys.contains(signature.name()));
        signature.filter(|_| options.upstream_filter).map(|signature| signature.name().to_owned())
    };
    let upstream: HashSet<StorePath> = infos
        .iter()
        .filter(|info| signed_by_upstream(info).is_some())
        .map(|info| info.path.clone())
        .collect();
    let roots: HashSet<&StorePath> = roots.iter().collect();
    let mut wanted = Vec::new();
    for info in infos {
        if !options.closure && !roots.contains(&info.path) {
            continue;
        }
        if let Some(key) = signed_by_upstream(&info) {
            ledger.skipped(
                target.full(&info.path),
                info.nar_hash,
                UpstreamReason::SignedBy(key),
            )?;
        } else {
            let left_out = info
                .references
                .iter()
                .filter(|path| upstream.contains(*path))
                .map(StorePath::base_name);
            wanted.push(Wanted { upstream: left_out.collect(), info });
        }
    }
    Ok(wanted)
}

/// What the cache said of paths.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Those that it lacks.
    pub(super) missing: Vec<Wanted>,
    /// Those that it has, and that carry signatures here.
    pub(super) signed: Vec<PathInfo>,
}

/// Asks the cache which of `wanted` it lacks; what is to be said of the others is in the ledger.
pub(super) async fn ask(
    api: &Api,
    wanted: Vec<Wanted>,
    options: &PushOptions,
    target: &Target,
    ledger: &mut Ledger,
) -> Result<Answers, PushError> {
    let most = (target.cache.limits.paths_per_query as usize).max(1);
    let mut answers = stream::iter(questions(wanted, most, target))
        .map(|batch| question(api, batch, options, target))
        .buffered(QUESTIONS);
    let mut all = Answers::default();
    while let Some((batch, answer, checked)) = answers.try_next().await? {
        let mut asked: HashMap<String, NarHash> = batch
            .iter()
            .map(|wanted| (target.full(&wanted.info.path), wanted.info.nar_hash))
            .collect();
        for (receipt, result) in answer.present.into_iter().zip(checked) {
            if asked.remove(&receipt.store_path).is_some() {
                match result {
                    Ok(()) => ledger.receipt(receipt)?,
                    Err(reason) => {
                        ledger.failed(receipt.store_path, reason.to_owned(), Exit::Receipt)?;
                    }
                }
            }
        }
        for DifferentPath { store_path, nar_hash } in answer.different {
            if let Some(own) = asked.remove(&store_path) {
                ledger.different(store_path, own, nar_hash)?;
            }
        }
        for wanted in batch {
            // What is in no list counts as missing: its commit will tell.
            if asked.contains_key(&target.full(&wanted.info.path)) {
                all.missing.push(wanted);
            } else if !wanted.info.signatures.is_empty() {
                all.signed.push(wanted.info);
            }
        }
    }
    Ok(all)
}

fn questions(wanted: Vec<Wanted>, most: usize, target: &Target) -> Vec<Vec<Wanted>> {
    let mut batches: Vec<Vec<Wanted>> = Vec::new();
    let mut bytes = 0;
    for wanted in wanted {
        let more =
            target.store_dir.as_str().len() + 34 + wanted.info.path.name().len() + QUERY_BYTES;
        match batches.last_mut() {
            Some(batch) if batch.len() < most && bytes + more <= QUESTION_BYTES => {
                bytes += more;
                batch.push(wanted);
            }
            _ => {
                bytes = more;
                batches.push(vec![wanted]);
            }
        }
    }
    batches
}

type Checked = Vec<Result<(), &'static str>>;

async fn question(
    api: &Api,
    batch: Vec<Wanted>,
    options: &PushOptions,
    target: &Target,
) -> Result<(Vec<Wanted>, MissingPathsResponse, Checked), PushError> {
    let query = |wanted: &Wanted| PathQuery {
        store_path: target.full(&wanted.info.path),
        nar_hash: wanted.info.nar_hash,
    };
    let request = MissingPathsRequest {
        paths: batch.iter().map(query).collect(),
        expires: options.expires,
        dry_run: options.dry_run,
    };
    let mut answer = api.missing_paths(&request).await?;
    if options.verify_present {
        let whole = verified(api, &request, &answer).await?;
        // What was damaged is in no list then, and so counts as missing.
        answer.present.retain(|receipt| whole.contains(&receipt.store_path));
    }
    // Thousands of signatures take a while.
    let target = target.clone();
    let checking = tokio::task::spawn_blocking(move || {
        let infos: HashMap<String, &PathInfo> =
            batch.iter().map(|wanted| (target.full(&wanted.info.path), &wanted.info)).collect();
        let check = |receipt: &Receipt| {
            infos.get(&receipt.store_path).map_or(Ok(()), |info| target.check(receipt, info))
        };
        let checked = answer.present.iter().map(check).collect();
        drop(infos);
        (batch, answer, checked)
    });
    checking.await.map_err(|error| PushError::Internal(error.to_string()))
}

/// Paths that the server reads back by one request.
const READ_BACK_PATHS: usize = 64;

/// Those of the paths that the server has of which it could read all.
async fn verified(
    api: &Api,
    asked: &MissingPathsRequest,
    answer: &MissingPathsResponse,
) -> Result<HashSet<String>, ApiError> {
    let present: HashSet<&String> =
        answer.present.iter().map(|receipt| &receipt.store_path).collect();
    let paths: Vec<PathQuery> =
        asked.paths.iter().filter(|query| present.contains(&query.store_path)).cloned().collect();
    let mut whole = HashSet::new();
    for paths in paths.chunks(READ_BACK_PATHS) {
        let request =
            MissingPathsRequest { paths: paths.to_vec(), ..MissingPathsRequest::default() };
        whole.extend(api.verify_paths(&request).await?);
    }
    Ok(whole)
}

impl Plan {
    /// A plan for these paths; `root` says where a path's files are.
    pub(super) fn new(missing: Vec<Wanted>, root: impl Fn(&StorePath) -> PathBuf) -> Self {
        let numbers: HashMap<StorePath, u32> =
            missing.iter().map(|wanted| wanted.info.path.clone()).zip(0..).collect();
        let planned = |(number, Wanted { info, upstream }): (u32, Wanted)| {
            let earlier = |path| numbers.get(path).copied().filter(|reference| *reference < number);
            let references = info.references.iter().filter_map(earlier).collect();
            Planned { root: root(&info.path), info, upstream, references }
        };
        Self { paths: (0..).zip(missing).map(planned).collect() }
    }

    /// Bytes of all NARs together.
    pub(super) fn nar_bytes(&self) -> u64 {
        self.paths.iter().map(|path| path.info.nar_size).sum()
    }

    pub(super) fn to_read(&self, path: u32, hash_beside: bool) -> ToRead {
        let planned = &self.paths[path as usize];
        ToRead {
            path,
            root: planned.root.clone(),
            nar_hash: planned.info.nar_hash,
            nar_size: planned.info.nar_size,
            hash_beside,
        }
    }
}

#[cfg(test)]
mod tests {
    use snowbank_core::cut::CutParams;
    use snowbank_core::receipt::ReceiptStatus;
    use snowbank_core::signing::SecretKey;
    use snowbank_core::wire::Limits;

    use super::*;
    use crate::progress::{Progress, Style};
    use crate::push::LedgerOptions;

    const OPTIONS: PushOptions = PushOptions {
        jobs: 1,
        closure: true,
        upstream_filter: true,
        dry_run: false,
        verify_present: false,
        expires: None,
        pin: None,
    };

    fn key() -> SecretKey {
        SecretKey::from_seed("cache-1", [3; 32]).unwrap()
    }

    fn target() -> Target {
        let cache = CacheInfo {
            name: "main".to_owned(),
            public: true,
            store_dir: "/nix/store".to_owned(),
            public_keys: vec![key().public().to_string()],
            priority: 41,
            upstream_keys: vec!["upstream-1".to_owned()],
            cut: CutParams::DEFAULT,
            compression_level: 3,
            limits: Limits {
                bundle_bytes: 8 << 20,
                bundle_entries: 8192,
                names_per_request: 8192,
                paths_per_request: 256,
                paths_per_query: 4096,
                manifest_bytes: 16 << 20,
                commit_nar_bytes: u64::MAX,
            },
            permissions: Vec::new(),
            retired_keys: Vec::new(),
            url: None,
            server_version: "0".to_owned(),
        };
        Target::new(cache, &StoreDir::default()).unwrap()
    }

    fn ledger() -> Ledger {
        Ledger::open(LedgerOptions::default(), &Arc::new(Progress::new(Style::Silent))).unwrap()
    }

    fn path(number: usize) -> StorePath {
        StorePath::from_base_name(&format!("{}-p{number:06}", "0".repeat(32))).unwrap()
    }

    fn info(number: usize, references: &[usize], signed_by: Option<&str>) -> PathInfo {
        let sign = |name: &str| SecretKey::from_seed(name, [1; 32]).unwrap().sign(b"");
        PathInfo {
            path: path(number),
            nar_hash: NarHash::from_bytes([1; 32]),
            nar_size: 1000,
            references: references.iter().copied().map(path).collect(),
            deriver: None,
            signatures: signed_by.map(sign).into_iter().collect(),
            ultimate: false,
            ca: None,
            registration_time: 0,
        }
    }

    /// 0 is upstream's, 1 and 2 are ours; 2 refers to both and to itself.
    fn closure() -> Vec<PathInfo> {
        vec![
            info(0, &[], Some("upstream-1")),
            info(1, &[0], Some("other-1")),
            info(2, &[0, 1, 2], None),
        ]
    }

    fn chosen(options: &PushOptions) -> (Vec<Wanted>, u64) {
        let mut ledger = ledger();
        let wanted = choose(closure(), &[path(2)], options, &target(), &mut ledger).unwrap();
        (wanted, ledger.summary().skipped)
    }

    fn paths(wanted: &[Wanted]) -> Vec<StorePath> {
        wanted.iter().map(|wanted| wanted.info.path.clone()).collect()
    }

    #[test]
    fn what_upstream_signed_is_left_out_and_named_where_it_is_referred_to() {
        let (wanted, skipped) = chosen(&OPTIONS);
        assert_eq!((paths(&wanted), skipped), (vec![path(1), path(2)], 1));
        assert!(wanted.iter().all(|wanted| wanted.upstream == [path(0).base_name()]));
    }

    #[test]
    fn without_the_filter_nothing_is_upstreams() {
        let (wanted, skipped) = chosen(&PushOptions { upstream_filter: false, ..OPTIONS });
        assert_eq!((wanted.len(), skipped), (3, 0));
        assert!(wanted.iter().all(|wanted| wanted.upstream.is_empty()));
    }

    #[test]
    fn without_the_closure_only_the_roots_are_wanted() {
        let (wanted, skipped) = chosen(&PushOptions { closure: false, ..OPTIONS });
        assert_eq!((paths(&wanted), skipped), (vec![path(2)], 0));
        assert_eq!(wanted[0].upstream, [path(0).base_name()]);
    }

    #[test]
    fn what_refers_to_a_path_that_is_gone_is_not_pushed_and_the_rest_is() {
        let infos = vec![info(1, &[0], None), info(2, &[1], None), info(3, &[], None)];
        let known = |options: &PushOptions| {
            let closure = Closure { infos: infos.clone(), absent: vec![path(0)] };
            let mut ledger = ledger();
            let known = known(closure, options, &target(), &mut ledger).unwrap();
            let known: Vec<StorePath> = known.into_iter().map(|info| info.path).collect();
            (known, ledger.summary().failed, ledger.exit())
        };
        assert_eq!(known(&OPTIONS), (vec![path(3)], 3, Exit::Store));
        let alone = PushOptions { closure: false, ..OPTIONS };
        assert_eq!(known(&alone), (vec![path(1), path(2), path(3)], 1, Exit::Store));
    }

    #[test]
    fn a_plan_has_the_references_among_what_is_pushed() {
        let (wanted, _) = chosen(&OPTIONS);
        let plan = Plan::new(wanted, |path| path.base_name().into());
        let references: Vec<&[u32]> =
            plan.paths.iter().map(|path| path.references.as_slice()).collect();
        assert_eq!(references, [&[][..], &[0]], "neither upstream's nor itself");
        assert_eq!(plan.nar_bytes(), 2000);
    }

    #[test]
    fn questions_keep_both_limits_and_the_order() {
        let wanted: Vec<Wanted> = (0..10_000)
            .map(|number| Wanted { info: info(number, &[], None), upstream: Vec::new() })
            .collect();
        let expected = paths(&wanted);
        let batches = questions(wanted.clone(), 4096, &target());
        let query = |wanted: &Wanted| PathQuery {
            store_path: target().full(&wanted.info.path),
            nar_hash: wanted.info.nar_hash,
        };
        for batch in &batches {
            let request = MissingPathsRequest {
                paths: batch.iter().map(query).collect(),
                ..MissingPathsRequest::default()
            };
            let bytes = serde_json::to_vec(&request).unwrap().len();
            assert!(
                bytes <= QUESTION_BYTES && batch.len() <= 4096,
                "{bytes} bytes, {} paths",
                batch.len()
            );
        }
        assert!(batches.len() < 6);
        assert_eq!(paths(&batches.concat()), expected);
        assert_eq!(questions(wanted, 100, &target()).len(), 100);
    }

    #[test]
    fn receipts_are_checked_against_path_cache_and_keys() {
        let (target, info) = (target(), info(1, &[], None));
        let receipt = |change: &dyn Fn(&mut Receipt), key: &SecretKey| {
            let mut receipt = Receipt {
                status: ReceiptStatus::Present,
                store_path: target.full(&info.path),
                nar_hash: info.nar_hash,
                nar_size: info.nar_size,
                cache: "main".to_owned(),
                time: 1,
                signatures: Vec::new(),
                stats: None,
            };
            change(&mut receipt);
            receipt.sign(key);
            target.check(&receipt, &info)
        };
        assert_eq!(receipt(&|_| {}, &key()), Ok(()));
        assert!(receipt(&|receipt| receipt.cache = "other".to_owned(), &key()).is_err());
        assert!(receipt(&|receipt| receipt.store_path.push('x'), &key()).is_err());
        assert!(receipt(&|receipt| receipt.nar_size += 1, &key()).is_err());
        assert!(
            receipt(&|receipt| receipt.nar_hash = NarHash::from_bytes([2; 32]), &key()).is_err()
        );
        assert!(receipt(&|_| {}, &SecretKey::from_seed("cache-1", [4; 32]).unwrap()).is_err());
    }

    #[test]
    fn a_cache_for_another_store_is_refused() {
        let error = Target::new(target().cache, &StoreDir::new("/gnu/store").unwrap()).unwrap_err();
        assert!(
            error.to_string().contains("/gnu/store") && error.to_string().contains("/nix/store"),
            "{error}"
        );
        assert_eq!(error.exit(), Exit::Refused);
    }
}
