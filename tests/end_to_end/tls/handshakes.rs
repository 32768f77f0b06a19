//! Clients that do not come through the handshake: they keep nobody out, are ended in time, are
//! counted, and write no log.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use snowbank_harness::{
    Client, NixStore, Server,
    process::{self, Running},
};

use super::{start, start_with};

/// Few places, and a short time for a handshake.
const LIMITS: &str = "[limits]\nconnections = 64\nfirst-request-timeout = \"3s\"\n";
/// For a client that the server has to end after 3 s, which it looks for twice a second.
const END: Duration = Duration::from_secs(9);
/// The beginning of a TLS handshake: a record of 512 bytes with a `ClientHello` that needs them all.
const HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

fn counted(server: &Server, result: &str) -> f64 {
    server.counted("snowbank_tls_handshakes_total", &[("result", result)])
}

/// How long it takes until the server has ended the connection, at most [`END`].
#[track_caller]
fn ended_after(mut stream: TcpStream, begun: Instant) -> Duration {
    stream.set_read_timeout(Some(END)).unwrap();
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return begun.elapsed(),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return begun.elapsed(),
            Err(error) => panic!("not ended after {:?}: {error}", begun.elapsed()),
        }
        assert!(begun.elapsed() < END, "not ended after {:?}", begun.elapsed());
    }
}

#[test]
fn silent_ones_keep_nobody_out_and_are_ended_in_time() {
    let (authority, mut server) = start_with("", LIMITS);
    let address = server.address();
    let http = authority.http(None).pool_max_idle_per_host(0).build().unwrap();
    let url = format!("{}/main/nix-cache-info", server.url());
    let before = server.rss_bytes();
    let begun = Instant::now();
    let mut silent: Vec<TcpStream> = Vec::new();
    for number in 0..400 {
        let mut stream = TcpStream::connect(address).unwrap();
        if number % 2 == 1 {
            // Half of them begin, and say no more.
            stream.write_all(HELLO).unwrap();
        }
        silent.push(stream);
        if number % 20 == 19 {
            let asked = Instant::now();
            let answer = http.get(&url).send().unwrap();
            assert_eq!(answer.status().as_u16(), 200);
            assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
        }
    }
    let last = Instant::now();
    for stream in silent {
        let _ = ended_after(stream, last);
    }
    eprintln!("400 silent handshakes ended within {:?}", begun.elapsed());
    let unfinished = || counted(&server, "unfinished");
    process::wait_until("all are counted", END, || unfinished() >= 400.0);
    assert!(counted(&server, "ok") >= 20.0);
    let log = server.log();
    assert!(log.lines().count() < 40, "{log}");
    let peak = server.peak_rss_bytes();
    assert!(peak < before + (64 << 20), "{} MiB, before {} MiB", peak >> 20, before >> 20);
}

#[test]
fn one_that_drips_is_ended_at_the_same_time_as_one_that_says_nothing() {
    let (_authority, server) = start_with("", LIMITS);
    let begun = Instant::now();
    let stream = TcpStream::connect(server.address()).unwrap();
    let mut dripping = stream.try_clone().unwrap();
    let drip = thread::spawn(move || {
        let bytes = HELLO.iter().copied().chain(std::iter::repeat(0)).take(600);
        for byte in bytes {
            if dripping.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    });
    let lasted = ended_after(stream, begun);
    assert!(lasted >= Duration::from_millis(2900), "it had its time: {lasted:?}");
    drip.join().unwrap();
    process::wait_until("it is counted", END, || counted(&server, "unfinished") >= 1.0);
}

#[test]
fn a_plain_request_is_told_to_use_https_at_once() {
    let (_authority, server) = start("");
    let plain = server.url().replace("https:", "http:");
    let asked = Instant::now();
    let http = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
    // Larger than what the system takes ahead: the answer has to come through all the same.
    for body in [0, 60_000] {
        let answer = http.post(format!("{plain}/api/v1/caches")).body(vec![b'x'; body]).send();
        let answer = answer.unwrap();
        assert_eq!(answer.status().as_u16(), 400);
        let text = answer.text().unwrap();
        assert!(text.contains("\"bad-request\"") && text.contains("https://"), "{text}");
    }
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());

    let (store, root) = (NixStore::new(), server.root_token());
    let client = Client::new(&store);
    let login = client.command(&["login", "test", &plain]);
    let output = Running::start(login, root.as_bytes()).wait();
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr.contains("this port speaks HTTPS"), "{output}");
    assert!((counted(&server, "plain-http") - 3.0).abs() < 0.5);
}

#[test]
fn failures_are_counted_by_their_cause_and_not_logged() {
    let (_authority, server) = start("");
    let lines = server.log().lines().count();
    for _ in 0..50 {
        // No TLS, and no request.
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(&[0; 64]).unwrap();
        let _ = ended_after(stream, Instant::now());
        // Gone again.
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
        // A client that does not know the authority.
        let stranger = reqwest::blocking::Client::builder().no_proxy().tls_certs_only([]);
        stranger.build().unwrap().get(server.url()).send().unwrap_err();
    }
    for result in ["protocol", "closed", "refused-by-client"] {
        process::wait_until(result, END, || counted(&server, result) >= 50.0);
    }
    assert_eq!(server.log().lines().count(), lines, "{}", server.log());
}

#[test]
fn a_server_that_stops_does_not_wait_for_them() {
    let (_authority, mut server) = start("");
    let silent: Vec<TcpStream> =
        (0..8).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    let asked = Instant::now();
    assert!(server.terminate().success());
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    drop(silent);
}
