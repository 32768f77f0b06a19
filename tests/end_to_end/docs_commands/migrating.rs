//! `docs/migrating.md`: a token of attic under its configuration, and its commands. The tables only
//! name commands, which other pages explain.

use std::{fs, os::unix::fs::PermissionsExt};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use snowbank_harness::{Api, Client, NixStore, Server, process};

use crate::document::{Page, Step, Tables, Walk};

const TABLES: Tables = Tables {
    not_run: &[],
    given: &[
        ("snowbankd cache create team --private --signing-key-file team.key", "mv ../team.key ."),
        ("snowbankd cache create main2 --signing-key-file cache.key", "mv ../cache.key ."),
    ],
    ends_with: &[],
};

#[test]
fn what_the_page_about_migrating_keeps_is_kept() {
    let page = Page::read("docs/migrating.md");
    let store = NixStore::new();
    let client = Client::new(&store);
    let mut walk = Walk::new(&client, TABLES);
    let secret = [9; 48];
    let file = client.home().join("attic-secret");
    process::write(&file, BASE64_STANDARD.encode(secret));
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    walk.replace("/etc/snowbank/attic-secret", file.display().to_string());
    let config = walk.filled(&page.files("toml").concat());
    let server = Server::options().config(&config).start();
    walk.programs.add_command("snowbankd", &server.replicas()[0].command_line());
    let (team, team_public) = store.make_key("attic-team");
    let (cache, _) = store.make_key("harmonia");
    for (key, name) in [(team, "team.key"), (cache, "cache.key")] {
        let copy = client.home().join(name);
        fs::copy(key, &copy).unwrap();
        fs::set_permissions(&copy, PermissionsExt::from_mode(0o600)).unwrap();
    }
    for step in page.steps() {
        if !matches!(step, Step::Command { is_inline: true, .. }) {
            walk.follow(&step);
        }
    }
    walk.finish(2);

    let claims = json!({
        "sub": "meow", "exp": 4_102_324_986_u64,
        "https://jwt.attic.rs/v1": {"caches": {"team": {"r": 1}}},
    });
    let key = EncodingKey::from_secret(&secret);
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
    let api = Api::new(&server.url(), Some(&token));
    let shown: Value = api.get("/_api/v1/cache-config/team").json();
    assert_eq!(shown["public_key"], json!(team_public));
}
