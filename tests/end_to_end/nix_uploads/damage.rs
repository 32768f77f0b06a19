//! NARs that are damaged, cut off, or sent while the server is killed.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use snowbank_harness::{
    Api, NixStore, Random, Server,
    craft::{Deposit, Node},
    oracle,
    oracle::Oracle,
    trees,
};

use super::start_copy;

/// What a program of the system makes of `input`.
pub fn compressed(program: &str, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn a_nar_that_is_none_or_is_cut_off_is_refused() {
    let server = Server::start();
    let (api, mut random) = (Api::root(&server), Random::fixed(1));
    let contents = random.bytes(3 << 20);
    let deposit = Deposit::of(&mut random, "cut", &Node::File(contents));
    let nar = &deposit.nar;
    for (name, body) in [
        ("empty.nar", Vec::new()),
        ("noise.nar", b"this is no archive at all".to_vec()),
        ("noise.nar.xz", b"this is no archive at all".to_vec()),
        ("cut.nar", nar[..nar.len() - 8].to_vec()),
        ("cut.nar", nar[..2 << 20].to_vec()),
        ("more.nar", [&nar[..], b"\0\0\0\0\0\0\0\0"].concat()),
        ("cut.nar.xz", {
            let mut file = compressed("xz", &nar[..1 << 20]);
            file.truncate(file.len() - 20);
            file
        }),
        ("text.nar.xz", compressed("xz", b"no archive")),
        ("cut.nar.zst", compressed("zstd", &nar[..1 << 20])),
        ("after.nar.gz", [compressed("gzip", nar), b"more".to_vec()].concat()),
    ] {
        let answer = api.put(&format!("/main/nar/{name}"), &[], body);
        let _ = answer.refused(422, "nar-invalid");
        assert_eq!(api.head(&format!("/main/nar/{name}")).status.as_u16(), 404, "{name}");
        let text = deposit.narinfo_text(name).into_bytes();
        let _ = api.put(&deposit.narinfo(), &[], text).refused(422, "nar-missing");
    }
    assert!(!Oracle::main(&server).visible(&deposit.store_path));
    oracle::assert_check_is_clean(&server);
}

#[test]
fn two_uploads_of_one_nar_at_the_same_time_both_succeed() {
    let server = Server::start();
    let mut random = Random::fixed(2);
    let contents = random.bytes(6 << 20);
    let deposit = Deposit::of(&mut random, "twice", &Node::File(contents));
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (server, deposit) = (&server, &deposit);
            scope.spawn(move || {
                let (api, file) = (Api::root(server), format!("file-{}.nar", number % 2));
                let answer = api.put(&format!("/main/nar/{file}"), &[], deposit.nar.clone());
                assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
                let text = deposit.narinfo_text(&file).into_bytes();
                let answer = api.put(&deposit.narinfo(), &[], text);
                assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
            });
        }
    });
    let _ = Oracle::main(&server).assert_whole(&deposit.store_path);
    let stored = server.stored_bytes();
    // Replicas do not know what others are storing at this moment.
    let most = (7 << 20) * server.replicas().len().min(4) as u64;
    assert!(stored < most, "{stored} bytes for 6 MiB");
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_server_that_is_killed_shows_nothing_in_part_and_the_copy_is_made_again() {
    let (mut server, store) = (Server::start(), NixStore::new());
    let mut random = Random::announced("a server that is killed during nix copy");
    let paths = trees::build_graph(&store, 8, 1500, "killed");
    let closure = store.closure(&paths);
    for round in 0..6 {
        let mut copying = start_copy(&server, &store, "main?compression=none", &paths);
        std::thread::sleep(Duration::from_millis(random.below(1200)));
        server.kill9();
        copying.kill();
        server.start_again();
        let visible = Oracle::main(&server).assert_nothing_in_part(&closure);
        println!("round {round}: {} of {} visible", visible.len(), closure.len());
    }
    let _ = super::copy(&server, &store, "main?compression=none", &paths).success();
    Oracle::main(&server).assert_mirrors(&store, &closure);
    oracle::assert_check_is_clean(&server);
}
