//! What is pushed and fetched: each part is made when a figure first asks for it, the same on every
//! run on one machine.
//!
//! (a) and (b) lie in one Nix store, (c) and (d) in one each. The first releases of (b) are the
//! beginning of (a).

use std::{cell::OnceCell, fmt::Write as _};

use anyhow::{Context as _, Result};
use snowbank_harness::{NixStore, Random, craft::Node, trees};

use super::scale::Scale;
use crate::{
    big_path,
    plant::Streams,
    releases::{self, Pair},
};

/// Sizes of the trees of (a).
const TREES: (u64, u64) = (1_000_000, 300_000_000);
/// Bytes of the files of (c).
const TINY: (u64, u64) = (1_000, 20_000);

/// Store paths, all of one store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paths {
    /// The paths, full.
    pub(crate) paths: Vec<String>,
    /// Bytes of each one's NAR.
    pub(crate) sizes: Vec<u64>,
}

impl Paths {
    fn of(store: &NixStore, paths: Vec<String>) -> Self {
        let sizes = store.sizes(&paths);
        Self { paths, sizes }
    }

    /// Bytes of all NARs.
    pub(crate) fn nar_bytes(&self) -> u64 {
        self.sizes.iter().sum()
    }

    /// Their beginning, of at least `bytes` of NAR.
    pub(crate) fn beginning(&self, bytes: u64) -> Self {
        let mut sum = 0;
        let more = |size: &&u64| {
            let more = sum < bytes;
            sum += **size;
            more
        };
        let sizes: Vec<u64> = self.sizes.iter().take_while(more).copied().collect();
        Self { paths: self.paths[..sizes.len()].to_vec(), sizes }
    }
}

/// The releases that follow the first ones.
#[derive(Debug)]
pub(crate) struct Later {
    /// The next version of each.
    pub(crate) next: Paths,
    /// The next version, rebuilt with other dependencies.
    pub(crate) rebuild: Paths,
}

/// All parts.
#[derive(Debug)]
pub(crate) struct Corpus {
    scale: Scale,
    store: OnceCell<NixStore>,
    pairs: OnceCell<Vec<Pair>>,
    first: OnceCell<Paths>,
    later: OnceCell<Later>,
    trees: OnceCell<Paths>,
    tiny: OnceCell<(NixStore, Paths)>,
    large: OnceCell<(NixStore, Paths)>,
}

/// What `cell` holds, made when it is empty.
pub(crate) fn made<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = make()?;
    Ok(cell.get_or_init(|| value))
}

impl Corpus {
    /// A corpus of that scale; nothing is made yet.
    pub(crate) fn new(scale: &Scale) -> Self {
        Self {
            scale: scale.clone(),
            store: OnceCell::new(),
            pairs: OnceCell::new(),
            first: OnceCell::new(),
            later: OnceCell::new(),
            trees: OnceCell::new(),
            tiny: OnceCell::new(),
            large: OnceCell::new(),
        }
    }

    /// The store of (a) and (b).
    pub(crate) fn store(&self) -> &NixStore {
        self.store.get_or_init(NixStore::new)
    }

    fn pairs(&self) -> Result<&Vec<Pair>> {
        made(&self.pairs, || {
            let mut pairs = releases::load(&releases::default_folder()?)?;
            if let Some(names) = self.scale.pairs {
                pairs.retain(|pair| names.contains(&pair.name.as_str()));
            }
            Ok(pairs)
        })
    }

    /// (b): the first releases.
    pub(crate) fn first(&self) -> Result<&Paths> {
        made(&self.first, || {
            eprintln!("making (b): first releases");
            let add = |pair: &Pair| {
                Ok(self.store().add_nar(&pair.old.store_name, &Streams::make(pair)?.first))
            };
            let paths = self.pairs()?.iter().map(add).collect::<Result<Vec<String>>>()?;
            Ok(Paths::of(self.store(), paths))
        })
    }

    /// (b): the next releases, and their rebuilds.
    pub(crate) fn later(&self) -> Result<&Later> {
        made(&self.later, || {
            eprintln!("making (b): next releases and rebuilds");
            let (mut next, mut rebuild) = (Vec::new(), Vec::new());
            for pair in self.pairs()? {
                let streams = Streams::make(pair)?;
                next.push(self.store().add_nar(&pair.new.store_name, &streams.next));
                rebuild.push(self.store().add_nar(&pair.new.store_name, &streams.rebuild));
            }
            Ok(Later {
                next: Paths::of(self.store(), next),
                rebuild: Paths::of(self.store(), rebuild),
            })
        })
    }

    /// (a): real trees of 1 to 300 MB. The first releases of (b), and then trees of this machine
    /// until there is enough.
    pub(crate) fn trees(&self) -> Result<&Paths> {
        made(&self.trees, || {
            let mut all = self.first()?.clone();
            eprintln!("making (a): trees of this machine");
            for tree in trees::of_this_machine(usize::MAX, TREES.0, TREES.1) {
                if all.nar_bytes() >= self.scale.tree_bytes {
                    break;
                }
                let name = tree.to_string_lossy().trim_matches('/').replace('/', "-");
                let added =
                    Paths::of(self.store(), vec![trees::add_copy(self.store(), &tree, &name)]);
                all.paths.extend(added.paths);
                all.sizes.extend(added.sizes);
            }
            Ok(all)
        })
    }

    /// (c): thousands of tiny paths that refer to one another, and their store.
    pub(crate) fn tiny(&self) -> Result<(&NixStore, &Paths)> {
        let (store, paths) = made(&self.tiny, || {
            eprintln!("making (c): {} tiny paths", self.scale.tiny_paths);
            let (store, mut random) = (NixStore::new(), Random::fixed(4));
            let (paths, export) = tiny(&mut random, self.scale.tiny_paths);
            store.import(&export);
            let paths = Paths::of(&store, paths);
            Ok((store, paths))
        })?;
        Ok((store, paths))
    }

    /// (d): one path of several GiB, and its store.
    pub(crate) fn large(&self) -> Result<(&NixStore, &Paths)> {
        let (store, paths) = made(&self.large, || {
            eprintln!("making (d): one path of {} MiB", self.scale.large_mebibytes);
            let store = NixStore::new();
            let path =
                big_path::add(&store, self.scale.large_mebibytes).context("cannot make (d)")?;
            let paths = Paths::of(&store, vec![path]);
            Ok((store, paths))
        })?;
        Ok((store, paths))
    }
}

/// Tiny paths: names, and all of them in the format of `nix-store --export`, references before
/// referrers.
fn tiny(random: &mut Random, count: usize) -> (Vec<String>, Vec<u8>) {
    let (mut paths, mut export): (Vec<String>, Vec<u8>) = (Vec::new(), Vec::new());
    for number in 0..count {
        let path = format!("/nix/store/{}-tiny-{number}", random.hash_chars());
        let mut references: Vec<String> = [number / 2, number / 3]
            .into_iter()
            .filter(|&other| other < number)
            .map(|other| paths[other].clone())
            .collect();
        references.sort();
        references.dedup();
        append(
            &mut export,
            &path,
            &tiny_node(random, number, &path, &references).nar(),
            &references,
        );
        paths.push(path);
    }
    export.extend_from_slice(&0_u64.to_le_bytes());
    (paths, export)
}

/// A script alone, or a folder of a script, a text and data that does not compress.
fn tiny_node(random: &mut Random, number: usize, path: &str, references: &[String]) -> Node {
    let size = usize::try_from(TINY.0 + random.below(TINY.1 - TINY.0)).unwrap_or(0);
    let mut script = "#!/bin/sh\n".to_owned();
    for reference in references {
        // Writing to a String cannot fail.
        let _ = writeln!(script, "PATH={reference}/bin:$PATH");
    }
    let _ = writeln!(script, "exec {path}/bin/tiny-{number}");
    let mut script = script.into_bytes();
    if number.is_multiple_of(3) {
        script.extend(random.text(size));
        return Node::Executable(script);
    }
    let entry = |name: &str, node| (name.as_bytes().to_vec(), node);
    Node::Folder(vec![
        entry(
            "bin",
            Node::Folder(vec![entry(&format!("tiny-{number}"), Node::Executable(script))]),
        ),
        entry("data", Node::File(random.bytes(size / 4))),
        entry("text", Node::File(random.text(size - size / 4))),
    ])
}

/// One path as `nix-store --import` reads it (`Store::exportPath` in Nix's `export-import.cc`).
fn append(export: &mut Vec<u8>, path: &str, nar: &[u8], references: &[String]) {
    const MAGIC: u64 = 0x4558_494e;
    let number = |export: &mut Vec<u8>, value: u64| export.extend_from_slice(&value.to_le_bytes());
    let string = |export: &mut Vec<u8>, text: &str| {
        export.extend_from_slice(&(text.len() as u64).to_le_bytes());
        export.extend_from_slice(text.as_bytes());
        export.resize(export.len().next_multiple_of(8), 0);
    };
    number(export, 1);
    export.extend_from_slice(nar);
    number(export, MAGIC);
    string(export, path);
    number(export, references.len() as u64);
    for reference in references {
        string(export, reference);
    }
    // No deriver, no signature.
    string(export, "");
    number(export, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_long_enough() {
        let paths =
            Paths { paths: ["a", "b", "c"].map(str::to_owned).to_vec(), sizes: vec![5, 5, 5] };
        assert_eq!(paths.beginning(6).paths, ["a", "b"]);
        assert_eq!(paths.beginning(100).nar_bytes(), 15);
    }
}
