//! `[storage.cache]`: what was read once is read from the local disk, and the disk is never
//! believed.

use std::{fs, path::PathBuf};

use snowbank_harness::{
    Client, NixStore, Random, Server, Site, oracle, oracle::Oracle, process, scratch, site::Kind,
    trees,
};

/// A server with a cache of this size, and the cache's folder.
fn start(site: &std::sync::Arc<Site>, max_size: &str) -> (Server, PathBuf) {
    let config = format!("[storage.cache]\npath = \"read-cache\"\nmax-size = \"{max_size}\"\n");
    let server = Server::options().on(site).config(&config).replicas(1).start();
    let folder = server.replicas()[0].folder().join("read-cache");
    (server, folder)
}

fn files(folder: &std::path::Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .map(|entries| entries.flatten().collect::<Vec<_>>())
        .unwrap_or_default();
    let beneath = |entry: fs::DirEntry| {
        if entry.path().is_dir() { files(&entry.path()) } else { vec![entry.path()] }
    };
    entries.into_iter().flat_map(beneath).collect()
}

fn gets(site: &Site) -> u64 {
    site.s3().counts().get("get").copied().unwrap_or(0)
}

#[test]
fn a_second_download_reads_nothing_from_the_storage_and_damage_is_harmless() {
    let (site, store) = (Site::of(Kind::Strict), NixStore::new());
    let (mut server, folder) = start(&site, "1GiB");
    let path = trees::add_noise(&store, &mut Random::fixed(151), "noise", 40 << 20);
    let _ = Client::of(&server, &store).push(&[&path]).success();
    // Nothing in memory.
    server.restart();
    let oracle = Oracle::main(&server);
    oracle.assert_whole(&path);
    process::wait_until("the cache is filled", std::time::Duration::from_secs(20), || {
        scratch::bytes_beneath(&folder) > 40 << 20
    });
    let before = gets(&site);
    oracle.assert_whole(&path);
    assert_eq!(gets(&site), before, "the second download reads from the cache");
    server.restart();
    let before = gets(&site);
    let oracle = Oracle::main(&server);
    oracle.assert_whole(&path);
    // The marker is looked at when it starts.
    assert!(gets(&site) <= before + 2, "also after a restart: {} GETs", gets(&site) - before);

    for file in files(&folder) {
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes.get_mut(middle..).into_iter().flatten().take(1).for_each(|byte| *byte ^= 0x55);
        fs::write(&file, bytes).unwrap();
    }
    oracle.assert_mirrors(&store, std::slice::from_ref(&path));
    for (number, file) in files(&folder).into_iter().enumerate() {
        match number % 3 {
            0 => fs::remove_file(&file).unwrap(),
            1 => fs::write(&file, b"").unwrap(),
            _ => fs::write(&file, [9; 100]).unwrap(),
        }
    }
    oracle.assert_mirrors(&store, std::slice::from_ref(&path));
    let gone = std::thread::spawn({
        let folder = folder.clone();
        // While it serves; a file that is written at that moment may stay.
        move || {
            (0..20)
                .for_each(|_| files(&folder).iter().for_each(|file| drop(fs::remove_file(file))));
        }
    });
    for _ in 0..3 {
        oracle.assert_mirrors(&store, std::slice::from_ref(&path));
    }
    gone.join().unwrap();
    let _ = fs::remove_dir_all(&folder);
    oracle.assert_mirrors(&store, std::slice::from_ref(&path));
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_cache_stays_within_its_size() {
    let (site, store) = (Site::of(Kind::Strict), NixStore::new());
    let (mut server, folder) = start(&site, "64MiB");
    let mut random = Random::fixed(157);
    let paths: Vec<String> = (0..5)
        .map(|number| trees::add_noise(&store, &mut random, &format!("noise-{number}"), 24 << 20))
        .collect();
    let _ = Client::of(&server, &store).push(&paths).success();
    server.restart();
    let oracle = Oracle::main(&server);
    for path in paths.iter().chain(&paths) {
        oracle.assert_whole(path);
        let held = scratch::bytes_beneath(&folder);
        assert!(held <= 64 << 20, "{held} bytes lie in a cache of 64 MiB");
    }
    assert!(scratch::bytes_beneath(&folder) > 32 << 20, "the cache is used");
}
