//! A server on a Unix socket: who may connect, what happens to a file that is there already, and
//! whom the audit log names.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::Path,
    process::Command,
    time::Duration,
};

use rustix::process::Signal;
use snowbank_harness::{
    Scratch,
    process::{self, Output, Running},
};

const LIMIT: Duration = Duration::from_mins(1);

/// A `snowbankd` on `SCRATCH/http.sock`.
fn serve(scratch: &Scratch, data: &str, config: &str) -> Command {
    let socket = scratch.join("http.sock");
    let file = scratch.join(format!("{data}.toml"));
    process::write(&file, format!("listen = \"unix:{}\"\n{config}", socket.display()));
    let mut command = process::command(process::binary("snowbankd"), scratch.path());
    command.arg("--config").arg(file).arg("--data-dir").arg(scratch.join(data));
    command
}

fn start(scratch: &Scratch, config: &str) -> Running {
    let mut server = Running::start(serve(scratch, "data", config), &[]);
    process::wait_until("the server answers", LIMIT, || {
        assert!(!server.is_done(), "{}", server.stderr_so_far());
        curl(scratch, &["http://cache/readyz"]).status.success()
    });
    server
}

fn curl(scratch: &Scratch, args: &[&str]) -> Output {
    let mut command = process::command("curl", scratch.path());
    command.args(["--silent", "--show-error", "--fail", "--unix-socket"]);
    process::run({
        command.arg(scratch.join("http.sock")).args(args);
        command
    })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn clients_are_served_and_the_file_has_its_mode_and_goes_with_the_server() {
    let scratch = Scratch::new("unix-socket");
    let socket = scratch.join("http.sock");
    for (config, expected) in [("", 0o660), ("socket-mode = \"0606\"\n", 0o606)] {
        let server = start(&scratch, config);
        assert_eq!(mode(&socket), expected);
        let info = curl(&scratch, &["http://cache/main/nix-cache-info"]).success();
        assert!(info.stdout.contains("StoreDir: /nix/store"), "{info}");
        let details = curl(&scratch, &["http://cache/api/v1/caches/main"]).success();
        assert!(details.stdout.contains("main"), "{details}");
        server.signal(Signal::TERM);
        let output = server.wait().success();
        let first = format!("Snowbank is listening on unix:{}", socket.display());
        assert!(output.stdout.starts_with(&first), "{output}");
        assert!(output.stdout.contains("public-url") && !output.stdout.contains("http://"));
        assert!(!socket.exists(), "the file goes with the server");
    }
}

#[test]
fn a_dead_servers_file_is_replaced_a_live_ones_is_not_and_no_other_file_is_touched() {
    let scratch = Scratch::new("unix-socket");
    let socket = scratch.join("http.sock");
    let mut server = start(&scratch, "");
    server.kill();
    process::wait_until("the server is dead", LIMIT, || UnixStream::connect(&socket).is_err());
    assert!(socket.exists(), "a dead server leaves its file");
    drop(server);
    let server = start(&scratch, "");

    let second = Running::start(serve(&scratch, "other", ""), &[]).wait_for(LIMIT);
    assert_eq!(second.code(), Some(1), "{second}");
    let expected = format!("another server listens on unix:{}", socket.display());
    assert!(second.stderr.contains(&expected), "{second}");
    let _ = curl(&scratch, &["http://cache/readyz"]).success();
    server.signal(Signal::TERM);
    let _ = server.wait().success();

    process::write(&socket, "precious");
    let refused = Running::start(serve(&scratch, "other", ""), &[]).wait_for(LIMIT);
    assert_eq!(refused.code(), Some(1), "{refused}");
    assert!(refused.stderr.contains("something else than a socket"), "{refused}");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

#[test]
fn a_forwarded_address_is_believed_where_the_socket_is_a_trusted_proxy() {
    for (config, expected) in
        [("", "unix"), ("trusted-proxies = [\"unix\", \"10.0.0.0/8\"]\n", "192.0.2.7")]
    {
        let scratch = Scratch::new("unix-socket");
        let server = start(&scratch, config);
        let token = fs::read_to_string(scratch.join("data/root-token")).unwrap();
        let forwarded = ["--header", "X-Forwarded-For: 198.51.100.1, 192.0.2.7, 10.1.1.1"];
        let authorization = format!("Authorization: Bearer {}", token.trim());
        let create = ["--header", &authorization, "--json", r#"{"name":"team"}"#];
        let url = ["http://cache/api/v1/caches"];
        let _ = curl(&scratch, &[&forwarded[..], &create[..], &url[..]].concat()).success();
        let ask = ["--header", &authorization, "http://cache/api/v1/audit"];
        let audit = curl(&scratch, &ask).success();
        let expected = format!("\"{expected}\"");
        assert!(audit.stdout.contains(&expected), "{expected}: {audit}");
        server.signal(Signal::TERM);
        let _ = server.wait().success();
    }
}

#[test]
fn many_connections_without_address_leave_room_for_health_checks() {
    let scratch = Scratch::new("unix-socket");
    let config = "[limits]\nconnections = 8\nconnections-per-address = 2\n";
    let server = start(&scratch, config);
    let socket = scratch.join("http.sock");
    // More than there are places in all, and silent: each new one takes the place of the oldest.
    let silent: Vec<UnixStream> = (0..64).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    for _ in 0..8 {
        let _ = curl(&scratch, &["http://cache/main/nix-cache-info"]).success();
    }
    drop(silent);
    server.signal(Signal::TERM);
    let _ = server.wait().success();
}
