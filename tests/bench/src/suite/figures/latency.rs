//! Reading when the storage is far away: each request to it takes 30 ms longer, and the server
//! begins cold.

use std::time::Duration;

use anyhow::{Context as _, Result};
use snowbank_harness::{NixStore, oracle::Oracle};

use super::closure::Fetched;
use crate::{
    far::FarServer,
    storage_latency,
    suite::{
        Suite,
        report::{Target, number},
        series::{Series, float},
        work::{FileCache, in_turns, mebibytes, megabytes, push},
    },
};

const LATENCY: Duration = Duration::from_millis(30);

/// One large NAR, and the closure of (c).
pub(crate) fn run(suite: &Suite) -> Result<()> {
    large(suite)?;
    closure(suite)
}

fn large(suite: &Suite) -> Result<()> {
    let (mut far, store) = (FarServer::start(LATENCY), NixStore::new());
    let path = storage_latency::add(&store, suite.scale.far_megabytes);
    let _ = push(&far.server, &store, std::slice::from_ref(&path));
    let info = Oracle::main(&far.server).narinfo(&path).context("the path is not there")?;
    let (mut rate, mut gets) = (Series::default(), Series::default());
    for _ in 0..suite.runs {
        far.server.restart();
        let before = far.gets();
        let (_, elapsed) = far.download(&info.url)?;
        rate.push(megabytes(info.nar_size) / elapsed.as_secs_f64());
        gets.push(float(far.gets() - before));
    }
    let what = format!("storage latency 30 ms, cold: one NAR of {} MB", suite.scale.far_megabytes);
    suite.report.measured(&what, &rate, "MB/s of NAR", Target::AtLeast(100.0));
    suite.report.detail(format!(
        "{} requests to the storage per download, server's peak memory {} MiB",
        number(gets.median()),
        number(mebibytes(far.server.peak_rss_bytes()))
    ));
    Ok(())
}

fn closure(suite: &Suite) -> Result<()> {
    let (store, paths) = suite.corpus.tiny()?;
    let mut far = FarServer::start(LATENCY);
    let _ = push(&far.server, store, &paths.paths);
    let (url, key) = (format!("{}/main", far.server.url()), Oracle::main(&far.server).public_key());
    let files = FileCache::of(store, &paths.paths);
    let (mut ours, mut peer, mut gets) =
        (Fetched::default(), Fetched::default(), Series::default());
    in_turns(
        suite.runs,
        || {
            far.server.restart();
            let before = far.gets();
            ours.fetch(&url, &key, &paths.paths);
            gets.push(float(far.gets() - before));
            Ok(())
        },
        || {
            peer.fetch(&files.nginx.url(), &files.key, &paths.paths);
            Ok(())
        },
    )?;
    let what = "storage latency 30 ms, cold: closure of (c), by nginx without that latency: wall";
    suite.report.compared(what, &ours.wall, &peer.wall, "s", Target::AtMost(2.0));
    let gets = number(gets.median());
    suite.report.detail(format!(
        "closure of (c): {} paths, {gets} requests to the storage",
        paths.paths.len()
    ));
    Ok(())
}
