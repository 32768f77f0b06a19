//! NARs full of store paths come back byte-identical, whole and in parts, and cost hardly more than
//! plain compression.

use std::os::unix::fs::symlink;

use snowbank_core::narinfo::NarInfo;
use snowbank_harness::{
    Api, Client, NixStore, Random, Scratch, Server, craft, oracle, oracle::Oracle, process, trees,
};

/// Trees that put slots wherever they may be awkward.
fn awkward(store: &NixStore, random: &mut Random) -> Vec<String> {
    let hashes: Vec<String> = (0..40).map(|_| random.hash_chars()).collect();
    let path =
        |number: usize| format!("/nix/store/{}-package-{number}", hashes[number % hashes.len()]);
    let add = |name: &str, contents: Vec<u8>| trees::add_files(store, name, &[("file", contents)]);
    let mut added = Vec::new();

    // Slots with text between them at many densities, on both sides of where a chunk is closed.
    for gap in [0_usize, 10, 100, 900, 1_000, 1_100, 4_000, 20_000] {
        let mut contents = Vec::new();
        for number in 0..(400_000 / (gap + 60)).min(3_000) {
            contents.extend_from_slice(path(number).as_bytes());
            contents.extend_from_slice(&random.text(gap));
        }
        added.push(add(&format!("gap-{gap}"), contents));
    }
    // Binary data around them, as in a .pyc or an ELF file.
    let mut binary = Vec::new();
    for number in 0..500 {
        binary.extend_from_slice(&random.bytes(700));
        binary.extend_from_slice(path(number).as_bytes());
        binary.push(0);
    }
    added.push(add("binary", binary));
    // At the very start and end of a file; alone in it; and what only looks like one.
    let lookalikes = [
        path(0),
        format!("{}\n", path(1)),
        format!("text before {}", path(2)),
        format!("/nix/store/{}", &hashes[3]),
        format!("/nix/store/{}", &hashes[4][..31]),
        format!("/nix/store/{}!", &hashes[5][..31]),
        format!("/nix/store/{}", "0".repeat(32)),
        format!("/nix/store/{}", "e".repeat(32)),
        format!("/nix/store/nix/store/{}", hashes[6]),
        format!("/nix/store//nix/store/{}", hashes[7]),
        format!("/nix/store/{}/nix/store/{}", hashes[8], hashes[9]),
        "/nix/store/".to_owned(),
        "0".repeat(100_000),
        format!("/nix/store/{}", "0".repeat(100_000)),
    ];
    let files: Vec<(String, Vec<u8>)> = lookalikes
        .iter()
        .enumerate()
        .map(|(number, text)| (format!("file-{number}"), text.clone().into_bytes()))
        .collect();
    let files: Vec<(&str, Vec<u8>)> =
        files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    added.push(trees::add_files(store, "lookalikes", &files));
    // Across every edge that a reader's buffer may have.
    let mut edges = random.bytes(3 << 20);
    for (number, edge) in
        [16_usize << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20]
            .into_iter()
            .enumerate()
    {
        for (step, shift) in (0..64).step_by(7).enumerate() {
            let place = edge * (step % 3 + 1).min((3 << 20) / edge - 1).max(1) - shift - 20;
            let text = path(number + step);
            if place + text.len() < edges.len() {
                edges[place..place + text.len()].copy_from_slice(text.as_bytes());
            }
        }
    }
    added.push(add("edges", edges));
    // Lists, wrapper scripts, symlink farms.
    added.push(add("list", trees::list_of_paths(random, 100_000)));
    let scripts: Vec<(String, Vec<u8>)> = (0..300)
        .map(|number| {
            let text = format!(
                "#!{}/bin/sh\nexport PATH={}/bin:{}/bin:$PATH\nexec {}/bin/.wrapped-{number} \
                 \"$@\"\n",
                path(0),
                path(number),
                path(number + 1),
                path(number + 2)
            );
            (format!("bin/script-{number}"), text.into_bytes())
        })
        .collect();
    let scripts: Vec<(&str, Vec<u8>)> =
        scripts.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    added.push(trees::add_files(store, "wrappers", &scripts));
    let scratch = Scratch::new("farm");
    let farm = scratch.folder("farm");
    for number in 0..2_000 {
        symlink(
            format!("{}/share/file-{number}", path(number)),
            farm.join(format!("link-{number:04}")),
        )
        .unwrap();
    }
    added.push(store.add(&farm));
    // Real derivations.
    added.extend(store.instantiate(&trees::graph(40, 1, "derivations")));
    added
}

/// What plain chunked zstd would store of a NAR: every chunk's true bytes, compressed for itself.
fn plainly_stored(nar: &[u8], level: i32) -> u64 {
    craft::cut(nar)
        .iter()
        .map(|chunk| zstd::bulk::compress(&chunk.true_bytes(), level).unwrap().len() as u64)
        .sum()
}

fn assert_comes_back(level: i32) {
    let server = Server::options().config(&format!("[compression]\nlevel = {level}\n")).start();
    let store = NixStore::new();
    let paths = store.closure(&awkward(&store, &mut Random::fixed(79)));
    let push = Client::of(&server, &store).push(&paths).success();
    let oracle = Oracle::main(&server);
    oracle.assert_receipts(&push.receipts());
    oracle.assert_mirrors(&store, &paths);

    let (mut stored, mut plain) = (0, 0);
    for path in &paths {
        let info = oracle.narinfo(path).unwrap();
        let nar = store.dump(path);
        let (own, plainly) = (info.file_size.unwrap(), plainly_stored(&nar, level));
        // Small ones have a frame's head and a slot's blocks to carry.
        assert!(
            own * 10 <= plainly * 11 + 10_240,
            "{path} at level {level}: {own} bytes, plainly {plainly}"
        );
        (stored, plain) = (stored + own, plain + plainly);
        assert_ranges(&server, &info, &nar);
    }
    eprintln!(
        "level {level}: {stored} bytes are served, plainly {plain}, {} lie in packs",
        server.stored_bytes()
    );
    assert!(stored * 10 <= plain * 11, "level {level}: {stored} bytes, plainly {plain}");

    let other = NixStore::new();
    let _ =
        other.substitute(&format!("{}/main", server.url()), &oracle.public_key(), &paths).success();
    other.verify();
    assert_eq!(other.hashes(&paths), store.hashes(&paths));
    oracle::assert_check_is_clean(&server);
}

/// Parts of both representations are what the whole has there.
fn assert_ranges(server: &Server, info: &NarInfo, nar: &[u8]) {
    let api = Api::anonymous(server);
    let compressed = format!("/main/{}", info.url);
    let plain = compressed.strip_suffix(".zst").unwrap().to_owned();
    assert!(api.get(&plain).body == nar, "{plain} is the NAR itself");
    let mut random = Random::fixed(83);
    for (address, whole) in [(&plain, nar.to_vec()), (&compressed, api.get(&compressed).body)] {
        let len = whole.len() as u64;
        let mut ranges = vec![(0, 0), (0, len - 1), (len - 1, len - 1), (len / 2, len - 1)];
        for _ in 0..4 {
            let start = random.below(len);
            ranges.push((start, start + random.below((len - start).min(200_000))));
        }
        for (first, last) in ranges {
            let answer = api.get_with(address, &[("Range", &format!("bytes={first}-{last}"))]);
            assert_eq!(answer.status.as_u16(), 206, "{address} {first}-{last}");
            assert_eq!(answer.header("content-range"), format!("bytes {first}-{last}/{len}"));
            let expected = &whole[usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()];
            assert!(answer.body == expected, "{address}: bytes {first} to {last} differ");
        }
    }
}

#[test]
fn nars_full_of_store_paths_at_level_1() {
    assert_comes_back(1);
}

#[test]
fn nars_full_of_store_paths_at_level_7() {
    assert_comes_back(7);
}

#[test]
fn nars_full_of_store_paths_at_level_9() {
    assert_comes_back(9);
}

#[test]
fn nars_full_of_store_paths_at_level_19() {
    assert_comes_back(19);
}

#[test]
fn nix_fetches_the_uncompressed_nar_too() {
    let (server, store) = (Server::start(), NixStore::new());
    let path = trees::build_graph(&store, 2, 4, "plain").remove(0);
    let _ = Client::of(&server, &store).push(&[&path]).success();
    let info = Oracle::main(&server).narinfo(&path).unwrap();
    // A cache of files on disk that names the same NAR by its other address.
    let scratch = Scratch::new("plain-cache");
    let uncompressed = NarInfo {
        url: info.url.strip_suffix(".zst").unwrap().to_owned(),
        compression: "none".to_owned(),
        file_hash: None,
        file_size: None,
        ..info
    };
    let api = Api::anonymous(&server);
    let narinfo = craft::narinfo("main", &path);
    process::write(
        &scratch.join(narinfo.trim_start_matches("/main/")),
        uncompressed.render(&snowbank_core::store_path::StoreDir::default()),
    );
    process::write(&scratch.join("nix-cache-info"), api.get("/main/nix-cache-info").body);
    process::write(
        &scratch.join(&uncompressed.url),
        api.get(&format!("/main/{}", uncompressed.url)).body,
    );
    let other = NixStore::new();
    let cache = format!("file://{}", scratch.path().display());
    let references: Vec<String> =
        store.closure(&[&path]).into_iter().filter(|one| *one != path).collect();
    let key = Oracle::main(&server).public_key();
    if !references.is_empty() {
        let _ = other.substitute(&format!("{}/main", server.url()), &key, &references).success();
    }
    let _ = other.substitute(&cache, &key, &[&path]).success();
    assert_eq!(other.hashes(&[&path]), store.hashes(&[&path]));
}
