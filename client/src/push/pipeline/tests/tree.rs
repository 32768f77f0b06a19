//! A folder of store paths, with infos as Nix would have them.

use std::fs;
use std::path::PathBuf;

use snowbank_core::hash::{NarHash, Sha256};
use snowbank_core::signing::{SecretKey, Signature};
use snowbank_core::store_path::{StoreDir, StorePath};

use crate::store::PathInfo;
use crate::store::dump::dump_nar;

/// Store paths in a folder of their own, each one file.
pub(super) struct Tree {
    folder: tempfile::TempDir,
    random: u64,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), random: 88_172_645_463_325_252 }
    }

    /// The base name that [`Tree::add`] gives.
    pub(super) fn name(name: &str) -> String {
        let hash = Sha256::of(name.as_bytes()).to_nix32();
        format!("{}-{name}", &hash[..32])
    }

    pub(super) fn root(&self, path: &StorePath) -> PathBuf {
        self.folder.path().join(path.base_name())
    }

    /// A path of about `bytes` bytes that do not compress, with its references in between.
    pub(super) fn add(&mut self, name: &str, references: &[&PathInfo], bytes: usize) -> PathInfo {
        let mut contents = Vec::with_capacity(bytes + 300);
        while contents.len() < bytes {
            for reference in references {
                contents.extend_from_slice(full(&reference.path).as_bytes());
            }
            for _ in 0..bytes.saturating_sub(contents.len()).min(40_000).div_ceil(8) {
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                contents.extend_from_slice(&self.random.to_le_bytes());
            }
        }
        let mut info = self.add_bytes(name, &contents);
        info.references = references.iter().map(|reference| reference.path.clone()).collect();
        info
    }

    pub(super) fn add_bytes(&mut self, name: &str, contents: &[u8]) -> PathInfo {
        let path = StorePath::from_base_name(&Self::name(name)).unwrap();
        fs::write(self.root(&path), contents).unwrap();
        let nar = self.nar(&path);
        PathInfo {
            nar_hash: NarHash::from_bytes(*Sha256::of(&nar).as_bytes()),
            nar_size: nar.len() as u64,
            path,
            references: Vec::new(),
            deriver: None,
            signatures: Vec::new(),
            ultimate: true,
            ca: None,
            registration_time: 1,
        }
    }

    /// The path with the hash of every reference to `old` in it replaced by that of `new`.
    pub(super) fn rebuild(&mut self, built: &PathInfo, old: &PathInfo, new: &PathInfo) -> PathInfo {
        let mut contents = fs::read(self.root(&built.path)).unwrap();
        let (from, to) = (old.path.hash().to_chars(), new.path.hash().to_chars());
        for place in 0..contents.len() - from.len() {
            if contents[place..].starts_with(&from) {
                contents[place..place + to.len()].copy_from_slice(&to);
            }
        }
        let mut info = self.add_bytes(&format!("re{}", built.path.name()), &contents);
        info.references = vec![new.path.clone()];
        info
    }

    pub(super) fn nar(&self, path: &StorePath) -> Vec<u8> {
        let mut nar = Vec::new();
        dump_nar(&self.root(path), &mut |piece| {
            nar.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
        nar
    }

    pub(super) fn damage(&self, info: &PathInfo) {
        let root = self.root(&info.path);
        let mut contents = fs::read(&root).unwrap();
        let middle = contents.len() / 2;
        contents[middle] ^= 1;
        fs::write(root, contents).unwrap();
    }

    pub(super) fn lose(&self, info: &PathInfo) {
        fs::remove_file(self.root(&info.path)).unwrap();
    }
}

/// The path in full.
pub(super) fn full(path: &StorePath) -> String {
    path.full(&StoreDir::default())
}

/// Somebody's signature of something.
pub(super) fn signature(key: &str) -> Signature {
    SecretKey::from_seed(key, [1; 32]).unwrap().sign(b"something")
}
