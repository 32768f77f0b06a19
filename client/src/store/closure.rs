//! Closures: some paths and all that they refer to, references first. What is in a closure stays
//! until the store is closed.

use std::collections::{HashMap, HashSet};

use snowbank_core::store_path::StorePath;

use super::{PathInfo, Store, StoreError};

/// Paths and everything that they refer to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closure {
    /// Each path once; what a path refers to comes before it.
    pub infos: Vec<PathInfo>,
    /// Paths that were asked for, or are referred to, and that Nix does not know.
    pub absent: Vec<StorePath>,
}

impl Store {
    /// The infos of `paths` and of everything that they refer to, directly or not. All of it is
    /// kept from garbage collections from then on.
    ///
    /// # Errors
    /// The connection broke, or Nix answered with an error.
    pub async fn closure(&self, paths: &[StorePath]) -> Result<Closure, StoreError> {
        let mut infos: HashMap<StorePath, PathInfo> = HashMap::new();
        let mut asked: HashSet<StorePath> = HashSet::new();
        let mut absent = Vec::new();
        // What is not yet known, and who refers to it.
        let mut frontier: Vec<StorePath> =
            paths.iter().filter(|path| asked.insert((*path).clone())).cloned().collect();
        while !frontier.is_empty() {
            self.keep(&frontier).await?;
            let mut next = Vec::new();
            for (path, info) in frontier.iter().zip(self.path_infos(&frontier).await?) {
                let Some(info) = info else {
                    absent.push(path.clone());
                    continue;
                };
                next.extend(
                    info.references.iter().filter(|path| asked.insert((*path).clone())).cloned(),
                );
                infos.insert(path.clone(), info);
            }
            frontier = next;
        }
        Ok(Closure { infos: references_first(paths, infos), absent })
    }
}

/// `infos` in an order in which references come first: from each of `roots` depth-first, references
/// by name.
fn references_first(roots: &[StorePath], mut infos: HashMap<StorePath, PathInfo>) -> Vec<PathInfo> {
    let mut ordered = Vec::with_capacity(infos.len());
    for root in roots {
        // A path taken out of `infos` is on the stack or in order already: that ends
        // self-references, and would end cycles, which Nix does not make. The number says how many
        // of its references have been looked at.
        let mut stack: Vec<(PathInfo, usize)> =
            infos.remove(root).map(|info| (info, 0)).into_iter().collect();
        while let Some((info, looked_at)) = stack.last_mut() {
            if let Some(reference) = info.references.get(*looked_at) {
                *looked_at += 1;
                let reference = infos.remove(reference);
                stack.extend(reference.map(|info| (info, 0)));
            } else {
                ordered.extend(stack.pop().map(|(info, _)| info));
            }
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use snowbank_core::hash::NarHash;

    use super::*;

    fn path(number: usize) -> StorePath {
        StorePath::from_base_name(&format!("{}-p{number:06}", "0".repeat(32))).unwrap()
    }

    fn info(number: usize, references: &[usize]) -> (StorePath, PathInfo) {
        let info = PathInfo {
            path: path(number),
            nar_hash: NarHash::from_bytes([0; 32]),
            nar_size: 0,
            references: references.iter().copied().map(path).collect(),
            deriver: None,
            signatures: Vec::new(),
            ultimate: false,
            ca: None,
            registration_time: 0,
        };
        (path(number), info)
    }

    fn order(roots: &[usize], infos: &[(usize, &[usize])]) -> Vec<StorePath> {
        let roots: Vec<_> = roots.iter().copied().map(path).collect();
        let infos = infos.iter().map(|(number, references)| info(*number, references)).collect();
        references_first(&roots, infos).into_iter().map(|info| info.path).collect()
    }

    #[test]
    fn references_come_first_and_each_path_once() {
        let got = order(&[3, 1], &[(3, &[1, 2, 3]), (2, &[0, 1]), (1, &[0]), (0, &[])]);
        assert_eq!(got, [0, 1, 2, 3].map(path));
    }

    #[test]
    fn a_cycle_ends() {
        assert_eq!(order(&[0], &[(0, &[1]), (1, &[0, 1])]).len(), 2);
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let links: Vec<(usize, Vec<usize>)> =
            (0..100_000).map(|n| (n, if n == 0 { vec![] } else { vec![n - 1] })).collect();
        let infos: Vec<(usize, &[usize])> =
            links.iter().map(|(n, references)| (*n, &references[..])).collect();
        let got = order(&[99_999], &infos);
        assert_eq!((got.len(), &got[0]), (100_000, &path(0)));
    }
}
