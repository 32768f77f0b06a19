//! `docs/ci.md`: its commands. `ci_jobs` runs the action and the template.

use std::{fs, os::unix::fs::symlink};

use snowbank_harness::{Client, NixStore, Server, oracle::Oracle, trees};

use super::{NAME, readme::DEFAULT_NIX};
use crate::document::{Page, Tables, Walk};

const TABLES: Tables = Tables {
    not_run: &[("snowbank", NAME), ("snowbank push", NAME), ("snowbank fetch", NAME)],
    given: &[],
    ends_with: &[],
};

#[test]
fn every_command_of_the_page_about_ci_works() {
    let page = Page::read("docs/ci.md");
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let mut walk = Walk::new(&client, TABLES);
    let result = trees::add_files(&store, "website", &[("index.html", b"text".to_vec())]);
    symlink(&result, walk.join("result")).unwrap();
    fs::write(walk.join("default.nix"), DEFAULT_NIX).unwrap();
    walk.replace("https://cache.example.org", server.url());
    for step in page.steps() {
        walk.follow(&step);
    }
    let oracle = Oracle::main(&server);
    oracle.assert_whole(&result);
    oracle.assert_whole(fs::read_link(walk.join("result")).unwrap().to_str().unwrap());
    walk.finish(6);
}
