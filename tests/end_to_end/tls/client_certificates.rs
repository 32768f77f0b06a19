//! Certificates of clients: who has none is turned away and told what is missing, and the client and
//! Nix show theirs.

use snowbank_harness::{
    Authority, Client, NixStore, Server,
    authority::Pair,
    process::{self, Running},
    trees,
};

use super::{LIMIT, api, client, login, nix_version, start};

const REQUIRED: &str = "client-ca-file = \"@authority@\"";
const OPTIONAL: &str = "client-ca-file = \"@authority@\"\nclient-certificates = \"optional\"";

fn status(authority: &Authority, server: &Server, own: Option<&Pair>) -> reqwest::Result<u16> {
    let http = authority.http(own).build().unwrap();
    let answer = http.get(format!("{}/main/nix-cache-info", server.url())).send()?;
    Ok(answer.status().as_u16())
}

/// The arguments that name a certificate.
fn shows(own: &Pair) -> [String; 4] {
    [
        "--client-certificate-file".to_owned(),
        own.certificate.to_string_lossy().into_owned(),
        "--client-key-file".to_owned(),
        own.key.to_string_lossy().into_owned(),
    ]
}

#[test]
fn one_that_is_required_lets_in_who_has_it_and_nobody_else() {
    let (authority, server) = start(REQUIRED);
    let folder = server.replicas()[0].folder();
    let (own, stranger) = (authority.issue_client(folder, "own"), Authority::new());
    let (foreign, expired, of_a_server) = (
        stranger.issue_client(folder, "foreign"),
        authority.issue_expired_client(folder, "expired"),
        authority.issue_server(folder, "no-client", "127.0.0.1"),
    );
    assert_eq!(status(&authority, &server, Some(&own)).unwrap(), 200);
    let refused =
        || server.counted("snowbank_tls_handshakes_total", &[("result", "client-certificate")]);
    for (number, own) in
        [None, Some(&foreign), Some(&expired), Some(&of_a_server)].into_iter().enumerate()
    {
        let error = status(&authority, &server, own).unwrap_err();
        assert!(format!("{error:?}").contains("alert"), "{number}: the reason arrives: {error:?}");
        process::wait_until("it is counted", LIMIT, || {
            refused() >= f64::from(u32::try_from(number + 1).unwrap())
        });
    }
}

#[test]
fn one_that_is_optional_has_to_hold_where_it_is_shown() {
    let (authority, server) = start(OPTIONAL);
    let folder = server.replicas()[0].folder();
    let own = authority.issue_client(folder, "own");
    let foreign = Authority::new().issue_client(folder, "foreign");
    assert_eq!(status(&authority, &server, None).unwrap(), 200);
    assert_eq!(status(&authority, &server, Some(&own)).unwrap(), 200);
    let _ = status(&authority, &server, Some(&foreign)).unwrap_err();
}

#[test]
fn the_client_says_what_is_missing_and_pushes_once_it_has_it() {
    let (authority, server) = start(REQUIRED);
    let store = NixStore::new();
    let client = client(&authority, &store);
    let none = login(&client, &server, &[]).ended_with(3);
    for part in ["wants a client certificate", "client-certificate-file", "client.toml"] {
        assert!(none.stderr.contains(part), "{part}: {none}");
    }
    let folder = server.replicas()[0].folder();
    let foreign = Authority::new().issue_client(folder, "foreign");
    let args = shows(&foreign);
    let args = args.each_ref().map(String::as_str);
    let refused = login(&client, &server, &args).ended_with(3);
    for part in ["does not accept the client certificate in", "foreign.pem"] {
        assert!(refused.stderr.contains(part), "{part}: {refused}");
    }
    let half = login(&client, &server, &args[..2]).ended_with(2);
    assert!(half.stderr.contains("--client-key-file"), "{half}");

    let own = authority.issue_client(folder, "own");
    let args = shows(&own);
    let _ = login(&client, &server, &args.each_ref().map(String::as_str)).success();
    // A new token for the same server, with what the entry says of its certificate.
    let _ = login(&client, &server, &[]).success();
    let path = trees::add_tiny(&store, 1, "shown").remove(0);
    let _ = client.push(&[&path]).success();
    let _ = client.run(&["whoami"]).success();
    let answer = api(&authority, &server).get(&snowbank_harness::craft::narinfo("main", &path));
    assert_eq!(answer.status.as_u16(), 200);

    // As a CI job: all of it from the environment.
    let job = super::client(&authority, &store);
    let mut whoami = job.command(&["whoami"]);
    whoami.env("SNOWBANK_URL", server.url()).env("SNOWBANK_TOKEN", server.root_token());
    whoami.env("SNOWBANK_CLIENT_CERTIFICATE_FILE", &own.certificate);
    let half = Running::start(whoami, &[]).wait().ended_with(3);
    assert!(half.stderr.contains("SNOWBANK_CLIENT_KEY_FILE"), "{half}");
    let mut whoami = job.command(&["whoami"]);
    whoami.env("SNOWBANK_URL", server.url()).env("SNOWBANK_TOKEN", server.root_token());
    whoami.env("SNOWBANK_CLIENT_CERTIFICATE_FILE", &own.certificate);
    whoami.env("SNOWBANK_CLIENT_KEY_FILE", &own.key);
    process::run(whoami).succeeds();
}

#[test]
fn client_files_that_cannot_be_used_are_named() {
    let (authority, server) = start(REQUIRED);
    let store = NixStore::new();
    let client = client(&authority, &store);
    let folder = server.replicas()[0].folder();
    let (own, other) =
        (authority.issue_client(folder, "own"), authority.issue_client(folder, "other"));
    let missing = Pair { certificate: folder.join("missing.pem"), key: own.key.clone() };
    let crossed = Pair { certificate: own.certificate.clone(), key: other.key.clone() };
    for (pair, part) in [(&missing, "missing.pem cannot be read"), (&crossed, "other.key")] {
        let args = shows(pair);
        let output = login(&client, &server, &args.each_ref().map(String::as_str)).ended_with(3);
        for part in [part, "cannot be used"] {
            assert!(output.stderr.contains(part), "{part}: {output}");
        }
    }
}

#[test]
fn use_writes_what_nix_needs_to_show_one() {
    let (authority, server) = start(REQUIRED);
    let store = NixStore::new();
    let client: Client = client(&authority, &store);
    // A name that a nix.conf cannot hold as it is.
    let folder = client.home().join("my files");
    std::fs::create_dir(&folder).unwrap();
    let own = authority.issue_client(&folder, "own");
    let args = shows(&own);
    let _ = login(&client, &server, &args.each_ref().map(String::as_str)).success();
    let path = trees::add_tiny(&store, 1, "shown-by-nix").remove(0);
    let _ = client.push(&[&path]).success();
    let said = client.run(&["use", "main"]).success();
    let conf = std::fs::read_to_string(client.home().join(".config/nix/nix.conf")).unwrap();
    let url = format!("{}/main?tls-certificate=/", server.url());
    assert!(conf.contains(&url) && conf.contains("my%20files/own.key"), "{conf}");

    let fetch = || {
        let nix = NixStore::new();
        let mut command = nix.command("nix-store");
        command
            .env("HOME", client.home())
            .env("XDG_CONFIG_HOME", client.home().join(".config"))
            .env("NIX_SSL_CERT_FILE", authority.certificate())
            .env_remove("NIX_USER_CONF_FILES");
        command.args(["--realise", &path]);
        let output = process::run(command);
        (output.status.success() && nix.hashes(&[&path]) == store.hashes(&[&path]), output)
    };
    let can_show = nix_version() >= (2, 34);
    assert_eq!(said.stderr.contains("Nix 2.34"), !can_show, "{said}");
    let (fetched, output) = fetch();
    assert_eq!(fetched, can_show, "{output}");
    let doctor = client.run(&["doctor", "main"]);
    assert_eq!(doctor.status.success(), can_show, "{doctor}");
    let _ = client.run(&["use", "main", "--remove"]).success();
    assert!(!fetch().0, "nothing is left");
}
