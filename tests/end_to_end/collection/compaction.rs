//! Compaction: packs that are mostly dead are rewritten, and who reads from them meanwhile notices
//! nothing.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use snowbank_harness::{
    Api, Gc, Pusher, Random, Server, collection,
    craft::{self, Deposit},
    oracle,
};

use super::{assert_served, path};

/// Sends the chunks of both in turns, so that each pack has some of either: 3.5 MiB of 48 + 64,
/// which every server takes.
fn send_mixed(api: &Api, one: &Deposit, other: &Deposit) {
    let (parts, mut at) = (32, (0, 0));
    for part in 1..=parts {
        let to = (one.encoded.len() * part / parts, other.encoded.len() * part / parts);
        let bundle =
            craft::bundle(one.encoded[at.0..to.0].iter().chain(&other.encoded[at.1..to.1]));
        let answer = api.send_bundle(bundle);
        assert!(answer.status.is_success(), "{}", answer.text());
        at = to;
    }
}

/// A download under way that is read by the test.
struct Download(TcpStream);

impl Download {
    fn begin(server: &Server, target: &str) -> (Self, Vec<u8>) {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: snowbank\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut read = Vec::new();
        let mut buffer = [0; 16_384];
        let body_at = loop {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the answer has no head");
            read.extend_from_slice(&buffer[..count]);
            if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        assert!(read.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&read[..body_at]));
        (Self(stream), read.split_off(body_at))
    }
}

#[test]
fn compaction_frees_what_is_dead_and_disturbs_no_reader() {
    // Little room to read ahead: most of the download is read after the packs have moved.
    let server = Server::options().config("[limits]\nmemory = \"64MiB\"\n").start();
    let (api, mut random) = (Api::root(&server), Random::fixed(709));
    let kept = path(&mut random, "kept", 48 << 10);
    let dead = path(&mut random, "dead", 64 << 10);
    send_mixed(&api, &kept, &dead);
    let _ = Pusher::new(&api, "main").push(&[&kept, &dead]);
    let before = server.stored_bytes();
    let target = format!("/main/nar/{}.nar", kept.nar_hash().to_nix32());
    let (mut download, mut body) = Download::begin(&server, &target);
    server.command(&["delete", "main", &dead.store_path, "--yes"]).succeeds();

    let plan = Gc::without_grace().dry_run().run(&api);
    assert_eq!(server.stored_bytes(), before, "{plan}");
    let done = collection::collect_all(&api);
    assert!(done.iter().map(collection::Collected::compacted).sum::<u64>() >= 4, "{done:?}");
    let after = server.stored_bytes();
    let needed = kept.encoded.iter().map(|chunk| chunk.frame.len() as u64).sum::<u64>();
    assert!(after < before * 6 / 10, "{before} bytes before, {after} after");
    // A pack of which more than half is needed stays as it is.
    assert!(
        (needed..needed * 112 / 100).contains(&after),
        "{after} bytes for {needed} that are needed"
    );
    collection::assert_no_pack_is_left_over(&server);

    download.0.read_to_end(&mut body).unwrap();
    assert!(body == kept.nar, "{} bytes came, {} are right", body.len(), kept.nar.len());
    assert_served(&server, &[&kept]);
    // Found under the same names: nothing of it is to be sent again.
    assert_eq!(Pusher::new(&api, "main").push(&[&kept]).chunks_sent, 0);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn small_packs_become_few() {
    let (server, mut random) = (Server::start(), Random::fixed(719));
    let api = Api::root(&server);
    let pusher = Pusher::new(&api, "main");
    let paths: Vec<Deposit> =
        (0..60).map(|number| path(&mut random, &format!("p{number}"), 20)).collect();
    for path in &paths {
        let _ = pusher.push(&[path]);
    }
    assert_eq!(collection::packs(&server), [60, 0]);
    let _ = collection::collect_all(&api);
    let [live, dead] = collection::packs(&server);
    assert!(live <= 6 && dead == 0, "{live} packs, {dead} dead ones");
    collection::assert_no_pack_is_left_over(&server);
    assert_served(&server, &paths.iter().collect::<Vec<_>>());
    oracle::assert_check_is_clean(&server);
    assert!(
        !Gc::without_grace().run(&api).did_something(),
        "packs are not rewritten without a reason"
    );
}
