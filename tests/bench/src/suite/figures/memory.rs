//! The most memory that either end holds when there is a great deal to do.

use std::time::Duration;

use anyhow::{Result, ensure};
use snowbank_harness::{Client, NixStore, Server, client::RunningPush, oracle::Oracle};

use crate::suite::{
    Suite,
    load::{download, rounds},
    report::{Target, number},
    series::Series,
    work::{mebibytes, megabytes, push},
};

const LIMIT: Duration = Duration::from_hours(1);
const MAX_MEMORY: Target = Target::AtMost(192.0);

/// Pushes at once, pulls at once, and one very large path. The worst run counts.
pub(crate) fn run(suite: &Suite) -> Result<()> {
    pushes(suite)?;
    pulls(suite)?;
    large(suite)?;
    suite.report.detail(format!("runs: {}, the worst counts", suite.few_runs()));
    Ok(())
}

fn pushes(suite: &Suite) -> Result<()> {
    const CLIENTS: usize = 8;
    let (store, trees) = (suite.corpus.store(), suite.corpus.trees()?);
    let (mut server_peak, mut client_peak, mut wall) =
        (Series::default(), Series::default(), Series::default());
    for _ in 0..suite.few_runs() {
        let mut server = Server::start();
        let clients: Vec<Client> = (0..CLIENTS).map(|_| Client::of(&server, store)).collect();
        let pushes: Vec<_> =
            clients.iter().map(|client| client.start_push("main", &trees.paths, &[])).collect();
        let pushes: Vec<_> = wait_all(pushes);
        server_peak.push(mebibytes(server.peak_rss_bytes()));
        for (elapsed, peak) in pushes {
            client_peak.push(mebibytes(peak));
            wall.push(elapsed);
        }
    }
    let what = format!("peak memory, push (a) with {CLIENTS} clients at once");
    suite.report.worst(&format!("{what}: server"), &server_peak, "MiB", MAX_MEMORY);
    suite.report.worst(&format!("{what}: client"), &client_peak, "MiB", MAX_MEMORY);
    suite.report.detail(format!("the slowest of the {CLIENTS} took {} s", number(wall.greatest())));
    Ok(())
}

/// Seconds and peak memory of each, all watched to their ends.
fn wait_all(mut pushes: Vec<RunningPush>) -> Vec<(f64, u64)> {
    // Asking takes note of the memory held so far, which nobody can tell any more once a process
    // has ended.
    while pushes.iter_mut().map(|push| usize::from(!push.is_done())).sum::<usize>() > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let ended = |push: RunningPush| {
        let output = push.wait_for(LIMIT).success().output;
        (output.elapsed.as_secs_f64(), output.peak_rss)
    };
    pushes.into_iter().map(ended).collect()
}

fn pulls(suite: &Suite) -> Result<()> {
    const CONNECTIONS: usize = 64;
    let (store, trees) = (suite.corpus.store(), suite.corpus.trees()?);
    let (mut peak, mut rate) = (Series::default(), Series::default());
    for _ in 0..suite.few_runs() {
        let mut pusher = Server::start();
        let _ = push(&pusher, store, &trees.paths);
        let oracle = Oracle::main(&pusher);
        let nar = |path: &String| oracle.narinfo(path).map(|info| format!("/main/{}", info.url));
        let nars: Vec<String> = trees.paths.iter().filter_map(nar).collect();
        // What the push took is no part of it.
        let data_dir = pusher.data_dir().to_path_buf();
        ensure!(pusher.terminate().success(), "snowbankd did not end well: {}", pusher.log());
        let mut server = Server::options().data_dir(&data_dir).start();
        // Each connection has something to do from beginning to end.
        let targets = rounds(&nars, (4 * CONNECTIONS).div_ceil(nars.len()));
        rate.push(download(server.address(), &targets, CONNECTIONS)?.rate());
        peak.push(mebibytes(server.peak_rss_bytes()));
    }
    let what = format!("peak memory, pull of (a) with {CONNECTIONS} connections: server");
    suite.report.worst(&what, &peak, "MiB", MAX_MEMORY);
    suite.report.detail(format!("{} MB/s of wire", number(rate.median())));
    Ok(())
}

fn large(suite: &Suite) -> Result<()> {
    let (store, path) = suite.corpus.large()?;
    let (mut client_peak, mut pushing, mut pulling) =
        (Series::default(), Series::default(), Series::default());
    let (mut wall, mut fetching) = (Series::default(), Series::default());
    for _ in 0..suite.few_runs() {
        let mut server = Server::start();
        let pushed = push(&server, store, &path.paths);
        client_peak.push(mebibytes(pushed.client_peak));
        pushing.push(mebibytes(server.peak_rss_bytes()));
        wall.push(pushed.wall);
        server.restart();
        let other = NixStore::new();
        let (url, key) = (format!("{}/main", server.url()), Oracle::main(&server).public_key());
        let fetched = other.copy_from(&url, &key, &path.paths).success();
        fetching.push(fetched.elapsed.as_secs_f64());
        pulling.push(mebibytes(server.peak_rss_bytes()));
    }
    let what = format!("peak memory, one path of {} MiB", suite.scale.large_mebibytes);
    suite.report.worst(&format!("{what}, pushed and pulled: server"), &pulling, "MiB", MAX_MEMORY);
    suite.report.worst(&format!("{what}: client"), &client_peak, "MiB", MAX_MEMORY);
    suite.report.detail(format!(
        "{} MB of NAR pushed in {} s with {} MiB of the server's, fetched by Nix in {} s",
        number(megabytes(path.nar_bytes())),
        number(wall.median()),
        number(pushing.greatest()),
        number(fetching.median())
    ));
    Ok(())
}
