//! Several clients push large paths to a server whose storage is far: what the server holds in
//! memory.

use std::{
    fs::File,
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use snowbank_harness::{Client, NixStore, Random, Scratch};

use crate::far::FarServer;

const LIMIT: Duration = Duration::from_hours(1);
const MIB: u64 = 1 << 20;
/// What the server may hold.
const MAX_MEMORY: u64 = 384 * MIB;

/// Options of `many-pushers`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Clients at the same time
    #[arg(long, default_value_t = 8)]
    clients: u64,
    /// Size of each client's path in MiB
    #[arg(long, default_value_t = 500)]
    mebibytes: u64,
    /// Milliseconds added to every request to the storage
    #[arg(long, default_value_t = 30)]
    milliseconds: u64,
}

/// Runs the benchmark; fails when the server held more than it may.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut far = FarServer::start(Duration::from_millis(args.milliseconds));
    let store = NixStore::new();
    let paths = (0..args.clients)
        .map(|number| add(&store, number, args.mebibytes))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let clients: Vec<Client> = paths.iter().map(|_| Client::of(&far.server, &store)).collect();

    let started = Instant::now();
    let pushes: Vec<_> = clients
        .iter()
        .zip(&paths)
        .map(|(client, path)| client.start_push("main", &[path], &[]))
        .collect();
    for push in pushes {
        let _ = push.wait_for(LIMIT).success();
    }
    let seconds = started.elapsed().as_secs_f64();
    let peak = far.server.peak_rss_bytes();
    #[expect(clippy::cast_precision_loss, reason = "sizes in MiB are far below 2^52")]
    let rate = (args.clients * args.mebibytes) as f64 / seconds;
    println!(
        "{} clients, {} MiB each, {} ms added to every request to the storage: {seconds:.1} s, \
         {rate:.0} MiB/s together, {} requests to the storage",
        args.clients,
        args.mebibytes,
        args.milliseconds,
        far.requests()
    );
    println!("  server's peak memory: {} MiB", peak / MIB);
    ensure!(
        peak < MAX_MEMORY,
        "the server held {} MiB; less than {} are wanted",
        peak / MIB,
        MAX_MEMORY / MIB
    );
    Ok(())
}

/// A path of its own for each client: noise, and every fourth megabyte text.
fn add(store: &NixStore, number: u64, mebibytes: u64) -> anyhow::Result<String> {
    let scratch = Scratch::new("pusher");
    let name = scratch.join(format!("pusher-{number}"));
    let mut file = File::create(&name).with_context(|| name.display().to_string())?;
    let mut random = Random::fixed(100 + number);
    for megabyte in 0..mebibytes {
        let piece = if megabyte % 4 == 0 { random.text(1 << 20) } else { random.bytes(1 << 20) };
        file.write_all(&piece).with_context(|| name.display().to_string())?;
    }
    drop(file);
    Ok(store.add(&name))
}
