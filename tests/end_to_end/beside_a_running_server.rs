//! `snowbankd`'s commands beside a running server, a push under way included.

use std::{
    fs,
    time::{Duration, Instant},
};

use snowbank_harness::{
    Api, Client, NixStore, Random, Server, database, oracle, oracle::Oracle, trees,
};

#[test]
fn tokens_and_caches_made_beside_a_server_work_within_seconds() {
    let (server, store) = (Server::start(), NixStore::new());
    let path = trees::add_tiny(&store, 1, "beside").remove(0);
    // It has been asked for this cache before it exists.
    assert_eq!(Api::root(&server).get("/later/nix-cache-info").status.as_u16(), 404);
    let _ = server.command(&["cache", "create", "later", "--public"]).success();
    let token = server.token("late", &["later"], &["later"]);
    assert!(
        !token.contains(char::is_whitespace) && token.split('.').count() == 3,
        "the token alone on stdout: {token}"
    );
    let started = Instant::now();
    while Api::anonymous(&server).get("/later/nix-cache-info").status.as_u16() != 200 {
        assert!(started.elapsed() < Duration::from_secs(6), "the new cache is not there after 5 s");
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = Client::at(&server.url(), &token, &store).push_to("later", &[&path], &[]).success();
    Oracle::new(&server, "later", Api::anonymous(&server)).assert_whole(&path);
}

#[test]
fn commands_and_a_push_do_not_disturb_one_another() {
    let (server, store) = (Server::start(), NixStore::new());
    let mut paths = trees::add_tiny(&store, 300, "busy");
    paths.push(trees::add_noise(&store, &mut Random::fixed(89), "noise", 16 << 20));
    let client = Client::of(&server, &store);
    let mut push = client.start_push("main", &paths, &[]);
    let mut made = 0;
    while !push.is_done() || made < 3 {
        let _ = server.command(&["cache", "create", &format!("made-{made}")]).success();
        let _ = server.token("someone", &["*"], &[]);
        made += 1;
    }
    let _ = push.wait().success();
    assert_eq!(database::number(&server, "SELECT count(*) FROM caches"), 1 + made);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn check_finds_what_is_wrong_with_a_pack() {
    let (mut server, store) = (Server::start(), NixStore::new());
    let path = trees::add_noise(&store, &mut Random::fixed(97), "noise", 2 << 20);
    let _ = Client::of(&server, &store).push(&[&path]).success();
    oracle::assert_check_is_clean(&server);
    server.terminate();
    let pack = pack_file(&server.objects().join("packs"));
    let whole = fs::read(&pack).unwrap();
    let name = pack.file_name().unwrap().to_string_lossy().into_owned();

    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (what, bytes) in [
        ("flipped", Some(flipped)),
        ("short", Some(whole[..whole.len() / 2].to_vec())),
        ("gone", None),
    ] {
        match bytes {
            Some(bytes) => fs::write(&pack, bytes).unwrap(),
            None => fs::remove_file(&pack).unwrap(),
        }
        let output = server.command(&["check", "--read-data"]);
        assert!(!output.status.success(), "a pack that is {what}: {output}");
        assert!(
            output.said().contains(&name) || output.said().contains("noise"),
            "what is wrong is named: {output}"
        );
    }
    fs::write(&pack, whole).unwrap();
    oracle::assert_check_is_clean(&server);
}

fn pack_file(folder: &std::path::Path) -> std::path::PathBuf {
    let entry = fs::read_dir(folder).unwrap().map(Result::unwrap).next().unwrap();
    if entry.path().is_dir() { pack_file(&entry.path()) } else { entry.path() }
}
