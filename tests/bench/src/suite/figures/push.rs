//! A first push, beside `nix copy` into a folder: what a user would do without a server.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use snowbank_harness::{NixStore, Server};

use crate::suite::{
    Suite,
    corpus::Paths,
    machine,
    report::{Target, number},
    series::{Series, float},
    work::{copy_to_folder, database_bytes, gigabytes, in_turns, mebibytes, megabytes, push},
};

/// (a): time, and processor time of both ends.
pub(crate) fn trees(suite: &Suite) -> Result<()> {
    let (store, paths) = (suite.corpus.store(), suite.corpus.trees()?);
    let both = compare(suite, store, paths)?;
    let report = &suite.report;
    report.compared(
        "push (a), empty cache: wall",
        &both.wall,
        &both.peer_wall,
        "s",
        Target::AtMost(0.6),
    );
    report.measured(
        "push (a): server CPU per GB of NAR",
        &both.server_cpu,
        "s/GB",
        Target::AtMost(4.0),
    );
    report.measured(
        "push (a): client CPU per GB of NAR",
        &both.client_cpu,
        "s/GB",
        Target::AtMost(8.0),
    );
    both.explain(suite);
    dump_and_compress(suite, store, paths)
}

/// (c): paths per second.
pub(crate) fn tiny(suite: &Suite) -> Result<()> {
    let (store, paths) = suite.corpus.tiny()?;
    let both = compare(suite, store, paths)?;
    let rate = |wall: &Series| wall.map(|wall| float(paths.paths.len() as u64) / wall);
    let (ours, peer) = (rate(&both.wall), rate(&both.peer_wall));
    suite.report.compared(
        "push (c), tiny paths: rate",
        &ours,
        &peer,
        "paths/s",
        Target::AtLeast(2.0),
    );
    both.explain(suite);
    Ok(())
}

#[derive(Debug, Default)]
struct Both {
    corpus: String,
    wall: Series,
    server_cpu: Series,
    client_cpu: Series,
    peer_wall: Series,
    peer_cpu: Series,
    client_peak: Series,
    server_peak: Series,
    peer_peak: Series,
    stored: Series,
    database: Series,
    sent: Series,
    peer_stored: Series,
}

fn compare(suite: &Suite, store: &NixStore, paths: &Paths) -> Result<Both> {
    let per_gigabyte = |seconds: f64| seconds / gigabytes(paths.nar_bytes());
    let mut both = Both {
        corpus: format!(
            "{} paths, {} MB of NAR",
            paths.paths.len(),
            number(megabytes(paths.nar_bytes()))
        ),
        ..Both::default()
    };
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    in_turns(
        suite.runs,
        || {
            let mut server = Server::start();
            let pushed = push(&server, store, &paths.paths);
            ours.push((
                pushed,
                server.peak_rss_bytes(),
                server.stored_bytes(),
                database_bytes(&server),
            ));
            Ok(())
        },
        || {
            peer.push(copy_to_folder(store, &paths.paths));
            Ok(())
        },
    )?;
    for (pushed, server_peak, stored, database) in ours {
        both.wall.push(pushed.wall);
        both.server_cpu.push(per_gigabyte(pushed.server_cpu));
        both.client_cpu.push(per_gigabyte(pushed.client_cpu));
        both.client_peak.push(mebibytes(pushed.client_peak));
        both.server_peak.push(mebibytes(server_peak));
        both.stored.push(megabytes(stored));
        both.database.push(megabytes(database));
        both.sent.push(megabytes(pushed.sent));
    }
    for copied in peer {
        both.peer_wall.push(copied.wall);
        both.peer_cpu.push(per_gigabyte(copied.cpu));
        both.peer_peak.push(mebibytes(copied.peak));
        both.peer_stored.push(megabytes(copied.stored));
    }
    Ok(both)
}

impl Both {
    fn explain(&self, suite: &Suite) {
        let median = |series: &Series| number(series.median());
        let report = &suite.report;
        report.detail(format!(
            "corpus: {}, peer: nix copy --to 'file://…?compression=zstd'",
            self.corpus
        ));
        report.detail(format!(
            "CPU seconds per GB of NAR: server {}, client {}, nix copy {}",
            median(&self.server_cpu),
            median(&self.client_cpu),
            median(&self.peer_cpu)
        ));
        report.detail(format!(
            "peak memory, MiB: server {}, client {}, nix copy {}",
            median(&self.server_peak),
            median(&self.client_peak),
            median(&self.peer_peak)
        ));
        report.detail(format!(
            "MB: {} sent, {} of packs and {} of database stored, nix copy's files {}",
            median(&self.sent),
            median(&self.stored),
            median(&self.database),
            median(&self.peer_stored)
        ));
    }
}

/// The other thing that one might do: `nix-store --dump | zstd -3`, path by path, the result thrown
/// away.
fn dump_and_compress(suite: &Suite, store: &NixStore, paths: &Paths) -> Result<()> {
    if !machine::has("zstd") {
        suite.report.detail("nix-store --dump | zstd -3: not measured: zstd is not installed");
        return Ok(());
    }
    let began = Instant::now();
    for path in &paths.paths {
        let mut dump = store.command("nix-store");
        let mut dump =
            dump.arg("--dump").arg(store.real_path(path)).stdout(Stdio::piped()).spawn()?;
        let input = dump.stdout.take().context("nix-store has no standard output")?;
        let zstd = Command::new("zstd")
            .args(["-3", "-q", "-c"])
            .stdin(input)
            .stdout(Stdio::null())
            .status()?;
        ensure!(
            dump.wait()?.success() && zstd.success(),
            "nix-store --dump {path} | zstd -3 failed"
        );
    }
    let seconds = began.elapsed().as_secs_f64();
    suite.report.detail(format!(
        "nix-store --dump | zstd -3 > /dev/null over the same paths, once: {} s",
        number(seconds)
    ));
    Ok(())
}
