//! Uploads by Nix itself: `nix copy --to`, and what its requests may be besides.

mod damage;
mod files;
mod limits;
mod requests;
mod through_nix;

use std::path::PathBuf;

use snowbank_harness::{NixStore, Server, process};

/// A netrc by which `store` pushes to every cache of `server`, and the option that names it.
fn netrc(server: &Server, store: &NixStore) -> [String; 3] {
    let file: PathBuf = store.root().with_file_name("netrc");
    let token = server.token("nix", &["*"], &["*"]);
    let machine = server.address().ip();
    process::write(&file, format!("machine {machine} login nix password {token}\n"));
    ["--option".to_owned(), "netrc-file".to_owned(), file.display().to_string()]
}

/// `nix copy --to` of these paths with their closure.
fn copy(
    server: &Server,
    store: &NixStore,
    cache_and_options: &str,
    paths: &[String],
) -> process::Output {
    start_copy(server, store, cache_and_options, paths).wait_for(std::time::Duration::from_mins(5))
}

fn start_copy(
    server: &Server,
    store: &NixStore,
    cache_and_options: &str,
    paths: &[String],
) -> process::Running {
    let mut command = store.command("nix");
    let url = format!("{}/{cache_and_options}", server.url());
    command.args(["copy", "--to", &url]).args(netrc(server, store)).args(paths);
    process::Running::start(command, &[])
}
