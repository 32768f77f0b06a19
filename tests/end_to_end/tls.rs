//! A server that serves HTTPS by itself: to Nix, to the client and to others, over HTTP/1.1 and
//! HTTP/2, with a certificate that is renewed while it runs.

mod bad_files;
mod client_certificates;
mod handshakes;
mod renewal;

use std::{sync::Arc, time::Duration};

use reqwest::Version;
use snowbank_harness::{
    Api, Authority, Client, NixStore, Random, Server, craft,
    process::{self, Output, Running},
    trees,
};

/// How long something that the server does by itself may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A server with a certificate of an authority of its own.
fn start(toml: &str) -> (Arc<Authority>, Server) {
    start_with(toml, "")
}

/// As [`start`], with this at the beginning of its config file.
fn start_with(toml: &str, config: &str) -> (Arc<Authority>, Server) {
    let authority = Arc::new(Authority::new());
    let server = Server::options().config(config).tls(&authority, toml).metrics().start();
    (authority, server)
}

/// A client that trusts the authority.
fn client(authority: &Authority, store: &NixStore) -> Client {
    let mut client = Client::new(store);
    client.set_variable("NIX_SSL_CERT_FILE", authority.certificate());
    client
}

/// `snowbank login test URL ARGS` with the root token.
fn login(client: &Client, server: &Server, args: &[&str]) -> Output {
    let url = server.url();
    let all = [&["login", "test", &url], args].concat();
    Running::start(client.command(&all), server.root_token().as_bytes()).wait()
}

/// Asks the server with its root token, and shows it a certificate where it has one for visitors.
fn api(authority: &Authority, server: &Server) -> Api {
    let http = authority.http(Some(server.replicas()[0].visitor()));
    Api::with_client(&server.url(), Some(&server.root_token()), http)
}

/// The version of the Nix that is on the PATH, as far as its second number.
fn nix_version() -> (u32, u32) {
    let said = NixStore::new().run("nix", &["--version"]).success().stdout;
    let mut parts = said.trim().rsplit(' ').next().unwrap().split('.');
    let mut number = || parts.next().unwrap().parse().unwrap();
    (number(), number())
}

#[test]
fn the_client_pushes_and_nix_substitutes() {
    let (authority, server) = start("");
    assert!(server.url().starts_with("https://"));
    let shown = format!("Snowbank is listening on {}\n", server.url());
    let banner = server.banner();
    assert!(banner.starts_with(&shown) && banner.contains("`public-url`"), "{banner}");

    let (store, other) = (NixStore::new(), NixStore::new());
    let client = client(&authority, &store);
    let _ = login(&client, &server, &[]).success();
    let mut random = Random::announced("tls");
    let large = trees::add_noise(&store, &mut random, "large", 24 << 20);
    let mut paths = trees::add_tiny(&store, 40, "over-tls");
    paths.push(large);
    let _ = client.push(&paths).success();

    let url = format!("{}/main", server.url());
    let key = api(&authority, &server).cache_info("main").public_keys.join(" ");
    for http_2 in ["true", "false"] {
        let nix = NixStore::new();
        let mut command = nix.command("nix-store");
        command.args(["--realise", "--option", "substituters", &url, "--option"]);
        command.args(["trusted-public-keys", &key, "--option", "http2", http_2]);
        command.args(["--option", "connect-timeout", "60"]).args(&paths);
        if nix_version() >= (2, 26) {
            command.args(["--option", "ssl-cert-file"]).arg(authority.certificate());
        } else {
            command.env("NIX_SSL_CERT_FILE", authority.certificate());
        }
        let _ = Running::start(command, &[]).wait().success();
        assert_eq!(nix.hashes(&paths), store.hashes(&paths));
    }
    // Nix uploads as well, over HTTP/2.
    let uploaded = trees::add_noise(&store, &mut random, "uploaded", 4 << 20);
    let netrc = client.home().join("netrc");
    let (host, token) = (server.address().ip(), server.root_token());
    process::write(&netrc, format!("machine {host} login nix password {token}\n"));
    let mut command = store.command("nix");
    command.args(["copy", "--to", &url, &uploaded, "--option", "netrc-file"]).arg(&netrc);
    command.env("NIX_SSL_CERT_FILE", authority.certificate());
    let _ = Running::start(command, &[]).wait().success();
    let hash = api(&authority, &server).get(&craft::narinfo("main", &uploaded));
    assert_eq!(hash.status.as_u16(), 200, "{}", hash.text());

    let refused = other.substitute(&url, &key, &paths);
    assert!(!refused.status.success(), "Nix does not know the authority: {refused}");
    let plain = server.counted("snowbank_tls_handshakes_total", &[("result", "plain-http")]);
    assert!(plain < 0.5, "{plain}");
}

#[test]
fn http_2_and_http_1_are_chosen_by_alpn_and_addresses_are_https() {
    let (authority, server) = start("");
    let base = server.url();
    let both = authority.http(None).build().unwrap();
    let old = authority.http(None).http1_only().build().unwrap();
    for (http, version) in [(both, Version::HTTP_2), (old, Version::HTTP_11)] {
        let answer = http.get(format!("{base}/api/v1/caches/main")).send().unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
        let text = answer.text().unwrap();
        let info: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(info["url"], format!("{base}/main"), "{text}");
    }
    // A client that knows nothing of ALPN, and the oldest version that is spoken.
    for (version, works) in [("-tls1_2", true), ("-tls1_1", false)] {
        let mut command = process::command("openssl", server.data_dir());
        command.args(["s_client", "-quiet", version, "-cipher", "DEFAULT@SECLEVEL=0"]);
        command.args(["-verify_return_error", "-CAfile"]).arg(authority.certificate());
        command.args(["-connect", &server.address().to_string()]);
        let request = b"GET /healthz HTTP/1.1\r\nHost: cache\r\nConnection: close\r\n\r\n";
        let output = Running::start(command, request).wait_for(Duration::from_secs(20));
        assert_eq!(output.stdout.starts_with("HTTP/1.1 200 OK"), works, "{version}: {output}");
    }
}

#[test]
fn a_unix_socket_stays_plain_and_is_not_taken_for_encrypted() {
    let authority = Authority::new();
    let scratch = snowbank_harness::Scratch::new("tls-unix");
    let pair = authority.issue_server(scratch.path(), "server", "127.0.0.1");
    let socket = format!("unix:{}", scratch.join("http.sock").display());
    let start = |args: &[&str]| {
        let mut command = process::command(process::binary("snowbankd"), scratch.path());
        command.args(["--data-dir", "data", "--tls-certificate-file"]).arg(&pair.certificate);
        command.arg("--tls-private-key-file").arg(&pair.key).args(args);
        Running::start(command, &[]).wait_for(Duration::from_secs(30))
    };
    let output = start(&["--listen", &socket]).ended_with(1);
    for part in ["`[tls]` is for sockets of TCP", "http.sock", "--listen"] {
        assert!(output.stderr.contains(part), "{part}: {output}");
    }
    let output = start(&["cache", "list"]).ended_with(2);
    assert!(output.stderr.contains("`--tls-certificate-file` is for serving"), "{output}");
}
