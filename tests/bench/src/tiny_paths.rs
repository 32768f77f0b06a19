//! Thousands of tiny paths in one push: time per path as their number doubles, and requests.

use std::time::Duration;

use snowbank_harness::{Client, Nginx, NixStore, Server, trees};

const LIMIT: Duration = Duration::from_mins(30);

/// Options of `tiny-paths`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The largest number of paths; halves, quarters and eighths come first
    #[arg(long, default_value_t = 10_000)]
    paths: usize,
}

/// Runs the benchmark.
#[expect(clippy::unnecessary_wraps, reason = "every benchmark has the same shape")]
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    println!(
        "{:>8} {:>9} {:>12} {:>9} {:>8} {:>8}",
        "paths", "seconds", "ms per path", "requests", "server", "client"
    );
    for share in [8, 4, 2, 1] {
        let count = args.paths / share;
        let (mut server, store) = (Server::start(), NixStore::new());
        let witness = Nginx::before(&server, Some("0"));
        let client = Client::at(&witness.url(), &server.root_token(), &store);
        let paths = trees::add_tiny(&store, count, "tiny");
        let before = witness.requests().len();
        let push = client.start_push("main", &paths, &[]).wait_for(LIMIT).success();
        let seconds = push.output.elapsed.as_secs_f64();
        println!(
            "{count:>8} {seconds:>9.2} {:>12.3} {:>9} {:>4} MiB {:>4} MiB",
            seconds * 1000.0 / f64::from(u32::try_from(count).unwrap_or(u32::MAX)),
            witness.requests().len() - before,
            server.peak_rss_bytes() >> 20,
            push.output.peak_rss >> 20,
        );
    }
    Ok(())
}
