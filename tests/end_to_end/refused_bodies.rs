//! Bodies that are too large, cut off, or never end.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use snowbank_harness::{
    Api, Client, NixStore, Random, Server,
    craft::{Deposit, Node},
    database, trees,
};

/// Opens a request to `endpoint` of `main` that says it has `length` bytes of body.
fn open(server: &Server, endpoint: &str, length: u64) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "POST /api/v1/caches/main/{endpoint} HTTP/1.1\r\nHost: snowbank\r\nAuthorization: Bearer \
         {}\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n",
        server.root_token()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    stream
}

/// What the server answers before it closes the connection.
fn answer(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    // A connection that is reset after the answer is closed as well.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[track_caller]
fn assert_still_serves(server: &Server) {
    assert_eq!(
        (database::chunks(server), database::paths(server), server.stored_bytes()),
        (0, 0, 0)
    );
    let store = NixStore::new();
    let _ = Client::of(server, &store).push(&trees::add_tiny(&store, 1, "after")).success();
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let server = Server::start();
    for endpoint in ["chunks", "paths", "missing-paths", "missing-chunks"] {
        let started = Instant::now();
        let text = answer(open(&server, endpoint, 1 << 40));
        assert!(text.starts_with("HTTP/1.1 413"), "{endpoint}: {text}");
        assert!(
            text.contains("too-large") && started.elapsed() < Duration::from_secs(10),
            "{endpoint}: {text}"
        );
    }
    // One that is sent all the same meets the answer, or a closed connection.
    let body = vec![0; 17 << 20].into();
    if let Ok(answer) =
        Api::root(&server).try_send(reqwest::Method::POST, "/api/v1/caches/main/chunks", &[], body)
    {
        answer.refused(413, "too-large");
    }
    assert_still_serves(&server);
}

#[test]
fn a_body_over_the_limit_that_does_not_say_its_length() {
    let server = Server::start();
    let endless = std::io::repeat(b'{').take(200 << 20);
    let api = Api::root(&server);
    let body = reqwest::blocking::Body::new(endless);
    // The server answers and closes; the client may see the answer or the closed connection.
    if let Ok(answer) = api.try_send(reqwest::Method::POST, "/api/v1/caches/main/chunks", &[], body)
    {
        assert!((400..500).contains(&answer.status.as_u16()), "{}", answer.text());
    }
    assert_still_serves(&server);
}

#[test]
fn a_body_that_is_cut_off_leaves_nothing() {
    let server = Server::start();
    let deposit =
        Deposit::of(&mut Random::fixed(73), "cut", &Node::File(Random::fixed(73).bytes(300_000)));
    let bundle = deposit.bundle();
    for len in [0, 1, 100, bundle.len() / 2, bundle.len() - 1] {
        let mut stream = open(&server, "chunks", bundle.len() as u64);
        stream.write_all(&bundle[..len]).unwrap();
        drop(stream);
    }
    std::thread::sleep(Duration::from_millis(500));
    assert_still_serves(&server);
}

#[test]
fn a_body_that_falls_silent_is_given_up() {
    let mut server = Server::options().config("[limits]\nbody-timeout = \"2s\"\n").start();
    let streams: Vec<TcpStream> = ["chunks", "paths", "missing-paths", "missing-chunks", "chunks"]
        .map(|endpoint| {
            let mut stream = open(&server, endpoint, 100_000);
            stream.write_all(b"{").unwrap();
            stream
        })
        .into();
    let started = Instant::now();
    for stream in streams {
        let text = answer(stream);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_still_serves(&server);
    assert!(server.peak_rss_bytes() < 256 << 20);
}

#[test]
fn a_head_that_never_ends_is_given_up() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"GET /main/nix-cache-info HTTP/1.1\r\nHost: s").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(100))).unwrap();
    let started = Instant::now();
    let text = answer(stream);
    assert!(
        started.elapsed() < Duration::from_secs(90),
        "the connection is closed in time: {text}"
    );
}

#[test]
fn a_body_that_drips_is_given_up() {
    let server = Server::options()
        .config("[limits]\nbody-timeout = \"2s\"\nmin-body-rate = \"1KiB\"\n")
        .start();
    let mut stream = open(&server, "chunks", 100_000);
    let started = Instant::now();
    while stream.write_all(b"x").is_ok() {
        assert!(
            started.elapsed() < Duration::from_secs(90),
            "a byte every half second goes on for ever"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_still_serves(&server);
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let server = Server::start();
    let api = Api::new(&server.url(), Some(&server.token("reader", &["*"], &[])));
    for _ in 0..20 {
        api.send_bundle(vec![0; 8 << 20]).refused(403, "forbidden");
    }
}
