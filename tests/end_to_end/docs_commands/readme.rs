//! `README.md`: from the first start to a larger site, as on the page.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
};

use snowbank_harness::{
    Client, NixStore, Server, oracle::Oracle, postgres::Postgres, process, trees,
};

use super::NAME;
use crate::document::{Page, Step, Tables, Walk};

/// Stands for the server's address, and for the home folder of its user.
const ADDRESS: &str = "http://127.0.0.1:8080";
const HOME: &str = "/home/me";

const TABLES: Tables = Tables {
    not_run: &[
        ("snowbank", NAME),
        ("snowbankd token-key add", "docs/tokens.md, whose test runs it, explains it"),
        ("nix copy", "a measurement, which tests/bench repeats"),
        (
            "cargo install --locked --path server && cargo install --locked --path client",
            "it builds what this test runs",
        ),
        ("tests/run", "this test is a part of it"),
    ],
    given: &[(
        "snowbank cache copy blog production ./result",
        "snowbank push blog ./result && snowbank cache create production --public",
    )],
    ends_with: &[],
};

/// A derivation that `nix-build` finds in the folder.
pub(super) const DEFAULT_NIX: &str = r#"derivation {
  name = "made"; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
  args = [ "-ec" "echo made > $out" ];
}"#;

#[test]
fn every_command_of_the_readme_works() {
    let page = Page::read("README.md");
    let store = NixStore::new();
    let client = Client::new(&store);
    let mut walk = Walk::new(&client, TABLES);
    let data = client.home().join(".local/share/snowbank");
    let mut server = Server::options().data_dir(&data).start();
    walk.programs.add_command("snowbankd", &Command::new(process::binary("snowbankd")));

    let [hello, result] = ["hello-2.12", "website"]
        .map(|name| trees::add_files(&store, name, &[("index.html", name.as_bytes().to_vec())]));
    symlink(&result, walk.join("result")).unwrap();
    fs::write(walk.join("default.nix"), DEFAULT_NIX).unwrap();
    let world = store.instantiate(&DEFAULT_NIX.replace("made", "world")).remove(0);
    let _ = store.run("nix-store", &["--realise", &world]).success();
    let secret = client.home().join("secret");
    fs::write(&secret, server.root_token()).unwrap();
    let postgres = Postgres::start();
    let database = client.home().join("database-url");
    process::write(&database, postgres.create_database("snowbank"));
    fs::set_permissions(&database, PermissionsExt::from_mode(0o600)).unwrap();
    fs::create_dir(client.home().join("backup")).unwrap();
    for (example, value) in [
        (ADDRESS, server.url()),
        ("/run/secrets/snowbank", secret.display().to_string()),
        ("/nix/store/…-hello-2.12", hello),
        ("/nix/store/…-world.drv", world),
        ("/backup/", format!("{}/backup/", client.home().display())),
        ("/var/lib/snowbank/", format!("{}/", data.display())),
        ("/etc/snowbank/database-url", database.display().to_string()),
        // Here nobody can be asked.
        ("snowbank delete blog ./result", "snowbank delete blog ./result --yes".to_owned()),
    ] {
        walk.replace(example, value);
    }

    let mut has_started = false;
    for step in page.steps() {
        match &step {
            // Its start without any option is `first_start`'s matter.
            Step::Command { text, .. } if text == "snowbankd" => has_started = true,
            Step::Output(shown) => {
                let banner = server.banner();
                assert_eq!(as_on_the_page(&banner, &server, &client), *shown);
                for command in banner.lines().filter_map(|line| line.strip_prefix("  snowbank ")) {
                    let _ = walk.shell(&format!("snowbank {command}")).success();
                }
                assert!(Oracle::main(&server).visible(&result));
            }
            Step::Command { text, .. } if text.contains("migrate-database") => {
                assert!(server.terminate().success());
                walk.follow(&step);
            }
            _ => walk.follow(&step),
        }
    }
    assert!(has_started);
    walk.finish(18);
}

/// The banner with the page's address, home folder and key.
fn as_on_the_page(banner: &str, server: &Server, client: &Client) -> String {
    let key = snowbank_harness::Api::root(server).cache_info("main").public_keys.remove(0);
    let port = server.address().port().to_string();
    banner
        .replace(&server.url(), ADDRESS)
        .replace(&format!("0.0.0.0:{port}"), "0.0.0.0:8080")
        .replace(client.home().to_str().unwrap(), HOME)
        .replace(&key, "snowbank-0123456789-main-1:…")
}
