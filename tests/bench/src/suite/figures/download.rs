//! NARs over HTTP from a warm server, beside nginx with the very same bytes in files: the most that
//! HTTP gives here.

use anyhow::Result;
use snowbank_harness::Server;

use crate::suite::{
    Suite,
    load::{download, rounds},
    report::{Target, number},
    series::Series,
    work::{Mirror, gigabytes, in_turns, mebibytes, megabytes, push, seconds_from},
};

/// (a) over one and over five connections.
pub(crate) fn trees(suite: &Suite) -> Result<()> {
    let (store, trees) = (suite.corpus.store(), suite.corpus.trees()?);
    let mut server = Server::start();
    let _ = push(&server, store, &trees.paths);
    let mirror = Mirror::of(&server, &trees.paths)?;
    let targets = rounds(&mirror.nars, suite.scale.passes);
    let report = &suite.report;
    for connections in [1, 5] {
        // Both warm.
        let bytes = download(server.address(), &mirror.nars, connections)?.bytes;
        let _ = download(mirror.nginx.address(), &mirror.nars, connections)?;
        let (mut ours, mut peer) = (Series::default(), Series::default());
        let (mut cpu, mut peer_cpu) = (Series::default(), Series::default());
        in_turns(
            suite.runs,
            || {
                let before = server.cpu_time();
                let done = download(server.address(), &targets, connections)?;
                ours.push(done.rate());
                cpu.push(seconds_from(before, server.cpu_time()) / gigabytes(done.bytes));
                Ok(())
            },
            || {
                let before = mirror.nginx.cpu_time();
                let done = download(mirror.nginx.address(), &targets, connections)?;
                peer.push(done.rate());
                peer_cpu
                    .push(seconds_from(before, mirror.nginx.cpu_time()) / gigabytes(done.bytes));
                Ok(())
            },
        )?;
        let plural = if connections == 1 { "" } else { "s" };
        let what = format!("NAR download, warm, {connections} connection{plural}");
        report.compared(&format!("{what}: wire rate"), &ours, &peer, "MB/s", Target::AtLeast(0.7));
        report.measured(
            &format!("{what}: server CPU per GB of wire"),
            &cpu,
            "s/GB",
            Target::AtMost(0.3),
        );
        report.detail(format!(
            "{what}: {} NARs of {} MB of wire, {} times per run, nginx's CPU {} s/GB",
            mirror.nars.len(),
            number(megabytes(bytes)),
            suite.scale.passes,
            number(peer_cpu.median())
        ));
    }
    report
        .detail(format!("server's peak memory {} MiB", number(mebibytes(server.peak_rss_bytes()))));
    report.detail("peer: nginx serving, from files, the bytes that our server sends");
    Ok(())
}

/// (c) over sixteen connections.
pub(crate) fn tiny(suite: &Suite) -> Result<()> {
    const CONNECTIONS: usize = 16;
    let (store, paths) = suite.corpus.tiny()?;
    let server = Server::start();
    let _ = push(&server, store, &paths.paths);
    let mirror = Mirror::of(&server, &paths.paths)?;
    let bytes = download(server.address(), &mirror.nars, CONNECTIONS)?.bytes;
    let _ = download(mirror.nginx.address(), &mirror.nars, CONNECTIONS)?;
    let (mut ours, mut peer, mut cpu) = (Series::default(), Series::default(), Series::default());
    in_turns(
        suite.runs,
        || {
            let before = server.cpu_time();
            ours.push(download(server.address(), &mirror.nars, CONNECTIONS)?.time.as_secs_f64());
            cpu.push(seconds_from(before, server.cpu_time()));
            Ok(())
        },
        || {
            peer.push(
                download(mirror.nginx.address(), &mirror.nars, CONNECTIONS)?.time.as_secs_f64(),
            );
            Ok(())
        },
    )?;
    let what = format!("{} tiny NARs, {CONNECTIONS} connections: time", paths.paths.len());
    suite.report.compared(&what, &ours, &peer, "s", Target::AtMost(1.3));
    suite.report.detail(format!(
        "{} MB of wire, server's CPU {} s",
        number(megabytes(bytes)),
        number(cpu.median())
    ));
    Ok(())
}
