//! Clients that do not read what they asked for keep nothing from those that do.

use std::{
    io::Write as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use snowbank_harness::{Api, Client, NixStore, Random, Server, oracle::Oracle, trees};

#[test]
fn downloads_that_nobody_reads_hold_nobody_up() {
    let (mut server, store) = (Server::start(), NixStore::new());
    let mut random = Random::fixed(103);
    let large = trees::add_noise(&store, &mut random, "large", 48 << 20);
    let client = Client::of(&server, &store);
    let _ = client.push(&[&large]).success();
    let oracle = Oracle::main(&server);
    let url = oracle.narinfo(&large).unwrap().url;

    let mut stalled = Vec::new();
    for number in 0..48 {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let form = if number % 2 == 0 { url.as_str() } else { url.trim_end_matches(".zst") };
        let request = format!("GET /main/{form} HTTP/1.1\r\nHost: snowbank\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stalled.push(stream);
        // They begin one after the other, so that they stop at different places.
        std::thread::sleep(Duration::from_millis(7));
    }
    std::thread::sleep(Duration::from_secs(1));

    let started = Instant::now();
    oracle.assert_whole(&large);
    let small = trees::add_tiny(&store, 20, "small");
    let _ = client.push(&small).success();
    oracle.assert_mirrors(&store, &small);
    assert!(Api::anonymous(&server).get("/readyz").status.is_success());
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert!(server.peak_rss_bytes() < 256 << 20, "{} MiB", server.peak_rss_bytes() >> 20);
    drop(stalled);
}
