//! What can be pushed: store paths, symlinks, files inside paths, derivations' outputs, standard
//! input.

use std::os::unix::fs::symlink;

use snowbank_core::receipt::{ReceiptLine, UpstreamReason};
use snowbank_harness::{Client, NixStore, Server, oracle::Oracle, process, trees};

/// A derivation with two outputs.
const OUTPUTS: &str = r#"derivation {
  name = "outputs"; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
  outputs = [ "out" "dev" ];
  args = [ "-ec" "echo program > $out; mkdir $dev; echo $out > $dev/header" ];
}"#;

#[test]
fn symlinks_files_inside_and_outputs_of_derivations() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let closure = trees::build_graph(&store, 4, 2, "installable");
    let of = |end: &str| closure.iter().find(|path| path.ends_with(end)).unwrap().clone();
    let oracle = Oracle::main(&server);

    // A `result` symlink, relative to where the command runs.
    symlink(of("installable-0"), client.home().join("result")).unwrap();
    let _ = process::run(client.command(&["push", "main", "./result"])).success();
    assert!(oracle.visible(&of("installable-0")));

    let inside = format!("{}/share/doc/text", of("installable-1"));
    let _ = process::run(client.command(&["push", "main", &inside])).success();
    assert!(oracle.visible(&of("installable-1")));

    let derivation = store.instantiate(OUTPUTS).remove(0);
    let unbuilt = process::run(client.command(&["push", "main", &format!("{derivation}^out")]));
    assert!(!unbuilt.status.success() && unbuilt.stderr.contains("outputs"), "{unbuilt}");
    let _ = store.run("nix-store", &["--realise", &derivation]).success();
    let outputs: Vec<String> = store
        .run("nix-store", &["--query", "--outputs", &derivation])
        .success()
        .stdout
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(outputs.len(), 2);
    let dev = outputs.iter().find(|path| path.ends_with("-dev")).unwrap();
    let out = outputs.iter().find(|path| *path != dev).unwrap();
    let _ = process::run(client.command(&["push", "main", &format!("{derivation}^out")])).success();
    assert!(oracle.visible(out) && !oracle.visible(dev));
    let _ = process::run(client.command(&["push", "main", &format!("{derivation}^*")])).success();
    assert!(oracle.visible(dev));
    assert_eq!(
        oracle.narinfo(out).unwrap().deriver.map(|path| path.base_name()),
        derivation.strip_prefix("/nix/store/").map(str::to_owned)
    );

    // The derivation itself, with its closure of sources.
    let _ = process::run(client.command(&["push", "main", &derivation])).success();
    assert!(oracle.visible(&derivation));
}

#[test]
fn a_closure_goes_up_unless_told_otherwise() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let closure = trees::build_graph(&store, 8, 2, "closure");
    let top = closure.iter().find(|path| path.ends_with("closure-7")).unwrap();
    let below: Vec<String> = store.closure(&[top]).into_iter().filter(|path| path != top).collect();
    assert!(!below.is_empty());

    // Alone it is refused: what it refers to is not there.
    let refused = client.push_to("main", &[top], &["--no-closure"]).ended_with(12);
    assert!(
        below
            .iter()
            .any(|path| refused.output.stderr.contains(path.trim_start_matches("/nix/store/"))),
        "{}",
        refused.output
    );
    let oracle = Oracle::main(&server);
    assert!(!oracle.visible(top));

    let push = client.push(&[top]).success();
    assert_eq!(push.uploaded(), below.len() + 1);
    oracle.assert_mirrors(&store, &store.closure(&[top]));
}

#[test]
fn what_is_no_store_path_is_named() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let absent = "/nix/store/00000000000000000000000000000000-absent";
    for argument in ["/etc/hosts", "./nothing-here", absent, "hello"] {
        let output = process::run(client.command(&["push", "main", argument]));
        assert_eq!(output.code(), Some(4), "{argument}: {output}");
        assert!(output.stderr.contains(argument), "{argument}: {output}");
    }
    assert_eq!(process::run(client.command(&["push", "main"])).code(), Some(2));
    assert_eq!(process::run(client.command(&["push", "--no-such-flag"])).code(), Some(2));
}

#[test]
fn paths_signed_upstream_are_left_out_unless_asked_for() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let closure = trees::build_graph(&store, 3, 2, "upstream");
    let signed = closure.iter().find(|path| path.ends_with("upstream-0")).unwrap();
    // Signed by a key of upstream's name.
    let keys = client.home().join("key");
    let secret = keys.with_extension("secret");
    let (public, secret_text) = (keys.to_string_lossy(), secret.to_string_lossy());
    let _ = store
        .run(
            "nix-store",
            &["--generate-binary-cache-key", "cache.nixos.org-1", &secret_text, &public],
        )
        .success();
    let _ = store.run("nix", &["store", "sign", "--key-file", &secret_text, signed]).success();

    let push = client.push(&closure).success();
    let oracle = Oracle::main(&server);
    assert!(!oracle.visible(signed));
    assert_eq!(push.uploaded(), closure.len() - 1);
    let skipped = |line: &ReceiptLine| {
        matches!(line, ReceiptLine::SkippedUpstream { store_path, reason, .. }
            if store_path == signed && *reason == UpstreamReason::SignedBy("cache.nixos.org-1".to_owned()))
    };
    assert!(push.lines.iter().any(skipped), "{:?}", push.lines);

    let _ = client.push_to("main", &closure, &["--no-upstream-filter"]).success();
    let info = oracle.assert_whole(signed);
    assert!(
        info.signatures.iter().any(|one| one.name() == "cache.nixos.org-1"),
        "its own signature is served too"
    );
}

#[test]
fn json_receipts_and_a_summary_on_standard_output() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let paths = trees::add_tiny(&store, 5, "json");
    let push = client.push_to("main", &paths, &["--json"]).success();
    let lines: Vec<serde_json::Value> = push
        .output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    assert_eq!(
        lines.iter().filter(|line| line["status"] == "uploaded").count(),
        5,
        "{}",
        push.output
    );
    assert_eq!(lines.len(), 6, "five receipts and a summary: {}", push.output);

    let quiet = client.push_to("main", &paths, &["--quiet"]).success();
    assert_eq!(quiet.output.said(), "");
}
