//! The next version of a tree: what is sent is what changed.

use std::{fs, path::PathBuf};

use snowbank_harness::{Client, NixStore, Random, Scratch, Server, oracle::Oracle, trees};

const MIB: u64 = 1 << 20;

/// Files of a folder and those below, sorted.
fn files(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => all.extend(files(&entry.path())),
            kind if kind.is_file() => all.push(entry.path()),
            _ => {}
        }
    }
    all.sort();
    all
}

#[test]
fn the_next_version_sends_what_changed() {
    let (server, store) = (Server::start(), NixStore::new());
    let scratch = Scratch::new("versions");
    let version = scratch.folder("version").join("tool");
    trees::copy(&trees::of_this_machine(1, 20 * MIB, 130 * MIB)[0], &version);
    let client = Client::of(&server, &store);
    let first = store.add(&version);
    let _ = client.push(&[&first]).success();

    // A new file of 3 MiB, ten files with a line more, and one gone.
    let mut random = Random::fixed(7);
    let all = files(&version);
    fs::write(version.join("zz-new-file"), random.bytes(3 << 20)).unwrap();
    for number in 0..10 {
        let file = &all[(2 * number + 1) * all.len() / 20];
        let mut contents = fs::read(file).unwrap();
        let middle = contents.len() / 2;
        contents.splice(middle..middle, *b"\nthe next version says more\n");
        fs::write(file, contents).unwrap();
    }
    fs::remove_file(&all[0]).unwrap();

    let second = store.add(&version);
    let push = client.push(&[&second]).success();
    let stats = push.stats();
    eprintln!("next version: {stats:?}");
    // Each of twelve places touches two chunks at most, or three where a cut moves.
    let most = 3 * MIB + 12 * 3 * (512 << 10);
    assert!((3 * MIB..most).contains(&stats.bytes_new), "new: {stats:?}");
    assert!(stats.bytes_sent < most, "sent: {stats:?}");
    Oracle::main(&server).assert_mirrors(&store, &[first, second]);
}
