//! A machine of several users, with a Nix daemon that trusts root alone.

use snowbank_core::receipt::ReceiptLine;
use snowbank_harness::{
    Client, NixStore, Server,
    nix::NixDaemon,
    nobody::Nobody,
    oracle::Oracle,
    process::{self, Running},
    trees,
};

/// A derivation with two outputs.
const OUTPUTS: &str = r#"derivation {
  name = "of-nobody"; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
  outputs = [ "out" "dev" ];
  args = [ "-ec" "echo program > $out; mkdir $dev; echo $out > $dev/header" ];
}"#;

#[test]
fn a_user_whom_the_daemon_does_not_trust_pushes_a_closure() {
    let (server, store) = (Server::start(), NixStore::new());
    let closure = trees::build_graph(&store, 20, 4, "untrusted");
    let daemon = NixDaemon::of(&store);
    let Some(nobody) = Nobody::of(&daemon, &store) else { return };
    let mut push = nobody.command(process::binary("snowbank"));
    push.args(["push", "main", "--stdin", "--json"]).env("SNOWBANK_URL", server.url());
    push.env("SNOWBANK_TOKEN", server.token("nobody", &[], &["main"]));
    let output = Running::start(push, closure.join("\n").as_bytes()).wait().success();
    let lines = output.stdout.lines().filter_map(|line| serde_json::from_str(line).ok());
    let receipts = lines.filter(|line| matches!(line, ReceiptLine::Receipt(_))).count();
    assert_eq!(receipts, closure.len(), "{output}");
    assert_eq!(output.stderr.matches("WARN").count(), 0, "{output}");
    Oracle::main(&server).assert_mirrors(&store, &closure);
}

#[test]
fn users_whom_no_daemon_trusts_build_push_and_fetch() {
    let (server, store, other) = (Server::start(), NixStore::new(), NixStore::new());
    let daemon = NixDaemon::of(&store);
    let Some(builder) = Nobody::of(&daemon, &store) else { return };
    process::write(&builder.home().join("default.nix"), OUTPUTS);
    let derivation = builder.run("nix-instantiate", &["--quiet"]).success().stdout;
    let _ = builder.run("nix-build", &["--quiet"]).success();
    let list = builder.run("nix-store", &["--realise", derivation.trim()]).success().stdout;
    let paths: Vec<String> = list.lines().map(str::to_owned).collect();
    assert_eq!(paths.len(), 2, "{list}");
    let outputs = format!("{}^*", derivation.trim());
    let token = server.token("nobody", &[], &["main"]);
    for installable in ["./result", &outputs] {
        let mut push = builder.command(process::binary("snowbank"));
        push.args(["push", "main", installable]).env("SNOWBANK_URL", server.url());
        push.env("SNOWBANK_TOKEN", &token);
        let _ = process::run(push).success();
    }
    Oracle::main(&server).assert_mirrors(&store, &paths);

    // An administrator has the other machine use the cache. Its users do nothing about it.
    let _ = Client::of(&server, &other).run(&["use", "main", "--system"]).success();
    let other_daemon = NixDaemon::of(&other);
    let Some(reader) = Nobody::of(&other_daemon, &other) else { return };
    let _ = reader.run("nix-store", &["--realise", &paths[0], &paths[1]]).success();
    assert_eq!(other.hashes(&paths), store.hashes(&paths));
}
