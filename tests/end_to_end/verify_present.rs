//! A push that wants to know has the server read back what is there already: what is not whole is
//! sent again.

use std::fs;

use snowbank_harness::{Client, NixStore, Random, Server, oracle::Oracle, trees};

#[test]
fn a_push_that_asks_for_it_finds_that_packs_are_gone_and_sends_them_again() {
    let (mut server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let noise = |seed| Random::fixed(seed).bytes(1 << 20);
    let lost = trees::add_files(&store, "lost", &[("noise", noise(19))]);
    let _ = client.push(&[&lost]).success();
    let packs = server.objects().join("packs");
    let of_lost = files(&packs);
    let kept = trees::add_files(&store, "kept", &[("noise", noise(20))]);
    let _ = client.push(&[&kept]).success();
    server.restart();
    let client = Client::of(&server, &store);

    let sound = client.push_to("main", &[&lost, &kept], &["--verify-present"]).success();
    assert_eq!((sound.uploaded(), sound.present()), (0, 2), "all is whole");
    server.restart();
    let client = Client::of(&server, &store);
    for file in &of_lost {
        fs::remove_file(file).unwrap();
    }

    let trusting = client.push(&[&lost, &kept]).success();
    assert_eq!(
        (trusting.uploaded(), trusting.present()),
        (0, 2),
        "the database says that they are there"
    );
    let asking = client.push_to("main", &[&lost, &kept], &["--verify-present"]).success();
    assert_eq!((asking.uploaded(), asking.present()), (1, 1));
    if server.replicas().len() > 1 {
        // Until every replica knows.
        std::thread::sleep(std::time::Duration::from_secs(5));
    }
    let oracle = Oracle::main(&server);
    oracle.assert_receipts(&asking.receipts());
    oracle.assert_mirrors(&store, &[lost, kept]);
    server.command(&["repair", "--yes"]).succeeds();
    snowbank_harness::oracle::assert_check_is_clean(&server);
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}
