//! `docs/storage.md`: a server starts with the page's configuration, and serves what was pushed.

use snowbank_harness::{
    Client, NixStore, Server,
    oracle::Oracle,
    s3::{ACCESS_KEY_ID, BUCKET, S3Server, SECRET_ACCESS_KEY},
    scratch, trees,
};

use crate::document::{Page, Tables, Walk};

#[test]
fn the_configuration_of_the_page_about_storage_works() {
    let page = Page::read("docs/storage.md");
    let (s3, store) = (S3Server::start(), NixStore::new());
    let client = Client::new(&store);
    let mut walk = Walk::new(&client, Tables::default());
    let packs = client.home().join("packs");
    for (example, value) in [
        ("\"team-cache\"", format!("{BUCKET:?}")),
        ("https://s3.example.org", format!("http://{}", s3.address())),
        ("secret-access-key = \"…\"", format!("secret-access-key = {SECRET_ACCESS_KEY:?}")),
        ("access-key-id = \"…\"", format!("access-key-id = {ACCESS_KEY_ID:?}")),
        ("/var/cache/snowbank", packs.display().to_string()),
    ] {
        walk.replace(example, value);
    }
    let config = walk.filled(&page.files("toml").concat());
    let mut server = Server::options().config(&config).start();
    let paths = trees::add_tiny(&store, 3, "bucket");
    let _ = Client::of(&server, &store).push(&paths).success();
    assert!(scratch::files_beneath(&s3.folder().join(BUCKET).join("packs")) > 0);
    assert!(scratch::files_beneath(&packs) > 0, "packs are kept on this machine's disk");
    server.restart();
    Oracle::main(&server).assert_mirrors(&store, &paths);
    for step in page.steps() {
        walk.follow(&step);
    }
    walk.finish(0);
}
