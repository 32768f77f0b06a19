//! The plan of a push: the paths to push in their order, decided before anything is read.
//!
//! Invariant: a reference comes before all paths that refer to it. The choice of the paths is left
//! to `selection` and `missing`.

use std::collections::HashMap;
use std::path::PathBuf;

use snowbank_core::bundle::DEFAULT_BUNDLE_BYTES;
use snowbank_core::store_path::StorePath;

use super::selection::SelectedPath;
use crate::store::PathInfo;

/// A path to push.
#[derive(Debug)]
pub(super) struct PlannedPath {
    pub(super) info: PathInfo,
    /// Base names of those of its references that upstream has.
    pub(super) upstream: Vec<String>,
    /// The place of its files.
    pub(super) root: PathBuf,
    /// The numbers of those of its references that are pushed too; they come before it.
    pub(super) references: Vec<u32>,
}

/// All paths to push, references first. A path's number is its place.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) paths: Vec<PlannedPath>,
}

impl PlannedPath {
    /// Whether its NAR fills bundles of its own.
    pub(super) const fn is_large(&self) -> bool {
        self.info.nar_size >= DEFAULT_BUNDLE_BYTES as u64
    }
}

impl Plan {
    /// A plan for these paths; `root` gives the place of a path's files.
    pub(super) fn new(missing: Vec<SelectedPath>, root: impl Fn(&StorePath) -> PathBuf) -> Self {
        let numbers: HashMap<StorePath, u32> =
            missing.iter().map(|path| path.info.path.clone()).zip(0..).collect();
        let planned = |(number, SelectedPath { info, upstream }): (u32, SelectedPath)| {
            let earlier = |path| numbers.get(path).copied().filter(|reference| *reference < number);
            let references = info.references.iter().filter_map(earlier).collect();
            PlannedPath { root: root(&info.path), info, upstream, references }
        };
        Self { paths: (0..).zip(missing).map(planned).collect() }
    }

    /// Bytes of all NARs together.
    pub(super) fn nar_bytes(&self) -> u64 {
        self.paths.iter().map(|path| path.info.nar_size).sum()
    }
}

/// The reason why a path is not pushed: one of its references is not.
pub(super) fn reference_not_pushed(reference: &str) -> String {
    format!("not pushed: it refers to {reference}, which was not pushed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::test_support::{path, path_info};

    #[test]
    fn a_plan_has_the_references_among_what_is_pushed() {
        let select = |info| SelectedPath { info, upstream: vec![path(0).base_name()] };
        let infos = [path_info(path(1), &[0]), path_info(path(2), &[0, 1, 2])];
        let plan = Plan::new(infos.map(select).into(), |path| path.base_name().into());
        let references: Vec<&[u32]> =
            plan.paths.iter().map(|path| path.references.as_slice()).collect();
        assert_eq!(references, [&[][..], &[0]], "neither upstream's nor itself");
        assert_eq!(plan.nar_bytes(), 2000);
    }
}
