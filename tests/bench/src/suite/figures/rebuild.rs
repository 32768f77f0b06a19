//! A rebuild: the same software with other store hashes inside.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use snowbank_core::{
    hash::{Sha256, Sha256Hasher},
    nar::encode,
};
use snowbank_harness::{Client, Nginx, NixStore, Server};

use crate::suite::{
    Suite,
    corpus::Paths,
    report::{Target, number},
    series::{Series, float},
    work::{Pushed, in_turns, megabytes, push, settle},
};

/// What a rebuild of all of (b) costs once both of its versions are there.
pub(crate) fn run(suite: &Suite) -> Result<()> {
    let store = suite.corpus.store();
    let (first, later) = (suite.corpus.first()?, suite.corpus.later()?);
    let rebuild = &later.rebuild;
    let ready = || {
        let server = Server::start();
        let _ = push(&server, store, &first.paths);
        let _ = push(&server, store, &later.next.paths);
        server
    };

    let (mut wall, mut hashing, mut stored) =
        (Series::default(), Series::default(), Series::default());
    let mut taken: Vec<Pushed> = Vec::new();
    in_turns(
        suite.runs,
        || {
            let server = ready();
            let before = server.stored_bytes();
            let pushed = push(&server, store, &rebuild.paths);
            wall.push(pushed.wall);
            taken.push(pushed);
            stored.push(percent(server.stored_bytes() - before, rebuild));
            Ok(())
        },
        || {
            hashing.push(read_and_hash(store, rebuild)?);
            Ok(())
        },
    )?;

    let server = ready();
    let witness = Nginx::before(&server, Some("0"));
    let client = Client::at(&witness.url(), &server.root_token(), store);
    let before = witness.requests().len();
    let _ = client.start_push("main", &rebuild.paths, &[]).wait().success();
    let requests = &witness.requests()[before..];
    let wire: u64 = requests.iter().map(|one| one.request_bytes + one.answer_bytes).sum();

    let report = &suite.report;
    let wire = Series::once(percent(wire, rebuild));
    report.measured(
        "push of a rebuild of (b): bytes on the wire",
        &wire,
        "% of NAR",
        Target::AtMost(1.0),
    );
    report.measured(
        "push of a rebuild of (b): bytes stored",
        &stored,
        "% of NAR",
        Target::AtMost(1.0),
    );
    let what = "push of a rebuild of (b): wall, by reading and hashing it on one core";
    report.compared(what, &wall, &hashing, "s", Target::AtMost(3.5));
    let sum = |part: fn(&Pushed) -> f64| {
        number(taken.iter().map(part).sum::<f64>() / float(taken.len() as u64))
    };
    report.detail(format!(
        "{} paths, {} MB of NAR, {} requests, CPU: client {} s, server {} s",
        rebuild.paths.len(),
        number(megabytes(rebuild.nar_bytes())),
        requests.len(),
        sum(|one| one.client_cpu),
        sum(|one| one.server_cpu),
    ));
    Ok(())
}

fn percent(bytes: u64, of: &Paths) -> f64 {
    float(bytes) / float(of.nar_bytes()) * 100.0
}

/// Seconds that one thread takes to read the trees as NARs and to hash those; the hashes must be
/// Nix's own.
fn read_and_hash(store: &NixStore, paths: &Paths) -> Result<f64> {
    settle();
    let began = Instant::now();
    let hashes: Vec<Sha256> = paths
        .paths
        .iter()
        .map(|path| nar_hash(&store.real_path(path)))
        .collect::<Result<Vec<_>>>()?;
    let seconds = began.elapsed().as_secs_f64();
    let known = store.hashes(&paths.paths);
    ensure!(
        known.iter().zip(&hashes).all(|(known, hash)| *known == hash.to_string()),
        "a tree was read wrongly"
    );
    Ok(seconds)
}

fn nar_hash(root: &Path) -> Result<Sha256> {
    let mut reading =
        Reading { hasher: Sha256Hasher::new(), head: Vec::new(), buffer: vec![0; 1 << 20] };
    encode::magic(&mut reading.head);
    reading.node(root).with_context(|| format!("cannot read {}", root.display()))?;
    reading.flush();
    Ok(reading.hasher.finish())
}

struct Reading {
    hasher: Sha256Hasher,
    /// What stands between the contents of two files.
    head: Vec<u8>,
    buffer: Vec<u8>,
}

impl Reading {
    fn flush(&mut self) {
        self.hasher.update(&self.head);
        self.head.clear();
    }

    fn node(&mut self, path: &Path) -> Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        if metadata.is_symlink() {
            encode::symlink(&mut self.head, fs::read_link(path)?.as_os_str().as_bytes());
        } else if metadata.is_dir() {
            encode::directory_start(&mut self.head);
            let mut entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                encode::entry_start(&mut self.head, entry.file_name().as_bytes());
                self.node(&entry.path())?;
                encode::entry_end(&mut self.head);
            }
            encode::directory_end(&mut self.head);
        } else {
            encode::regular_start(
                &mut self.head,
                metadata.permissions().mode() & 0o100 != 0,
                metadata.len(),
            );
            self.flush();
            let mut file = File::open(path)?;
            loop {
                match file.read(&mut self.buffer)? {
                    0 => break,
                    len => self.hasher.update(&self.buffer[..len]),
                }
            }
            encode::regular_end(&mut self.head, metadata.len());
        }
        Ok(())
    }
}
