//! What is pushed and will disappoint is pushed with a warning: outputs of content-addressed
//! derivations, later signatures.

use snowbank_harness::{Client, NixStore, Server, oracle::Oracle, process, trees};

/// A derivation whose output's path follows from its contents, and one whose output's path does
/// not.
const CONTENT_ADDRESSED: &str = r#"let
  made = name: more: derivation ({
    inherit name; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
    args = [ "-ec" "echo $name > $out" ];
  } // more);
in [ (made "content-addressed" { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; })
     (made "plain" { }) ]"#;

#[test]
fn outputs_of_content_addressed_derivations_are_named() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let file = client.home().join("ca.nix");
    process::write(&file, CONTENT_ADDRESSED);
    let experimental = ["--option", "experimental-features", "nix-command ca-derivations"];
    let args = [&["--no-out-link", "--quiet", file.to_str().unwrap()][..], &experimental].concat();
    let built = store.run("nix-build", &args).success();
    let paths: Vec<&str> = built.stdout.lines().collect();
    let of = |end: &str| {
        *paths.iter().find(|path| path.ends_with(end)).unwrap_or_else(|| panic!("{end}: {paths:?}"))
    };

    // The second time they are there already, and are named all the same, since they were asked
    // for.
    for _time in 0..2 {
        let said = client.push(&paths).success().output.stderr;
        let warning = said
            .lines()
            .find(|line| line.contains("content-addressed derivations"))
            .unwrap_or_default();
        assert!(
            warning.contains(of("-content-addressed")) && !warning.contains(of("-plain")),
            "{said}"
        );
    }
    assert!(Oracle::main(&server).visible(of("-content-addressed")));
    let quiet = client.push_to("main", &paths, &["--quiet"]).success();
    assert_eq!(quiet.output.said(), "");
}

#[test]
fn a_later_signature_is_said_to_be_left_out() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let paths = trees::add_tiny(&store, 3, "signed");
    let sign = |name: &str, path: &str| {
        let (secret, _public) = store.make_key(name);
        let _ = store
            .run("nix", &["store", "sign", "--key-file", secret.to_str().unwrap(), path])
            .success();
    };
    sign("first-1", &paths[0]);
    let said = client.push(&paths).success().output.stderr;
    assert!(!said.contains("signature"), "what comes first comes along: {said}");
    let again = client.push(&paths).success().output.stderr;
    assert!(!again.contains("signature"), "and is there: {again}");

    sign("later-1", &paths[1]);
    let push = client.push_to("main", &paths, &["--json"]).success();
    let said = &push.output.stderr;
    assert!(said.contains(&format!("{} (later-1)", paths[1])), "{said}");
    assert!(
        !said.contains(&paths[0]) && said.contains("1 without their later signatures"),
        "{said}"
    );
    let summary = push.output.stdout.lines().last().unwrap_or_default();
    assert!(summary.contains("\"late_signatures\":1"), "{summary}");
}
