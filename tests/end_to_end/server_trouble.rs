//! A server that cannot be reached, ends in the middle, or a client that is told to stop: exit
//! codes tell the truth.

use std::{net::TcpListener, time::Duration};

use rustix::process::Signal;
use snowbank_harness::{Client, NixStore, Random, Server, oracle::Oracle, process, trees};

#[test]
fn a_server_that_is_not_there() {
    let store = NixStore::new();
    let path = trees::add_tiny(&store, 1, "nowhere").remove(0);
    let client = Client::new(&store);
    let url = format!("http://{}", process::own_address());
    let push = |options: &[&str]| {
        let mut command = client.command(&["push", "main", &path]);
        command.args(options).env("SNOWBANK_URL", &url).env("SNOWBANK_TOKEN", "a.b.c");
        process::run(command)
    };
    let output = push(&[]);
    assert_eq!(output.code(), Some(6), "{output}");
    assert!(output.stderr.contains(&url), "names the server: {output}");
    let forgiven = push(&["--best-effort"]);
    assert_eq!(forgiven.code(), Some(0), "{forgiven}");
    assert!(forgiven.stderr.contains(&url), "warns: {forgiven}");
}

#[test]
fn something_that_is_no_snowbank() {
    let store = NixStore::new();
    let path = trees::add_tiny(&store, 1, "stranger").remove(0);
    let address = process::own_address();
    let listener = TcpListener::bind(address).unwrap();
    // Answers every connection with what no HTTP client understands; ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut &stream, b"220 mail.example.org ESMTP\r\n");
        }
    });
    let client = Client::new(&store);
    let mut command = client.command(&["push", "main", &path]);
    command.env("SNOWBANK_URL", format!("http://{address}")).env("SNOWBANK_TOKEN", "a.b.c");
    let output = process::run(command);
    assert!(matches!(output.code(), Some(1 | 6 | 7)), "{output}");
    assert!(output.stderr.contains(&address.to_string()), "{output}");
}

#[test]
fn no_token_no_server_and_an_empty_token_file_are_named() {
    let store = NixStore::new();
    let path = trees::add_tiny(&store, 1, "config").remove(0);
    let client = Client::new(&store);
    let output = process::run(client.command(&["push", "main", &path]));
    assert_eq!(output.code(), Some(3), "{output}");
    assert!(output.stderr.contains("snowbank login"), "says what to do: {output}");

    let file = client.home().join("empty-token");
    process::write(&file, " \n");
    for environment in
        [("SNOWBANK_TOKEN_FILE", file.to_str().unwrap()), ("SNOWBANK_TOKEN_FILE", "/nothing/here")]
    {
        let mut command = client.command(&["push", "main", &path]);
        command.env("SNOWBANK_URL", "http://127.0.0.1:9").env(environment.0, environment.1);
        let output = process::run(command);
        assert_eq!(output.code(), Some(3), "{output}");
        assert!(output.stderr.contains(environment.1), "names the file: {output}");
    }
}

#[test]
fn a_cache_that_is_not_there() {
    let (server, store) = (Server::start(), NixStore::new());
    let path = trees::add_tiny(&store, 1, "absent").remove(0);
    let push = Client::of(&server, &store).push_to("mian", &[&path], &[]).ended_with(11);
    assert!(push.output.stderr.contains("mian"), "{}", push.output);
}

fn interrupted(signal: Signal, code: i32) {
    let (server, store) = (Server::start(), NixStore::new());
    let mut random = Random::fixed(101);
    let mut paths = trees::add_tiny(&store, 20, "early");
    for number in 0..16 {
        paths.push(trees::add_noise(&store, &mut random, &format!("late-{number}"), 4 << 20));
    }
    let client = Client::of(&server, &store);
    let push = client.start_push("main", &paths, &["--jobs", "1"]);
    process::wait_until("the first receipt", Duration::from_mins(1), || {
        !push.receipts_so_far().is_empty()
    });
    push.signal(signal);
    let push = push.wait_for(Duration::from_secs(30));
    assert_eq!(push.output.code(), Some(code), "{}", push.output);
    let receipts = push.receipts();
    assert!(
        !receipts.is_empty() && receipts.len() < paths.len(),
        "{} of {} receipts",
        receipts.len(),
        paths.len()
    );
    let oracle = Oracle::main(&server);
    oracle.assert_receipts(&receipts);
    oracle.assert_nothing_in_part(&paths);
}

#[test]
fn a_cancelled_job_has_the_receipts_of_what_it_did_sigterm() {
    interrupted(Signal::TERM, 143);
}

#[test]
fn a_cancelled_job_has_the_receipts_of_what_it_did_sigint() {
    interrupted(Signal::INT, 130);
}
