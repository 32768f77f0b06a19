//! NAR streams of the corpus with store paths in them, as Nix's builders leave them.
//!
//! What comes from a registry names no store path, so each file is rewritten on its way into the
//! stream: shebangs, absolute paths in text, baked-in paths and RUNPATHs in ELF files (`.pyc` files
//! have theirs from the compiler). A path that the tree itself holds becomes one of the release's
//! own store path, any other one of a dependency's. [`rehash`] then gives every hash its value for
//! one build. All of it is a function of the tree and the build alone.

use std::{
    collections::HashMap, fs, os::unix::ffi::OsStrExt, os::unix::fs::PermissionsExt, path::Path,
};

use anyhow::{Context, Result};
use memchr::memmem;
use snowbank_core::{nar::encode, store_path::StorePathHash};

use crate::releases::{Pair, Release};

/// The hash of a tree's own store path, until [`rehash`].
pub const OWN: &[u8; 32] = b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
const STORE: &str = "/nix/store/";
const PAGE: usize = 4096;

/// Which build of a release a stream is of.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// Distinguishes the release's own hash.
    pub own: &'static str,
    /// Distinguishes its dependencies' hashes.
    pub dependencies: &'static str,
}

/// The streams of one pair.
pub struct Streams {
    /// The old release.
    pub first: Vec<u8>,
    /// The new one, with the old one's dependencies.
    pub next: Vec<u8>,
    /// The new one, rebuilt with other dependencies.
    pub rebuild: Vec<u8>,
}

impl Streams {
    /// Makes them.
    pub fn make(pair: &Pair) -> Result<Self> {
        let build = |own, dependencies| Build { own, dependencies };
        let mut first = nar(&pair.old)?;
        rehash(&mut first, build("first", "these"));
        let mut next = nar(&pair.new)?;
        let mut rebuild = next.clone();
        rehash(&mut next, build("next", "these"));
        rehash(&mut rebuild, build("rebuild", "others"));
        Ok(Self { first, next, rebuild })
    }

    /// Bytes of the old release's NAR and of the new one's.
    pub fn nar_bytes(&self) -> [u64; 2] {
        [self.first.len() as u64, self.next.len() as u64]
    }
}

/// The store path of a tree of that name, with [`OWN`] as its hash.
pub fn own_path(store_name: &str) -> String {
    format!("{STORE}{}-{store_name}", String::from_utf8_lossy(OWN))
}

fn dependency_path(name: &str) -> String {
    let digest = blake3::hash(name.as_bytes());
    format!("{STORE}{}-{name}-1.0", hash_chars(&digest))
}

fn hash_chars(digest: &blake3::Hash) -> String {
    let bytes = std::array::from_fn(|at| digest.as_bytes()[at]);
    String::from_utf8_lossy(&StorePathHash::from_bytes(bytes).to_chars()).into_owned()
}

/// The release's NAR, with planted paths whose hashes await [`rehash`].
pub fn nar(release: &Release) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    encode::magic(&mut out);
    node(release, &release.root, &mut out)?;
    Ok(out)
}

fn node(release: &Release, path: &Path, out: &mut Vec<u8>) -> Result<()> {
    let unread = || format!("cannot read {}", path.display());
    let metadata = fs::symlink_metadata(path).with_context(unread)?;
    if metadata.is_symlink() {
        encode::symlink(out, fs::read_link(path).with_context(unread)?.as_os_str().as_bytes());
    } else if metadata.is_dir() {
        encode::directory_start(out);
        let entries: Result<Vec<_>, _> = fs::read_dir(path).with_context(unread)?.collect();
        let mut entries = entries.with_context(unread)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            encode::entry_start(out, entry.file_name().as_bytes());
            node(release, &entry.path(), out)?;
            encode::entry_end(out);
        }
        encode::directory_end(out);
    } else {
        let contents = planted(release, fs::read(path).with_context(unread)?);
        let size = contents.len() as u64;
        encode::regular_start(out, metadata.permissions().mode() & 0o100 != 0, size);
        out.extend_from_slice(&contents);
        encode::regular_end(out, size);
    }
    Ok(())
}

fn planted(release: &Release, bytes: Vec<u8>) -> Vec<u8> {
    if bytes.starts_with(b"\x7fELF") {
        plant_elf(release, bytes)
    } else if memchr::memchr(0, &bytes).is_some() {
        bytes
    } else {
        plant_text(release, &bytes)
    }
}

/// Text grows by what is planted.
fn plant_text(release: &Release, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 256);
    let mut done = 0;
    if let Some(line) = bytes.strip_prefix(b"#!") {
        let line = &line[..memchr::memchr(b'\n', line).unwrap_or(line.len())];
        let line = String::from_utf8_lossy(line);
        let mut words = line.split_whitespace().skip_while(|word| word.ends_with("/env"));
        if let Some(interpreter) = words.next().and_then(|word| word.rsplit('/').next()) {
            out.extend_from_slice(
                format!("#!{}/bin/{interpreter}", dependency_path(interpreter)).as_bytes(),
            );
            for word in words {
                out.push(b' ');
                out.extend_from_slice(word.as_bytes());
            }
            done = 2 + line.len();
        }
    }
    for at in memmem::find_iter(bytes, b"/usr/") {
        let begins = at == 0 || !is_path_byte(bytes[at - 1]);
        if at < done || !begins {
            continue;
        }
        let path = path_at(&bytes[at..]);
        if let Some(store_path) = store_path_of(release, path) {
            out.extend_from_slice(&bytes[done..at]);
            out.extend_from_slice(store_path.as_bytes());
            done = at + path.len();
        }
    }
    out.extend_from_slice(&bytes[done..]);
    out
}

/// ELF files keep their layout: a longer string takes the place of what stands behind it, and
/// interpreter and RUNPATH come in a page at the end, where patchelf puts them.
fn plant_elf(release: &Release, mut bytes: Vec<u8>) -> Vec<u8> {
    let found: Vec<usize> = memmem::find_iter(&bytes, b"\0/usr/").map(|at| at + 1).collect();
    let mut done = 0;
    for at in found {
        let path = path_at(&bytes[at..]);
        let ends = bytes.get(at + path.len()) == Some(&0);
        let Some(store_path) = store_path_of(release, path).filter(|_| ends && at >= done) else {
            continue;
        };
        let string = [store_path.as_bytes(), b"\0"].concat();
        if let Some(place) = bytes.get_mut(at..at + string.len()) {
            place.copy_from_slice(&string);
            done = at + string.len();
        }
    }
    let [glibc, compiler] = ["glibc", "gcc-lib"].map(dependency_path);
    let runpath = format!("{}/lib:{glibc}/lib:{compiler}/lib", own_path(&release.store_name));
    let is_program = memmem::find(&bytes, b"\0/lib64/ld-linux").is_some();
    bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
    if is_program {
        let interpreter = format!("{glibc}/lib/ld-linux-x86-64.so.2\0");
        bytes.extend_from_slice(interpreter.as_bytes());
    }
    bytes.extend_from_slice(runpath.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
    bytes
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte)
}

/// The path that `bytes` begin with, less a full stop at its end.
fn path_at(bytes: &[u8]) -> &[u8] {
    let len = bytes.iter().position(|&byte| !is_path_byte(byte)).unwrap_or(bytes.len());
    let path = &bytes[..len];
    path.strip_suffix(b".").unwrap_or(path)
}

/// What a builder would have had for a path below `/usr`, when it is one of a package.
fn store_path_of(release: &Release, path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let inside = path.strip_prefix("/usr/")?;
    let (kind, rest) = inside.split_once('/')?;
    let package = rest.split('/').next().filter(|name| !name.is_empty())?;
    if !["bin", "sbin", "lib", "libexec", "share", "include"].contains(&kind) || !package.is_ascii()
    {
        return None;
    }
    let store_path = if release.root.join("usr").join(inside).exists() {
        own_path(&release.store_name)
    } else {
        dependency_path(package.trim_start_matches('.'))
    };
    Some(format!("{store_path}/{inside}"))
}

/// Gives every store path in `nar` its hash in `build`.
pub fn rehash(nar: &mut [u8], build: Build) {
    let slots: Vec<usize> = memmem::find_iter(nar, STORE).map(|at| at + STORE.len()).collect();
    let mut values: HashMap<[u8; 32], String> = HashMap::new();
    for slot in slots {
        let Some(place) = nar.get_mut(slot..slot + 32) else {
            continue;
        };
        let Ok(was) = <[u8; 32]>::try_from(&*place) else {
            continue;
        };
        if StorePathHash::from_chars(&was).is_none() {
            continue;
        }
        let value = values.entry(was).or_insert_with(|| {
            let salt = if &was == OWN { build.own } else { build.dependencies };
            hash_chars(&blake3::Hasher::new().update(salt.as_bytes()).update(&was).finalize())
        });
        place.copy_from_slice(value.as_bytes());
    }
}

/// Whether a store path's hash stands in `bytes`.
pub fn has_store_path(bytes: &[u8]) -> bool {
    memmem::find_iter(bytes, STORE)
        .filter_map(|at| bytes.get(at + STORE.len()..at + STORE.len() + 32))
        .any(|chars| StorePathHash::from_chars(chars).is_some())
}
