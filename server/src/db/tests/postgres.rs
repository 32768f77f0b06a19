//! A throw-away PostgreSQL server: its own data folder, reached by a socket in it, gone when it is
//! dropped.
//!
//! PostgreSQL refuses to run as root, so that root starts it as `nobody`.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::config::{DatabaseConfig, DatabaseUrl, SecretString};

const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Server {
    folder: tempfile::TempDir,
    process: Child,
}

impl Server {
    pub(crate) fn start() -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("snowbank-pg-").tempdir().unwrap();
        if geteuid().is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = folder.path().join("data");
        let mut initdb = command(&programs.join("initdb"));
        initdb.args([
            "--username=postgres",
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            "-D",
        ]);
        let output: Output = initdb.arg(&data).output().unwrap();
        assert!(
            output.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = command(&programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(folder.path())
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=32MB"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { folder, process }
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.folder.path().display())
    }

    async fn connect(&self) -> PgConnection {
        let until = Instant::now() + PATIENCE;
        loop {
            match PgConnection::connect(&self.url("postgres")).await {
                Ok(connection) => return connection,
                Err(error) if Instant::now() > until => {
                    let log =
                        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                    panic!("PostgreSQL does not answer: {error}\n{log}");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Makes an empty database and gives the settings to use it.
    pub(crate) async fn config(&self, name: &str) -> DatabaseConfig {
        DatabaseConfig::new(DatabaseUrl::Postgres(SecretString::new(
            self.create_database(name).await,
        )))
    }

    async fn create_database(&self, name: &str) -> String {
        let mut connection = self.connect().await;
        let sql = format!("CREATE DATABASE \"{name}\"");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        self.url(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGINT is PostgreSQL's fast shutdown; it cleans up its shared memory.
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
        }
        let _ = self.process.wait();
    }
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    // The folder of the tests may be out of nobody's reach.
    command.current_dir("/");
    command
}

/// The folder with `initdb` and `postgres`: one of PATH, or Debian's of the latest version.
fn programs() -> PathBuf {
    let on_path = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .unwrap_or_default();
    let mut debian: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    debian.sort();
    let complete =
        |folder: &PathBuf| folder.join("initdb").exists() && folder.join("postgres").exists();
    on_path.into_iter().chain(debian.into_iter().rev()).find(complete).unwrap_or_else(|| {
        panic!(
            "these tests need PostgreSQL's `initdb` and `postgres` on PATH or in \
            /usr/lib/postgresql/*/bin; install the package `postgresql`"
        )
    })
}
