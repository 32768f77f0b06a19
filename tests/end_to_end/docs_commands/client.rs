//! `docs/client.md`: the configuration file and every command, as on the page.

use std::{fs, os::unix::fs::symlink};

use snowbank_harness::{Client, NixStore, Server, process, token, trees};

use super::{NAME, readme::DEFAULT_NIX};
use crate::document::{Page, Step, Tables, Walk};

const MACHINE: &str = "it changes this machine; the tests of `queue` do the same beside it";

const TABLES: Tables = Tables {
    not_run: &[
        ("snowbank", NAME),
        ("snowbankd", NAME),
        ("snowbank push", NAME),
        ("snowbank login", NAME),
        ("snowbank use", NAME),
        ("snowbank pin", NAME),
        ("snowbank hook", NAME),
        ("snowbank watch-store", NAME),
        ("snowbank exec", NAME),
        ("snowbank fetch", NAME),
        (
            "sudo snowbank watch-store main",
            "it goes on for ever; the tests of `watch_store` run it",
        ),
        ("snowbank cache copy", NAME),
        ("snowbankd pin …", NAME),
        ("chmod", NAME),
        ("nix store sign", NAME),
        ("sudo snowbank use main --system", "it changes this machine; `use_cache` does the same"),
        ("nix config show", "a command that `use` runs, and releases of Nix name it differently"),
        (
            "echo 'post-build-hook = /etc/nix/snowbank-hook' | sudo tee -a /etc/nix/nix.conf",
            MACHINE,
        ),
        ("sudo systemctl restart nix-daemon", MACHINE),
        ("sudo useradd --system --home-dir /var/lib/snowbank snowbank", MACHINE),
        ("sudo install -d -m 0755 /var/lib/snowbank", MACHINE),
        ("sudo install -d -m 2770 -o snowbank -g snowbank /var/lib/snowbank/queue", MACHINE),
        ("sudo cp snowbank-queue.service /etc/systemd/system/", MACHINE),
        ("sudo systemctl enable --now snowbank-queue", MACHINE),
        ("sudo chgrp snowbank /etc/snowbank/tokens/NAME", MACHINE),
        ("sudo chmod 0640 /etc/snowbank/tokens/NAME", MACHINE),
        ("snowbank login --system", NAME),
        ("nix copy --to", "the page names it, and nix_uploads shows it"),
        ("nix store copy-sigs", "the page names it, and nix_uploads shows it"),
    ],
    given: &[
        ("snowbank queue drop PATH…", "snowbank hook main"),
        ("snowbank queue wait --timeout 10m", "snowbank queue run --once"),
        ("snowbank pin rollback main latest", "snowbank pin main latest ./result-new"),
        (
            "snowbank fetch main --pin latest --receipts receipts.jsonl --out-link ./fetched",
            "snowbank push main ./result --receipts receipts.jsonl",
        ),
        ("curl -f https://cache.example.org/main/pins/latest", "snowbank pin main latest ./result"),
        (
            "snowbank pin set list latest ./result",
            "snowbank cache create list --public && snowbank push list ./result",
        ),
        ("snowbank pin main latest ./result", "snowbank push main ./result ./result-new"),
    ],
    ends_with: &[("snowbank login work URL \"$TOKEN\"", 2)],
};

/// A flake with one package, for `nix build` without arguments.
pub(super) fn flake() -> String {
    let system = format!("{}-linux", std::env::consts::ARCH);
    let package = DEFAULT_NIX.replace("builtins.currentSystem", &format!("{system:?}"));
    format!("{{ outputs = _: {{ packages.{system}.default = {package}; }}; }}\n")
}

#[test]
fn every_command_of_the_page_about_the_client_works() {
    let page = Page::read("docs/client.md");
    let (server, upstream, store) = (Server::start(), Server::start(), NixStore::new());
    let client = Client::new(&store);
    let mut walk = Walk::new(&client, TABLES);
    let [result, newer, listed] = ["website", "website-new", "listed"]
        .map(|name| trees::add_files(&store, name, &[("index.html", name.as_bytes().to_vec())]));
    symlink(&result, walk.join("result")).unwrap();
    symlink(&newer, walk.join("result-new")).unwrap();
    fs::write(walk.join("flake.nix"), flake()).unwrap();
    fs::write(walk.join("default.nix"), DEFAULT_NIX).unwrap();
    fs::write(walk.join("token"), server.root_token()).unwrap();
    let secret = client.home().join("secret");
    process::write(&secret, server.root_token());
    let unwanted = server.token("unwanted", &["main"], &[]);
    let id = token::claims(&unwanted)["jti"].as_str().unwrap().to_owned();
    walk.set("CACHE_TOKEN", server.root_token());
    walk.set("TOKEN", &unwanted);
    walk.set("SNOWBANK_QUEUE", client.home().join("queue").display().to_string());
    walk.set("OUT_PATHS", format!("{result} {listed}"));
    for (example, value) in [
        ("https://cache.example.org", server.url()),
        ("https://upstream.example.org", format!("{}/main", upstream.url())),
        ("/run/secrets/snowbank", secret.display().to_string()),
        ("work URL", format!("work {}", server.url())),
        ("[[SERVER:]CACHE]", "work:main".to_owned()),
        ("[SERVER:]CACHE…", "work:main".to_owned()),
        ("[SERVER]", "work".to_owned()),
        ("use CACHE ", "use main ".to_owned()),
        ("revoke ID", format!("revoke {id}")),
        ("--realise PATH", format!("--realise {listed}")),
        ("/etc/nix/snowbank-hook", client.home().join("snowbank-hook").display().to_string()),
        ("--write FILE", format!("--write {}", client.home().join("hook").display())),
        // The result of another command is in use below.
        ("-- nix-build", "-- nix-build --no-out-link".to_owned()),
        // Without it, a queue is pushed for ever.
        ("queue run", "queue run --once".to_owned()),
        (" [PATH…]", String::new()),
        ("drop PATH…", format!("drop {listed}")),
    ] {
        walk.replace(example, value);
    }
    for step in page.steps() {
        if let Step::File { language, text } = &step {
            assert_eq!(language, "toml");
            let file = client.home().join(".config/snowbank/client.toml");
            process::write(&file, walk.filled(text));
            let _ = walk.shell("snowbank whoami work && snowbank whoami").success();
        }
        walk.follow(&step);
        if matches!(&step, Step::Command { text, .. } if text.contains("\"$TOKEN\"")) {
            let output = walk.shell("snowbank login work URL \"$TOKEN\" || true");
            assert!(!output.said().contains(&unwanted), "{output}");
        }
    }
    let printed = walk.shell(&format!("curl -f {}/main/pins/latest", server.url())).success();
    assert_eq!(printed.stdout.trim(), result);
    walk.finish(32);
}
