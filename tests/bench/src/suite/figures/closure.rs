//! Whole closures into an empty store, by Nix itself, from us and from nginx with what `nix copy`
//! has written.

use anyhow::Result;
use snowbank_harness::{NixStore, Server, oracle::Oracle};

use crate::suite::{
    Suite,
    corpus::Paths,
    report::{Target, number},
    series::Series,
    work::{FileCache, in_turns, push, seconds_from, settle},
};

/// (a) and (c).
pub(crate) fn run(suite: &Suite) -> Result<()> {
    one(suite, "(a)", suite.corpus.store(), suite.corpus.trees()?)?;
    let (store, paths) = suite.corpus.tiny()?;
    one(suite, "(c)", store, paths)
}

fn one(suite: &Suite, name: &str, store: &NixStore, paths: &Paths) -> Result<()> {
    let server = Server::start();
    let _ = push(&server, store, &paths.paths);
    let (url, key) = (format!("{}/main", server.url()), Oracle::main(&server).public_key());
    let files = FileCache::of(store, &paths.paths);
    let (mut ours, mut peer) = (Fetched::default(), Fetched::default());
    let mut cpu = Series::default();
    in_turns(
        suite.runs,
        || {
            let before = server.cpu_time();
            ours.fetch(&url, &key, &paths.paths);
            cpu.push(seconds_from(before, server.cpu_time()));
            Ok(())
        },
        || {
            peer.fetch(&files.nginx.url(), &files.key, &paths.paths);
            Ok(())
        },
    )?;
    let what = format!("closure of {name} into an empty store: wall");
    suite.report.compared(&what, &ours.wall, &peer.wall, "s", Target::AtMost(1.05));
    suite.report.detail(format!(
        "{name}: CPU seconds of Nix {} and, from nginx, {}, of our server {}",
        number(ours.cpu.median()),
        number(peer.cpu.median()),
        number(cpu.median())
    ));
    Ok(())
}

/// What fetches by Nix took, run by run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) wall: Series,
    pub(crate) cpu: Series,
}

impl Fetched {
    /// Has Nix fetch `paths` into a new store.
    pub(crate) fn fetch(&mut self, url: &str, key: &str, paths: &[String]) {
        let store = NixStore::new();
        settle();
        let output = store.copy_from(url, key, paths).success();
        self.wall.push(output.elapsed.as_secs_f64());
        self.cpu.push(output.cpu.as_secs_f64());
    }
}
