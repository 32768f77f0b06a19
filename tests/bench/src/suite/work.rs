//! The pieces of work that figures are made of: a push and its peer, a copy of what a server
//! serves, turns.

use std::{
    fs::{self, File},
    io::Write as _,
    time::Duration,
};

use anyhow::{Context as _, Result};
use snowbank_harness::{
    Api, Client, Nginx, NixStore, Scratch, Server, craft, oracle::Oracle, process,
};

use super::{http::Connection, series::float};

/// How long one push may take.
const LIMIT: Duration = Duration::from_hours(1);

/// Has the peer and us take turns, `runs` times each, who begins changing each time.
///
/// # Errors
/// The first that either gives.
pub(crate) fn in_turns(
    runs: usize,
    mut ours: impl FnMut() -> Result<()>,
    mut peer: impl FnMut() -> Result<()>,
) -> Result<()> {
    for run in 0..runs {
        if run % 2 == 0 {
            peer()?;
            ours()?;
        } else {
            ours()?;
            peer()?;
        }
    }
    Ok(())
}

/// Has the system write out what others have written to the temporary folder's file system, so that
/// no run pays for the one before it. Needs no privilege.
pub(crate) fn settle() {
    // Where it cannot be, runs merely vary more.
    if let Ok(folder) = File::open(std::env::temp_dir()) {
        let _ = rustix::fs::syncfs(folder);
    }
}

/// Seconds of processor time between two readings of it.
pub(crate) fn seconds_from(before: Duration, now: Duration) -> f64 {
    now.saturating_sub(before).as_secs_f64()
}

/// What a push took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pushed {
    /// Seconds.
    pub(crate) wall: f64,
    /// Seconds of processor time.
    pub(crate) client_cpu: f64,
    /// Seconds of processor time.
    pub(crate) server_cpu: f64,
    /// Most bytes of memory.
    pub(crate) client_peak: u64,
    /// Compressed bytes that the client says it sent.
    pub(crate) sent: u64,
}

/// Pushes `paths` with a client of its own.
pub(crate) fn push(server: &Server, store: &NixStore, paths: &[String]) -> Pushed {
    push_by(&Client::of(server, store), server, paths)
}

/// As [`push`], through whatever listens at `url`.
pub(crate) fn push_through(
    url: &str,
    server: &Server,
    store: &NixStore,
    paths: &[String],
) -> Pushed {
    push_by(&Client::at(url, &server.root_token(), store), server, paths)
}

fn push_by(client: &Client, server: &Server, paths: &[String]) -> Pushed {
    settle();
    let before = server.cpu_time();
    let push = client.start_push("main", paths, &[]).wait_for(LIMIT).success();
    Pushed {
        wall: push.output.elapsed.as_secs_f64(),
        client_cpu: push.output.cpu.as_secs_f64(),
        server_cpu: seconds_from(before, server.cpu_time()),
        client_peak: push.output.peak_rss,
        sent: push.stats().bytes_sent,
    }
}

/// What `nix copy --to file://` took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copied {
    /// Seconds.
    pub(crate) wall: f64,
    /// Seconds of processor time.
    pub(crate) cpu: f64,
    /// Most bytes of memory.
    pub(crate) peak: u64,
    /// Bytes of the files that it wrote.
    pub(crate) stored: u64,
}

/// Copies `paths` into a new folder as a binary cache, as one would do without a server.
pub(crate) fn copy_to_folder(store: &NixStore, paths: &[String]) -> Copied {
    settle();
    let folder = Scratch::new("file-cache");
    let url = format!("file://{}?compression=zstd", folder.path().display());
    let output = store.copy_to(&url, paths).success();
    Copied {
        wall: output.elapsed.as_secs_f64(),
        cpu: output.cpu.as_secs_f64(),
        peak: output.peak_rss,
        stored: snowbank_harness::scratch::bytes_beneath(folder.path()),
    }
}

/// A binary cache in a folder, written and signed by Nix, and nginx before it.
#[derive(Debug)]
pub(crate) struct FileCache {
    // Ended before its folder is removed.
    pub(crate) nginx: Nginx,
    /// The public key, as nix.conf wants it.
    pub(crate) key: String,
    _folder: Scratch,
}

impl FileCache {
    /// Writes `paths` into one.
    pub(crate) fn of(store: &NixStore, paths: &[String]) -> Self {
        let folder = Scratch::new("file-cache");
        let (secret, key) = store.make_key("bench-1");
        let url = format!(
            "file://{}?compression=zstd&secret-key={}",
            folder.path().display(),
            secret.display()
        );
        let _ = store.copy_to(&url, paths).success();
        Self { nginx: Nginx::serving(folder.path()), key, _folder: folder }
    }
}

/// The very bytes that a server serves, in a folder under the same addresses, and nginx before it.
#[derive(Debug)]
pub(crate) struct Mirror {
    // Ended before its folder is removed.
    pub(crate) nginx: Nginx,
    /// The addresses of the narinfos.
    pub(crate) narinfos: Vec<String>,
    /// The addresses of the NARs, in the same order.
    pub(crate) nars: Vec<String>,
    _folder: Scratch,
}

impl Mirror {
    /// Fetches all of `paths` from `server`.
    pub(crate) fn of(server: &Server, paths: &[String]) -> Result<Self> {
        let folder = Scratch::new("mirror");
        let (oracle, api) = (Oracle::main(server), Api::anonymous(server));
        let (mut narinfos, mut nars) = (Vec::new(), Vec::new());
        let mut connection = Connection::open(server.address())?;
        for path in paths {
            let info = oracle.narinfo(path).with_context(|| format!("{path} is not there"))?;
            let (narinfo, nar) = (craft::narinfo("main", path), format!("/main/{}", info.url));
            process::write(&folder.join(&narinfo[1..]), api.get(&narinfo).body);
            let file = folder.join(&nar[1..]);
            process::write(&file, "");
            let mut file = File::create(file)?;
            let mut written = Ok(());
            connection.fetch(&nar, &mut |piece| {
                if written.is_ok() {
                    written = file.write_all(piece);
                }
            })?;
            written.with_context(|| format!("cannot keep {nar}"))?;
            narinfos.push(narinfo);
            nars.push(nar);
        }
        settle();
        Ok(Self { nginx: Nginx::serving(folder.path()), narinfos, nars, _folder: folder })
    }
}

/// Bytes of a server's database: its files in the data folder.
pub(crate) fn database_bytes(server: &Server) -> u64 {
    let files = ["snowbank.db", "snowbank.db-wal"].map(|name| server.data_dir().join(name));
    files.iter().filter_map(|file| fs::metadata(file).ok()).map(|meta| meta.len()).sum()
}

/// Bytes as megabytes.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    float(bytes) / 1e6
}

/// Bytes as mebibytes.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    float(bytes) / f64::from(1 << 20)
}

/// Bytes as gigabytes.
pub(crate) fn gigabytes(bytes: u64) -> f64 {
    float(bytes) / 1e9
}
