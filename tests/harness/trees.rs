//! Things to push: closures that Nix builds, trees that the machine has, and trees made to be
//! awkward.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{NixStore, Random, Scratch, process, scratch};

/// A Nix expression for `count` derivations that refer to one another: scripts, text, binary data,
/// symlinks, empty files and folders, each with paths of its dependencies and of itself in it.
/// `tag` makes the contents this closure's own; each holds about `kibibytes` KiB of hexadecimal
/// noise besides.
#[must_use]
pub fn graph(count: usize, kibibytes: usize, tag: &str) -> String {
    let seed: u32 = tag.bytes().fold(1, |seed, byte| (seed * 31 + u32::from(byte)) % 10_007);
    include_str!("graph.nix")
        .replace("@count@", &count.to_string())
        .replace("@kib@", &kibibytes.to_string())
        .replace("@seed@", &seed.to_string())
        .replace("@tag@", tag)
}

/// Builds [`graph`] in `store`; gives all store paths of its closure (the outputs: sources are not
/// referred to).
#[must_use]
pub fn build_graph(store: &NixStore, count: usize, kibibytes: usize, tag: &str) -> Vec<String> {
    let outputs = store.build(&graph(count, kibibytes, tag));
    assert_eq!(outputs.len(), count, "nix-build gives every output");
    store.closure(&outputs)
}

/// Real trees of this machine, each between `min` and `max` bytes, at most `limit` of them: the
/// Rust toolchain's parts, Python, compilers, documentation, translations.
#[must_use]
pub fn of_this_machine(limit: usize, min: u64, max: u64) -> Vec<PathBuf> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = sysroot
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    let mut candidates = vec![PathBuf::from(format!("{sysroot}/lib/rustlib"))];
    candidates.extend(
        [
            "/usr/lib/python3.11",
            "/usr/lib/python3",
            "/usr/share/perl",
            "/usr/share/doc",
            "/usr/share/locale",
        ]
        .into_iter()
        .chain([
            "/usr/lib/gcc",
            "/usr/include",
            "/usr/share/man",
            "/usr/share/zoneinfo",
            "/usr/lib/git-core",
        ])
        .chain(["/usr/share/vim", "/usr/share/perl5", "/usr/bin"])
        .map(PathBuf::from),
    );
    let fits = |path: &PathBuf| (min..=max).contains(&scratch::bytes_beneath(path));
    let trees: Vec<PathBuf> = candidates.into_iter().filter(fits).take(limit).collect();
    assert!(!trees.is_empty(), "this machine has no tree of {min} to {max} bytes to push");
    trees
}

/// Copies a tree; symlinks stay symlinks.
pub fn copy(from: &Path, to: &Path) {
    let output =
        Command::new("cp").args(["-dR", "--no-preserve=mode,ownership"]).arg(from).arg(to).output();
    let output = output.unwrap_or_else(|e| panic!("cp {}: {e}", from.display()));
    assert!(
        output.status.success(),
        "cp {}: {}",
        from.display(),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Copies a tree with its modes and, for root, its owners.
pub fn copy_with_modes(from: &Path, to: &Path) {
    let output = Command::new("cp").arg("-a").arg(from).arg(to).output();
    let output = output.unwrap_or_else(|e| panic!("cp {}: {e}", from.display()));
    assert!(
        output.status.success(),
        "cp {}: {}",
        from.display(),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Adds a copy of a machine's tree to the store under a name of its own.
#[must_use]
pub fn add_copy(store: &NixStore, tree: &Path, name: &str) -> String {
    let scratch = Scratch::new("copy");
    copy(tree, &scratch.join(name));
    store.add(&scratch.join(name))
}

/// Adds a tree of files, made by the test, to the store.
#[must_use]
pub fn add_files(store: &NixStore, name: &str, files: &[(&str, Vec<u8>)]) -> String {
    let scratch = Scratch::new("files");
    for (file, contents) in files {
        process::write(&scratch.join(name).join(file), contents);
    }
    store.add(&scratch.join(name))
}

/// Adds `count` paths of one small file each to the store; contents differ. Gives their store
/// paths.
#[must_use]
pub fn add_tiny(store: &NixStore, count: usize, tag: &str) -> Vec<String> {
    let scratch = Scratch::new("tiny");
    let make = |number: usize| {
        let file = scratch.join(format!("{tag}-{number}"));
        fs::write(&file, format!("{tag} number {number}\n"))
            .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        file
    };
    let files: Vec<PathBuf> = (0..count).map(make).collect();
    store.add_all(&files)
}

/// Adds a path of incompressible bytes to the store.
#[must_use]
pub fn add_noise(store: &NixStore, random: &mut Random, name: &str, bytes: usize) -> String {
    add_files(store, name, &[("noise", random.bytes(bytes))])
}

/// A text that lists `count` store paths, one a line.
#[must_use]
pub fn list_of_paths(random: &mut Random, count: usize) -> Vec<u8> {
    let mut text = String::new();
    for number in 0..count {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "/nix/store/{}-package-{number}", random.hash_chars());
    }
    text.into_bytes()
}
