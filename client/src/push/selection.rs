//! The selection of the paths that are to be in the cache, before it is asked about any.
//!
//! A closure has paths that Nix no longer knows, paths that upstream signed, and the paths to push.
//! The ledger gets a line for each path that is left out. What the cache has already is left to
//! `missing`.

use std::collections::HashSet;

use snowbank_core::receipt::UpstreamReason;
use snowbank_core::signing::Signature;
use snowbank_core::store_path::StorePath;

use super::plan::reference_not_pushed;
use super::target::Target;
use super::{Ledger, PushError, PushOptions};
use crate::exit::Exit;
use crate::store::{COLLECTED, Closure, PathInfo};

/// A path that is to be in the cache.
#[derive(Debug, Clone)]
pub(super) struct SelectedPath {
    pub(super) info: PathInfo,
    /// Base names of those of its references that upstream has.
    pub(super) upstream: Vec<String>,
}

/// The paths of `closure` that Nix knows. Where the whole closure is to be pushed, paths that refer
/// to an unknown one are left out too. The ledger has the paths that are left out.
pub(super) fn drop_unknown(
    closure: Closure,
    options: &PushOptions,
    target: &Target,
    ledger: &mut Ledger,
) -> Result<Vec<PathInfo>, PushError> {
    for path in &closure.absent {
        ledger.record_failed(target.full(path), format!("not pushed: {COLLECTED}"), Exit::Store)?;
    }
    let mut lost: HashSet<StorePath> = closure.absent.into_iter().collect();
    if lost.is_empty() || !options.closure {
        return Ok(closure.infos);
    }
    let mut valid = Vec::with_capacity(closure.infos.len());
    for info in closure.infos {
        match info.references.iter().find(|path| lost.contains(*path)) {
            None => valid.push(info),
            Some(reference) => {
                let reason = reference_not_pushed(&target.full(reference));
                ledger.record_failed(target.full(&info.path), reason, Exit::Store)?;
                lost.insert(info.path);
            }
        }
    }
    Ok(valid)
}

/// Selects the paths that are to be in the cache: all of the closure `infos` or only `roots`,
/// without the paths that upstream has signed where the options say so.
pub(super) fn select(
    infos: Vec<PathInfo>,
    roots: &[StorePath],
    options: &PushOptions,
    target: &Target,
    ledger: &mut Ledger,
) -> Result<Vec<SelectedPath>, PushError> {
    let keys: HashSet<&str> = target.cache.upstream_keys.iter().map(String::as_str).collect();
    let signed_by_upstream = |info: &PathInfo| {
        let mut names = info.signatures.iter().map(Signature::name);
        names.find(|name| options.upstream_filter && keys.contains(name)).map(str::to_owned)
    };
    let upstream: HashSet<StorePath> = infos
        .iter()
        .filter(|info| signed_by_upstream(info).is_some())
        .map(|info| info.path.clone())
        .collect();
    let roots: HashSet<&StorePath> = roots.iter().collect();
    let mut selected = Vec::new();
    for info in infos {
        if !options.closure && !roots.contains(&info.path) {
            continue;
        }
        if let Some(key) = signed_by_upstream(&info) {
            ledger.record_skipped(
                target.full(&info.path),
                info.nar_hash,
                UpstreamReason::SignedBy(key),
            )?;
        } else {
            let left_out = info.references.iter().filter(|path| upstream.contains(*path));
            let upstream = left_out.map(StorePath::base_name).collect();
            selected.push(SelectedPath { info, upstream });
        }
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use snowbank_core::signing::SecretKey;

    use super::*;
    use crate::push::test_support::{PUSH_OPTIONS, ledger, path, path_info, paths, target};

    fn info(number: usize, references: &[usize], signed_by: Option<&str>) -> PathInfo {
        let sign = |name: &str| SecretKey::from_seed(name, [1; 32]).unwrap().sign(b"");
        let signatures = signed_by.map(sign).into_iter().collect();
        PathInfo { signatures, ..path_info(path(number), references) }
    }

    /// 0 is upstream's, 1 and 2 are ours; 2 refers to both and to itself.
    fn closure() -> Vec<PathInfo> {
        vec![
            info(0, &[], Some("upstream-1")),
            info(1, &[0], Some("other-1")),
            info(2, &[0, 1, 2], None),
        ]
    }

    fn select_two(options: &PushOptions) -> (Vec<SelectedPath>, u64) {
        let mut ledger = ledger();
        let selected = select(closure(), &[path(2)], options, &target(), &mut ledger).unwrap();
        (selected, ledger.summary().skipped)
    }

    #[test]
    fn what_upstream_signed_is_left_out_and_named_where_it_is_referred_to() {
        let (selected, skipped) = select_two(&PUSH_OPTIONS);
        assert_eq!((paths(&selected), skipped), (vec![path(1), path(2)], 1));
        assert!(selected.iter().all(|selected| selected.upstream == [path(0).base_name()]));
    }

    #[test]
    fn without_the_filter_nothing_is_upstreams() {
        let (selected, skipped) =
            select_two(&PushOptions { upstream_filter: false, ..PUSH_OPTIONS });
        assert_eq!((selected.len(), skipped), (3, 0));
        assert!(selected.iter().all(|selected| selected.upstream.is_empty()));
    }

    #[test]
    fn without_the_closure_only_the_roots_are_selected() {
        let (selected, skipped) = select_two(&PushOptions { closure: false, ..PUSH_OPTIONS });
        assert_eq!((paths(&selected), skipped), (vec![path(2)], 0));
        assert_eq!(selected[0].upstream, [path(0).base_name()]);
    }

    #[test]
    fn what_refers_to_a_path_that_is_gone_is_not_pushed_and_the_rest_is() {
        let infos = vec![info(1, &[0], None), info(2, &[1], None), info(3, &[], None)];
        let remaining = |options: &PushOptions| {
            let closure = Closure { infos: infos.clone(), absent: vec![path(0)] };
            let mut ledger = ledger();
            let infos = drop_unknown(closure, options, &target(), &mut ledger).unwrap();
            let paths: Vec<StorePath> = infos.into_iter().map(|info| info.path).collect();
            (paths, ledger.summary().failed, ledger.exit())
        };
        assert_eq!(remaining(&PUSH_OPTIONS), (vec![path(3)], 3, Exit::Store));
        let alone = PushOptions { closure: false, ..PUSH_OPTIONS };
        assert_eq!(remaining(&alone), (vec![path(1), path(2), path(3)], 1, Exit::Store));
    }
}
