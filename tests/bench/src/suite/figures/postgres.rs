//! PostgreSQL in the place of SQLite, with the same local storage.
//!
//! It runs as durably as it does for users (`fsync`), and what it can do by itself is shown beside,
//! as `pgbench` says it.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use snowbank_harness::{
    NixStore, Server, craft,
    postgres::{PASSWORD, Postgres},
};

use super::narinfo::{Asked, misses};
use crate::suite::{
    Suite,
    corpus::Paths,
    machine,
    report::{Target, number},
    series::{Series, float},
    work::{in_turns, megabytes, push, seconds_from},
};

/// Pushes and narinfos, each by what SQLite does.
pub(crate) fn run(suite: &Suite) -> Result<()> {
    if !has_postgres() {
        suite.report.not_measured("PostgreSQL instead of SQLite", "PostgreSQL is not installed");
        return Ok(());
    }
    let mut service = Service { postgres: Postgres::start_durable(), databases: 0 };
    let (tiny_store, tiny) = suite.corpus.tiny()?;
    pushes(
        suite,
        &mut service,
        suite.corpus.store(),
        suite.corpus.trees()?,
        "push (a)",
        "MB/s of NAR",
        |paths| megabytes(paths.nar_bytes()),
    )?;
    pushes(suite, &mut service, tiny_store, tiny, "push (c)", "paths/s", |paths| {
        float(paths.paths.len() as u64)
    })?;
    narinfos(suite, &mut service)?;
    pgbench(suite, &service.postgres)
}

struct Service {
    postgres: Postgres,
    databases: u32,
}

impl Service {
    /// A server on a new database.
    fn start(&mut self) -> Server {
        self.databases += 1;
        let url = self.postgres.create_database(&format!("bench{}", self.databases));
        Server::options().config(&format!("[database]\nurl = \"{url}\"\n")).start()
    }
}

fn pushes(
    suite: &Suite,
    service: &mut Service,
    store: &NixStore,
    paths: &Paths,
    what: &str,
    unit: &str,
    amount: impl Fn(&Paths) -> f64,
) -> Result<()> {
    let (mut ours, mut sqlite, mut cpu) = (Series::default(), Series::default(), Series::default());
    let amount = amount(paths);
    in_turns(
        suite.runs,
        || {
            let server = service.start();
            let before = service.postgres.cpu_time();
            ours.push(amount / push(&server, store, &paths.paths).wall);
            cpu.push(seconds_from(before, service.postgres.cpu_time()));
            Ok(())
        },
        || {
            sqlite.push(amount / push(&Server::start(), store, &paths.paths).wall);
            Ok(())
        },
    )?;
    suite.report.compared(
        &format!("PostgreSQL by SQLite: {what}"),
        &ours,
        &sqlite,
        unit,
        Target::AtLeast(0.7),
    );
    suite.report.detail(format!("{what}: PostgreSQL's own CPU {} s", number(cpu.median())));
    Ok(())
}

fn narinfos(suite: &Suite, service: &mut Service) -> Result<()> {
    let (store, paths) = suite.corpus.tiny()?;
    let (server, sqlite) = (service.start(), Server::start());
    for server in [&server, &sqlite] {
        let _ = push(server, store, &paths.paths);
    }
    let hits: Vec<String> = paths.paths.iter().map(|path| craft::narinfo("main", path)).collect();
    for (what, targets, status) in [("hit", hits, 200), ("miss", misses(paths.paths.len()), 404)] {
        let (mut ours, mut peer) = (Asked::default(), Asked::default());
        in_turns(
            suite.runs,
            || ours.ask(suite, server.address(), &targets, status),
            || peer.ask(suite, sqlite.address(), &targets, status),
        )?;
        let name = format!("PostgreSQL by SQLite: narinfo {what}");
        suite.report.compared(&name, &ours.rate, &peer.rate, "requests/s", Target::AtLeast(0.7));
        let (p99, peer) = (number(ours.p99.median()), number(peer.p99.median()));
        suite.report.detail(format!("{name}: 99th percentile {p99} ms and {peer} ms"));
    }
    Ok(())
}

fn has_postgres() -> bool {
    machine::has("postgres") || !debian_programs().is_empty()
}

/// The folders of Debian's PostgreSQL versions, oldest first.
fn debian_programs() -> Vec<PathBuf> {
    let entries = fs::read_dir("/usr/lib/postgresql")
        .map(|all| all.flatten().collect::<Vec<_>>())
        .unwrap_or_default();
    let mut folders: Vec<PathBuf> = entries.iter().map(|entry| entry.path().join("bin")).collect();
    folders.retain(|folder| folder.join("postgres").exists());
    folders.sort();
    folders
}

/// What this PostgreSQL does alone: look-ups by key, and its usual small transactions.
fn pgbench(suite: &Suite, postgres: &Postgres) -> Result<()> {
    let program = debian_programs()
        .pop()
        .map(|folder| folder.join("pgbench"))
        .filter(|program| program.exists());
    let program = program.or_else(|| machine::has("pgbench").then(|| PathBuf::from("pgbench")));
    let Some(program) = program else {
        suite.report.detail("pgbench alone: not measured: pgbench is not installed");
        return Ok(());
    };
    let _ = postgres.create_database("pgbench");
    let (host, port) = (postgres.address().ip().to_string(), postgres.address().port().to_string());
    let run = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["-h", &host, "-p", &port, "-U", "postgres"]).args(args).arg("pgbench");
        let output = command.env("PGPASSWORD", PASSWORD).output().context("cannot run pgbench")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "pgbench {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said)
    };
    let _ = run(&["-i", "-q", "-s", "10"])?;
    let seconds = suite.scale.load.as_secs().max(1).to_string();
    for (what, mode) in
        [("look-ups by key (-S)", "select-only"), ("its usual transactions", "tpcb-like")]
    {
        let said = run(&["-b", mode, "-c", "16", "-j", "2", "-T", &seconds])?;
        let rate = said
            .lines()
            .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
        let rate = rate.with_context(|| format!("pgbench says no rate: {said}"))?;
        suite
            .report
            .detail(format!("pgbench alone, 16 clients, {what}: {} per second", number(rate)));
    }
    Ok(())
}
