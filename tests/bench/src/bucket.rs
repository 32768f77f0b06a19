//! What a bucket is asked for: bytes and requests of pushes and downloads, beside those of one
//! object per chunk.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use snowbank_harness::{
    Api, Client, NixStore, Random, Server, Site, oracle::Oracle, storage_faults::Faults, trees,
};

const LIMIT: Duration = Duration::from_mins(30);
const REQUESTS: &str = "snowbank_storage_requests_total";
/// Real trees of this machine: how many, and between which sizes.
const TREES: usize = 10;
const MIN_TREE_BYTES: u64 = 4 << 20;
const MAX_TREE_BYTES: u64 = 300 << 20;

/// Mbit/s between server and bucket, and the MB that are pushed over each.
const LINKS: [(u64, usize); 3] = [(4, 10), (20, 40), (100, 120)];

/// Options of `bucket`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Size of the first push in MB, in three paths
    #[arg(long, default_value_t = 180)]
    megabytes: usize,
    /// Paths of each push that are read at the same time
    #[arg(long, default_value_t = 4)]
    jobs: usize,
}

/// What a server has moved since it started.
#[derive(Debug, Clone, Copy, Default)]
struct Moved {
    sent: f64,
    received: f64,
    puts: f64,
    gets: f64,
    chunks: f64,
}

impl Moved {
    fn since_start(server: &Server) -> Self {
        let count = |name: &str, labels: &[(&str, &str)]| server.counted(name, labels);
        Self {
            sent: count("snowbank_storage_sent_bytes_total", &[]),
            received: count("snowbank_storage_received_bytes_total", &[]),
            puts: count(REQUESTS, &[("operation", "put")]),
            gets: count(REQUESTS, &[("operation", "get")]),
            chunks: count("snowbank_received_chunks_total", &[]),
        }
    }

    fn since(self, server: &Server) -> Self {
        let now = Self::since_start(server);
        Self {
            sent: now.sent - self.sent,
            received: now.received - self.received,
            puts: now.puts - self.puts,
            gets: now.gets - self.gets,
            chunks: now.chunks - self.chunks,
        }
    }
}

/// Runs the benchmark; fails when a first push reads back more than 2 % of what it sends.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (site, store) = (Site::with_faults(Random::fixed(1)), NixStore::new());
    let mut server = Server::options().on(&site).replicas(1).start();
    let jobs = args.jobs.to_string();
    println!(
        "{:44} {:>9} {:>12} {:>6} {:>6} {:>16}",
        "", "MB sent", "MB received", "PUTs", "GETs", "chunks stored"
    );
    let mut random = Random::fixed(229);
    let mut contents: Vec<Vec<u8>> = Vec::new();
    for _ in 0..3 {
        // A third of it compresses, as in most packages.
        let bytes = args.megabytes * 1_000_000 / 3;
        contents.push([random.bytes(bytes * 2 / 3), random.text(bytes / 3)].concat());
    }
    let first = push(
        &server,
        &store,
        "a first push of three paths",
        &add(&store, "first", &contents),
        &jobs,
    )?;
    ensure!(
        first.received <= first.sent / 50.0,
        "a first push reads back {:.1} MB",
        first.received / 1e6
    );
    let _ =
        push(&server, &store, "a rebuild of the three", &add(&store, "rebuild", &contents), &jobs)?;
    server.restart_without_packs();
    let cold = add(&store, "another rebuild", &contents);
    let _ = push(&server, &store, "a rebuild on another server", &cold, &jobs)?;
    for bytes in &mut contents {
        for piece in bytes.chunks_mut(4 << 20) {
            let changed = piece.len().min(100_000);
            piece[..changed].copy_from_slice(&random.bytes(changed));
        }
    }
    let next = add(&store, "next", &contents);
    let _ = push(&server, &store, "a next version, 100 KB of each 4 MiB new", &next, &jobs)?;
    download(&mut server, "a download of the first", &cold)?;
    download(&mut server, "a download of the next version", &next)?;

    let real: Vec<String> = trees::of_this_machine(TREES, MIN_TREE_BYTES, MAX_TREE_BYTES)
        .iter()
        .enumerate()
        .map(|(at, tree)| trees::add_copy(&store, tree, &format!("tree-{at}")))
        .collect();
    let what = format!("a push of {} real trees", real.len());
    let _ = push(&server, &store, &what, &real, &jobs)?;
    download(&mut server, "a download of the real trees", &real)?;
    slow_links(&server, &site, &store)
}

/// Pushes over slow links, each beside the time that its upload alone takes.
fn slow_links(server: &Server, site: &Site, store: &NixStore) -> anyhow::Result<()> {
    for (mbit, megabytes) in LINKS {
        let rate = mbit * 1_000_000 / 8;
        site.faults().set(Faults { upload_rate: rate, ..Faults::default() });
        let noise = Random::fixed(mbit).bytes(megabytes * 1_000_000);
        let path = trees::add_files(store, &format!("over-{mbit}"), &[("noise", noise)]);
        let (before, started) = (Moved::since_start(server), Instant::now());
        let _ =
            Client::of(server, store).start_push("main", &[&path], &[]).wait_for(LIMIT).success();
        let (elapsed, moved) = (started.elapsed().as_secs_f64(), before.since(server));
        #[expect(clippy::cast_precision_loss, reason = "a rate is far below 2^52")]
        let alone = moved.sent / rate as f64;
        let ratio = elapsed / alone;
        println!(
            "a push of {megabytes} MB over {mbit} Mbit/s: {elapsed:.1} s, its upload alone \
             {alone:.1} s, ratio {ratio:.2}"
        );
        ensure!(ratio <= 1.1, "a push over {mbit} Mbit/s takes {ratio:.2} times its upload");
    }
    Ok(())
}

fn add(store: &NixStore, version: &str, contents: &[Vec<u8>]) -> Vec<String> {
    let path = |(at, bytes): (usize, &Vec<u8>)| {
        trees::add_files(
            store,
            &format!("app-{at}"),
            &[("data", bytes.clone()), ("version", version.into())],
        )
    };
    contents.iter().enumerate().map(path).collect()
}

fn push(
    server: &Server,
    store: &NixStore,
    what: &str,
    paths: &[String],
    jobs: &str,
) -> anyhow::Result<Moved> {
    let before = Moved::since_start(server);
    let _ = Client::of(server, store)
        .start_push("main", paths, &["--jobs", jobs])
        .wait_for(LIMIT)
        .success();
    let moved = before.since(server);
    show(what, moved);
    // One object per chunk would be a PUT for each, and read back to verify.
    ensure!(moved.puts <= moved.sent / 4e6 + 4.0, "{what} takes {} PUTs", moved.puts);
    Ok(moved)
}

/// Downloads by a server that has nothing of the bucket in memory or on its disk.
fn download(server: &mut Server, what: &str, paths: &[String]) -> anyhow::Result<()> {
    server.restart_without_packs();
    let oracle = Oracle::main(server);
    let urls =
        paths.iter().map(|path| Ok(oracle.narinfo(path).context("a path is not there")?.url));
    let urls = urls.collect::<anyhow::Result<Vec<String>>>()?;
    let (before, mut total) = (Moved::since_start(server), 0);
    for url in urls {
        let answer = Api::anonymous(server).get(&format!("/main/{url}"));
        ensure!(answer.status.is_success(), "{}", answer.text());
        total += answer.body.len();
    }
    let moved = before.since(server);
    show(&format!("{what}, {} MB", total / 1_000_000), moved);
    Ok(())
}

fn show(what: &str, moved: Moved) {
    let Moved { sent, received, puts, gets, chunks } = moved;
    println!(
        "{what:44} {:>9.1} {:>12.1} {puts:>6} {gets:>6} {chunks:>16}",
        sent / 1e6,
        received / 1e6
    );
}
