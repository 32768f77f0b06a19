//! A throw-away PostgreSQL server on a loopback address of its own.
//!
//! PostgreSQL refuses to run as root, so that root starts it as `nobody`. What `initdb` makes is
//! kept beside the test binaries and copied from then on, which is ten times as fast.

use std::{
    fs::{self, File},
    net::SocketAddr,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::{Scratch, process, trees};

const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_mins(1);
/// The password of its only user, `postgres`.
pub const PASSWORD: &str = "Passw0rd-of-the-harness-database";

/// A PostgreSQL server. Ended when dropped.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Child>,
    address: SocketAddr,
    durable: bool,
    scratch: Scratch,
}

impl Postgres {
    /// Starts one that loses what it was told when the machine stops, which is no concern of most
    /// tests.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// Starts one that keeps what it has acknowledged whatever happens (`fsync`).
    #[must_use]
    pub fn start_durable() -> Self {
        Self::start_with(true)
    }

    fn start_with(durable: bool) -> Self {
        let scratch = Scratch::new("postgres");
        hand_over(scratch.path());
        trees::copy_with_modes(&template(), &scratch.join("data"));
        let mut server = Self { process: None, address: process::own_address(), durable, scratch };
        server.start_again();
        server
    }

    /// Starts it where it ran before, and waits until it answers.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "PostgreSQL runs already");
        let log = File::options().create(true).append(true).open(self.scratch.join("log"));
        let log = log.unwrap_or_else(|e| panic!("PostgreSQL's log: {e}"));
        let mut command = command(&programs().join("postgres"));
        command
            .arg("-D")
            .arg(self.scratch.join("data"))
            .args(["-p", &self.address.port().to_string()]);
        let listen = format!("listen_addresses={}", self.address.ip());
        let fsync = if self.durable { "fsync=on" } else { "fsync=off" };
        // What is in files goes with the folder, also after SIGKILL.
        let files = "dynamic_shared_memory_type=mmap";
        for setting in [
            &listen,
            fsync,
            files,
            "unix_socket_directories=",
            "shared_buffers=32MB",
            "max_connections=200",
        ] {
            command.args(["-c", setting]);
        }
        let child = command.stdout(Stdio::null()).stderr(log).spawn();
        self.process = Some(child.unwrap_or_else(|e| panic!("cannot start PostgreSQL: {e}")));
        process::wait_until("PostgreSQL answers", PATIENCE, || {
            if let Some(Ok(Some(status))) = self.process.as_mut().map(Child::try_wait) {
                panic!("PostgreSQL ended at its start, {status}: {}", self.log());
            }
            self.connects()
        });
    }

    fn connects(&self) -> bool {
        let connect = async { PgConnection::connect(&self.url("postgres")).await?.close().await };
        runtime().block_on(connect).is_ok()
    }

    /// Processor time that it has taken, its sessions' that are open included.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        self.process.as_ref().map(|first| process::tree_cpu_time(first.id())).unwrap_or_default()
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a database, password included.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{PASSWORD}@{}/{database}", self.address)
    }

    /// Makes an empty database, unless there is one of that name, and gives its address.
    #[must_use]
    pub fn create_database(&self, name: &str) -> String {
        let find = async {
            let mut connection = PgConnection::connect(&self.url("postgres")).await?;
            let query = sqlx::query("SELECT 1 FROM pg_database WHERE datname = $1").bind(name);
            let found = query.fetch_optional(&mut connection).await?;
            connection.close().await?;
            Ok::<_, sqlx::Error>(found.is_some())
        };
        if !runtime().block_on(find).unwrap_or_else(|e| panic!("the database {name}: {e}")) {
            self.execute(&format!("CREATE DATABASE \"{name}\""));
        }
        self.url(name)
    }

    /// Runs a statement in the database `postgres`.
    pub fn execute(&self, statement: &str) {
        let run = async {
            let mut connection = PgConnection::connect(&self.url("postgres")).await?;
            sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
            connection.close().await
        };
        runtime().block_on(run).unwrap_or_else(|e| panic!("{statement}: {e}"));
    }

    /// Kills its first process with SIGKILL, as a crash would, and waits until the others have
    /// followed.
    pub fn kill9(&mut self) {
        let Some(mut first) = self.process.take() else { return };
        let others = process::children(first.id());
        // Harmless when it has ended already; `wait` collects it either way.
        let _ = first.kill();
        let _ = first.wait();
        process::wait_until("PostgreSQL's processes end", PATIENCE, || {
            !others.iter().copied().any(process::is_alive)
        });
    }

    /// Ends it as an administrator does who is in a hurry (fast shutdown): sessions are told.
    pub fn stop(&mut self) {
        self.end(Signal::INT);
    }

    /// Stops it and starts it again.
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut process) = self.process.take() {
            process::send(&process, signal);
            // It is gone either way once this returns.
            let _ = process.wait();
        }
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.scratch.join("log")).unwrap_or_default())
            .into_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Immediate shutdown: it still gives its shared memory back.
        self.end(Signal::QUIT);
        if std::thread::panicking() {
            eprintln!(
                "--- PostgreSQL at {}\n{}\n---",
                self.address,
                process::tail(&self.log(), 4_000)
            );
        }
    }
}

/// A runtime for a few statements.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap_or_else(|e| panic!("no runtime: {e}"))
}

/// A data folder as `initdb` makes it, made when it is not there yet; tests that start together
/// wait for one another.
fn template() -> PathBuf {
    let folder = process::target_folder().join("tmp");
    let version = programs().to_string_lossy().replace('/', "-");
    let template = folder.join(format!("postgres-template-1{version}"));
    fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let lock = File::options().create(true).append(true).open(template.with_extension("lock"));
    let lock = lock.unwrap_or_else(|e| panic!("the lock of {}: {e}", template.display()));
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
        .unwrap_or_else(|e| panic!("flock: {e}"));
    if !template.exists() {
        let scratch = Scratch::new("initdb");
        initdb(&scratch);
        let half = template.with_extension("half");
        // What an earlier attempt left.
        let _ = fs::remove_dir_all(&half);
        trees::copy_with_modes(&scratch.join("data"), &half);
        fs::rename(&half, &template).unwrap_or_else(|e| panic!("{}: {e}", template.display()));
    }
    template
}

fn initdb(scratch: &Scratch) {
    process::write(&scratch.join("password"), PASSWORD);
    hand_over(scratch.path());
    hand_over(&scratch.join("password"));
    let mut initdb = command(&programs().join("initdb"));
    initdb.args([
        "--username=postgres",
        "--auth=scram-sha-256",
        "--no-sync",
        "--encoding=UTF8",
        "--locale=C",
    ]);
    // Small log files, for the copies' sake.
    initdb
        .args(["--wal-segsize=1", "-D"])
        .arg(scratch.join("data"))
        .arg("--pwfile")
        .arg(scratch.join("password"));
    let output = initdb.output().unwrap_or_else(|e| panic!("initdb: {e}"));
    assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    let access = "host all all 127.0.0.0/8 scram-sha-256\n";
    process::write(&scratch.join("data/pg_hba.conf"), access);
}

/// Gives a file or folder to the user that PostgreSQL runs as.
fn hand_over(path: &Path) {
    if rustix::process::geteuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY))
            .unwrap_or_else(|e| panic!("chown {}: {e}", path.display()));
    }
    let mode = if path.is_dir() { 0o700 } else { 0o600 };
    let set = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    set.unwrap_or_else(|e| panic!("chmod {}: {e}", path.display()));
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    // The folder of the tests may be out of nobody's reach. It stays in the test's process group:
    // it ends with that one.
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// The folder with `initdb` and `postgres`: one of PATH, or Debian's of the latest version.
fn programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    debian.sort();
    let complete =
        |folder: &PathBuf| folder.join("initdb").exists() && folder.join("postgres").exists();
    let found = std::env::split_paths(&path).chain(debian.into_iter().rev()).find(complete);
    found.unwrap_or_else(|| {
        panic!(
            "there is no `initdb` and `postgres` on PATH or in /usr/lib/postgresql/*/bin; \
            tests/run installs them"
        )
    })
}
