//! One path of several GiB through a server and back: what it takes in time and in memory on both
//! ends.

use std::{fs::File, io::Write as _, time::Duration};

use anyhow::{Context as _, ensure};
use snowbank_harness::{Client, NixStore, Random, Scratch, Server, oracle::Oracle};

const LIMIT: Duration = Duration::from_hours(1);
const MIB: u64 = 1 << 20;
/// What either end may hold, whatever the size of a path.
const MAX_MEMORY: u64 = 256 * MIB;

/// Options of `big-path`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Size of the path in MiB
    #[arg(long, default_value_t = 4096)]
    mebibytes: u64,
}

/// Runs the benchmark; fails when either end held more than it may.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (mut server, store) = (Server::start(), NixStore::new());
    let path = add(&store, args.mebibytes)?;
    let client = Client::of(&server, &store);
    println!("one path of {} MiB", args.mebibytes);

    let push = client.start_push("main", &[&path], &[]).wait_for(LIMIT).success();
    let (client_peak, push_peak) = (push.output.peak_rss, server.peak_rss_bytes());
    report("push", args.mebibytes, push.output.elapsed);
    println!("  client's peak memory: {} MiB", client_peak / MIB);
    println!("  server's peak memory: {} MiB", push_peak / MIB);
    println!("  stored: {} MiB", server.stored_bytes() / MIB);

    let other = NixStore::new();
    let fetch = other
        .substitute(
            &format!("{}/main", server.url()),
            &Oracle::main(&server).public_key(),
            &[&path],
        )
        .success();
    report("substitution by Nix", args.mebibytes, fetch.elapsed);
    let peak = server.peak_rss_bytes();
    println!("  server's peak memory: {} MiB", peak / MIB);

    ensure!(
        other.hashes(&[&path]) == store.hashes(&[&path]),
        "the path came back with another hash"
    );
    ensure!(client_peak < MAX_MEMORY, "the client held {} MiB", client_peak / MIB);
    ensure!(peak < MAX_MEMORY, "the server held {} MiB", peak / MIB);
    Ok(())
}

/// A file of text and noise in turn, as large archives and disk images are.
pub(crate) fn add(store: &NixStore, mebibytes: u64) -> anyhow::Result<String> {
    let scratch = Scratch::new("big");
    let name = scratch.join("big");
    let mut file = File::create(&name).with_context(|| name.display().to_string())?;
    let mut random = Random::fixed(1);
    for number in 0..mebibytes {
        let piece = if number % 4 == 0 { random.text(1 << 20) } else { random.bytes(1 << 20) };
        file.write_all(&piece).with_context(|| name.display().to_string())?;
    }
    drop(file);
    Ok(store.add(&name))
}

fn report(what: &str, mebibytes: u64, elapsed: Duration) {
    #[expect(clippy::cast_precision_loss, reason = "sizes in MiB are far below 2^52")]
    let rate = mebibytes as f64 / elapsed.as_secs_f64();
    println!("{what}: {:.1} s, {rate:.0} MiB/s", elapsed.as_secs_f64());
}
