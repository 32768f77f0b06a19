//! The comparison of a fetched closure: what Nix has registered for each path, with the cache's
//! narinfo and with the receipts, and what is on the disk with what is registered.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::thread::available_parallelism;

use futures_util::{StreamExt as _, stream};
use snowbank_core::hash::{NarHash, Sha256Hasher};
use snowbank_core::receipt::{Receipt, ReceiptLine};

use super::super::receipts::{NotSigned, ReceiptFile, ReceiptKeys};
use super::source::Plan;
use crate::exit::{Exit, Failure};
use crate::store::dump::{DumpError, dump_nar};
use crate::store::{PathInfo, Store};

/// A NAR, by its hash and its size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nar(NarHash, u64);

impl fmt::Display for Nar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.0, self.1)
    }
}

impl Nar {
    const fn of(info: &PathInfo) -> Self {
        Self(info.nar_hash, info.nar_size)
    }
}

/// The result for one path.
#[derive(Debug)]
pub(super) enum Verdict {
    /// There is no receipts file.
    NotCompared,
    /// Its receipt holds.
    Holds {
        /// The name of the key that signed it.
        key: String,
    },
    /// A line that is no receipt has its hash: the push left it to an upstream, say.
    SameHash,
    /// The file has no line for it, which is allowed.
    NoLineAllowed,
    /// The file has no line for it.
    NoLine,
    /// The push did not get it into the cache.
    NotPushed { reason: String },
    /// The receipt is signed by no key that counts.
    NotSigned(NotSigned),
    /// The receipt has another NAR.
    Different { receipt: Nar, here: Nar },
    /// A line that is no receipt has another hash.
    DifferentHash { line: NarHash, here: NarHash },
    /// The cache's narinfo has another NAR, or other references.
    DifferentInfo { cache: Nar, here: Nar },
    /// The disk has other contents than Nix has registered.
    Damaged { disk: Nar, here: Nar },
    /// The disk cannot be read.
    Unreadable(DumpError),
}

impl Verdict {
    /// The exit code of this result.
    pub(super) const fn exit(&self) -> Exit {
        match self {
            Self::NotCompared | Self::Holds { .. } | Self::SameHash | Self::NoLineAllowed => {
                Exit::Success
            }
            Self::Damaged { .. } | Self::Unreadable(_) => Exit::Damaged,
            Self::NoLine
            | Self::NotPushed { .. }
            | Self::NotSigned(_)
            | Self::Different { .. }
            | Self::DifferentHash { .. }
            | Self::DifferentInfo { .. } => Exit::Receipt,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCompared => f.write_str("not compared"),
            Self::Holds { key } => write!(f, "its receipt holds, signed by {key}"),
            Self::SameHash => f.write_str("has the NAR hash of its line, which is no receipt"),
            Self::NoLineAllowed | Self::NoLine => f.write_str("the file has no receipt for it"),
            Self::NotPushed { reason } => {
                write!(f, "the file has no receipt for it, since its push failed: {reason}")
            }
            Self::NotSigned(reason) => reason.fmt(f),
            Self::Different { receipt, here } => {
                write!(f, "its receipt says {receipt}, and this store has {here}")
            }
            Self::DifferentHash { line, here } => {
                write!(f, "its push had {line}, and this store has {here}")
            }
            Self::DifferentInfo { cache, here } if cache == here => {
                f.write_str("this store has other references for it than the cache")
            }
            Self::DifferentInfo { cache, here } => {
                write!(f, "the cache says {cache}, and this store has {here}")
            }
            Self::Damaged { disk, here } => write!(
                f,
                "Nix has registered {here}, and the disk has {disk}; `nix-store --repair-path` \
                 fetches it again"
            ),
            Self::Unreadable(error) => error.fmt(f),
        }
    }
}

/// The lines of a receipts file, by their paths.
pub(super) struct Receipts<'a> {
    lines: HashMap<&'a str, Vec<&'a ReceiptLine>>,
    keys: &'a ReceiptKeys,
    allows_absence: bool,
}

impl<'a> Receipts<'a> {
    pub(super) fn new(file: &'a ReceiptFile, keys: &'a ReceiptKeys, allows_absence: bool) -> Self {
        let mut lines: HashMap<&str, Vec<&ReceiptLine>> = HashMap::new();
        for line in &file.lines {
            lines.entry(line.store_path()).or_default().push(line);
        }
        Self { lines, keys, allows_absence }
    }

    /// Compares what this store has with every line of the path. A path has several where a push
    /// lost it on the way, or where a file has the lines of several pushes. A failure to push it
    /// does not count beside a receipt.
    fn compare(&self, full: &str, here: Nar) -> Verdict {
        let lines = self.lines.get(full).map(Vec::as_slice).unwrap_or_default();
        let mut best = if self.allows_absence { Verdict::NoLineAllowed } else { Verdict::NoLine };
        for line in lines {
            let verdict = match line {
                ReceiptLine::Receipt(receipt) => self.compare_receipt(receipt, here),
                ReceiptLine::Different { nar_hash, .. }
                | ReceiptLine::SkippedUpstream { nar_hash, .. }
                | ReceiptLine::LeftOut { nar_hash, .. } => compare_hash(*nar_hash, here.0),
                ReceiptLine::Failed { reason, .. } => Verdict::NotPushed { reason: reason.clone() },
            };
            best = match (verdict, best) {
                (failed @ Verdict::NotPushed { .. }, Verdict::NoLine | Verdict::NoLineAllowed) => {
                    failed
                }
                (Verdict::NotPushed { .. }, best) => best,
                (verdict, _) if verdict.exit() != Exit::Success => return verdict,
                (Verdict::SameHash, best @ Verdict::Holds { .. }) => best,
                (verdict, _) => verdict,
            };
        }
        best
    }

    fn compare_receipt(&self, receipt: &Receipt, here: Nar) -> Verdict {
        let said = Nar(receipt.nar_hash, receipt.nar_size);
        match self.keys.signer(receipt) {
            // Both hashes say more than a signature that does not fit.
            _ if said != here => Verdict::Different { receipt: said, here },
            Ok(key) => Verdict::Holds { key },
            Err(reason) => Verdict::NotSigned(reason),
        }
    }
}

fn compare_hash(line: NarHash, here: NarHash) -> Verdict {
    if line == here { Verdict::SameHash } else { Verdict::DifferentHash { line, here } }
}

/// What a closure is compared with.
pub(super) struct Comparison<'a> {
    pub(super) store: &'a Store,
    /// What the cache said of the paths that were fetched.
    pub(super) plan: &'a Plan,
    pub(super) receipts: Option<Receipts<'a>>,
    /// Whether every path is read from the disk.
    pub(super) reads_contents: bool,
}

impl Comparison<'_> {
    /// Compares each path. Gives the results in the order of `infos`.
    pub(super) async fn compare(&self, infos: &[PathInfo]) -> Result<Vec<Verdict>, Failure> {
        let parallel = available_parallelism().map_or(1, usize::from);
        let contents = stream::iter(infos).map(|info| self.compare_contents(info));
        let contents: Vec<Option<Verdict>> = contents.buffered(parallel).collect().await;
        Ok(infos
            .iter()
            .zip(contents)
            .map(|(info, contents)| contents.unwrap_or_else(|| self.compare_info(info)))
            .collect())
    }

    fn compare_info(&self, info: &PathInfo) -> Verdict {
        let here = Nar::of(info);
        let verdict = self.receipts.as_ref().map_or(Verdict::NotCompared, |receipts| {
            receipts.compare(&info.path.full(self.store.store_dir()), here)
        });
        let Some(narinfo) = self.plan.paths.get(&info.path) else { return verdict };
        let mut references = narinfo.references.clone();
        references.sort_unstable();
        let cache = Nar(narinfo.nar_hash, narinfo.nar_size);
        if verdict.exit() == Exit::Success && (cache, &references) != (here, &info.references) {
            return Verdict::DifferentInfo { cache, here };
        }
        verdict
    }

    /// What is wrong with the contents on the disk.
    async fn compare_contents(&self, info: &PathInfo) -> Option<Verdict> {
        if !self.reads_contents {
            return None;
        }
        let (path, here) = (self.store.real_path(&info.path), Nar::of(info));
        match tokio::task::spawn_blocking(move || nar_on_disk(&path)).await {
            Ok(Ok(disk)) => (disk != here).then_some(Verdict::Damaged { disk, here }),
            Ok(Err(error)) => Some(Verdict::Unreadable(error)),
            // The runtime ends, or the thread panicked, which is shown already.
            Err(error) => Some(Verdict::Unreadable(DumpError::Stopped(error.into()))),
        }
    }
}

fn nar_on_disk(path: &Path) -> Result<Nar, DumpError> {
    let (mut hasher, mut size) = (Sha256Hasher::new(), 0);
    dump_nar(path, &mut |piece| {
        hasher.update(piece);
        size += piece.len() as u64;
        Ok(())
    })?;
    Ok(Nar(NarHash::from(hasher.finish()), size))
}

#[cfg(test)]
mod tests {
    use snowbank_core::receipt::{ReceiptStatus, UpstreamReason};
    use snowbank_core::signing::SecretKey;

    use super::*;

    const PATH: &str = "/nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-hello";
    const HERE: Nar = Nar(NarHash::from_bytes([1; 32]), 5);

    fn key(name: &str) -> SecretKey {
        SecretKey::from_seed(name, [1; 32]).unwrap()
    }

    fn receipt(change: impl FnOnce(&mut Receipt), signer: &SecretKey) -> ReceiptLine {
        let mut receipt = Receipt {
            status: ReceiptStatus::Uploaded,
            store_path: PATH.to_owned(),
            nar_hash: HERE.0,
            nar_size: HERE.1,
            cache: "main".to_owned(),
            time: 1,
            signatures: vec![],
            stats: None,
        };
        change(&mut receipt);
        receipt.sign(signer);
        ReceiptLine::Receipt(receipt)
    }

    fn skipped(hash: [u8; 32]) -> ReceiptLine {
        ReceiptLine::SkippedUpstream {
            store_path: PATH.to_owned(),
            nar_hash: NarHash::from_bytes(hash),
            reason: UpstreamReason::SignedBy("k".to_owned()),
        }
    }

    fn failed() -> ReceiptLine {
        ReceiptLine::Failed { store_path: PATH.to_owned(), reason: "full".to_owned() }
    }

    fn verdict(lines: Vec<ReceiptLine>, allows_absence: bool) -> Verdict {
        let keys = ReceiptKeys::of_keys(vec![key("k-1").public()]);
        let file = ReceiptFile { lines, broken: Vec::new() };
        Receipts::new(&file, &keys, allows_absence).compare(PATH, HERE)
    }

    #[test]
    fn every_line_of_a_path_has_to_agree_with_the_store() {
        let good = || receipt(|_| {}, &key("k-1"));
        let other_hash =
            receipt(|receipt| receipt.nar_hash = NarHash::from_bytes([2; 32]), &key("k-1"));
        let other_size = receipt(|receipt| receipt.nar_size = 6, &key("k-1"));
        let stranger = SecretKey::from_seed("k-1", [2; 32]).unwrap();
        assert!(matches!(verdict(vec![good()], false), Verdict::Holds { key } if key == "k-1"));
        assert!(matches!(verdict(vec![failed(), good()], false), Verdict::Holds { .. }));
        assert!(matches!(verdict(vec![good(), failed()], false), Verdict::Holds { .. }));
        assert!(matches!(verdict(vec![good(), skipped([1; 32])], false), Verdict::Holds { .. }));
        assert!(matches!(verdict(vec![skipped([1; 32])], false), Verdict::SameHash));
        for lines in [vec![good(), other_hash.clone()], vec![other_hash], vec![other_size]] {
            assert!(matches!(verdict(lines, true), Verdict::Different { .. }));
        }
        let forged = receipt(|_| {}, &stranger);
        assert!(matches!(verdict(vec![forged], true), Verdict::NotSigned(_)));
        let skipped = skipped([2; 32]);
        assert!(matches!(verdict(vec![good(), skipped], true), Verdict::DifferentHash { .. }));
    }

    #[test]
    fn a_path_without_a_receipt_is_a_failure_unless_that_is_allowed() {
        assert_eq!(verdict(vec![], false).exit(), Exit::Receipt);
        assert_eq!(verdict(vec![], true).exit(), Exit::Success);
        assert_eq!(verdict(vec![failed()], true).exit(), Exit::Receipt);
    }
}
