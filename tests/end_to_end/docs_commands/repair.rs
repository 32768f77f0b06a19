//! `docs/repair.md`: its commands, and every option of its tables.

use std::os::unix::fs::symlink;

use snowbank_harness::{Client, NixStore, Server, trees};

use crate::document::{Page, Tables, Walk};

#[test]
fn every_command_and_option_of_the_page_about_repairs_works() {
    let page = Page::read("docs/repair.md");
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let mut walk = Walk::new(&client, Tables::default());
    walk.programs.add_command("snowbankd", &server.replicas()[0].command_line());
    let paths = trees::add_tiny(&store, 3, "website");
    symlink(&paths[0], walk.join("result")).unwrap();
    let _ = client.push(&paths).success();
    walk.replace("push --verify-present", "push main ./result --verify-present");
    walk.replace("withdrawn CACHE", "withdrawn main");
    for step in page.steps() {
        walk.follow(&step);
    }
    let mut count = 0;
    for command in ["snowbankd check", "snowbankd repair"] {
        let options = page.first_column(&format!("`{command}`"));
        for option in options.iter().filter(|option| option.starts_with("--")) {
            let option =
                option.replace("[CACHE:]PATTERN", "main:*website*").replace("FILE", "progress");
            let _ = walk.shell(&format!("{command} {option}")).success();
            count += 1;
        }
    }
    assert_eq!(count, 12, "options in the tables");
    walk.finish(8);
}
