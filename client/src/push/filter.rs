//! Leaving out paths by name and size.
//!
//! The cache takes a path only with all its references. So a filter leaves out the paths that it
//! matches, and all that refer to one of these, directly or not. It is asked only about paths that
//! neither the cache nor an upstream has: a path that one of them has can be referred to.

use std::collections::HashSet;

use snowbank_core::store_path::StorePath;

use super::plan::SelectedPath;
use super::target::Target;
use super::{Ledger, PushError};
use crate::config::PathFilter;

/// The paths of `missing`, references first, that `filter` does not leave out. The ledger has the
/// others.
pub(super) fn leave_out(
    filter: &PathFilter,
    missing: Vec<SelectedPath>,
    target: &Target,
    ledger: &mut Ledger,
) -> Result<Vec<SelectedPath>, PushError> {
    let mut left_out: HashSet<StorePath> = HashSet::new();
    let mut left = Vec::with_capacity(missing.len());
    for path in missing {
        let info = &path.info;
        let reason = filter.reason(&info.path, info.nar_size).or_else(|| {
            let reference = info.references.iter().find(|path| left_out.contains(*path))?;
            Some(format!("it refers to {}, which is left out", target.full(reference)))
        });
        match reason {
            None => left.push(path),
            Some(reason) => {
                ledger.record_left_out(target.full(&info.path), info.nar_hash, reason)?;
                left_out.insert(path.info.path);
            }
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NamePattern;
    use crate::push::test_support::{ledger, path, path_info, paths, target};

    #[test]
    fn all_that_refers_to_a_path_that_is_left_out_is_left_out() {
        let pattern = NamePattern::new("^p000001$", "--exclude").unwrap();
        let filter = PathFilter { exclude: vec![pattern], ..PathFilter::NONE };
        let infos: [&[usize]; 5] = [&[], &[0], &[1, 2], &[2], &[0]];
        let missing: Vec<SelectedPath> = (0..)
            .zip(infos)
            .map(|(number, references)| SelectedPath {
                info: path_info(path(number), references),
                upstream: Vec::new(),
            })
            .collect();
        let mut ledger = ledger();
        ledger.follow([target().full(&path(3))]);
        let left = leave_out(&filter, missing, &target(), &mut ledger).unwrap();
        assert_eq!((paths(&left), ledger.summary().left_out), (vec![path(0), path(4)], 3));
        let outcome = format!("{:?}", ledger.outcome(&target().full(&path(3))));
        assert!(outcome.contains("LeftOut") && outcome.contains("-p000002, which"), "{outcome}");
    }
}
