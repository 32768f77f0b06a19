//! A real `snowbankd` with a data folder and an address of its own.

use std::{
    fs::{self, File, OpenOptions},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{Scratch, process, scratch};

/// How long a server may take to become ready, and to end when told to.
const LIMIT: Duration = Duration::from_mins(1);

/// What a server is started with.
#[derive(Debug, Default)]
pub struct ServerOptions {
    config: String,
    data_dir: Option<PathBuf>,
}

impl ServerOptions {
    /// Lines for its config file.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self
    }

    /// A data folder that outlives the server; without one it has a folder of its own.
    #[must_use]
    pub fn data_dir(mut self, folder: &Path) -> Self {
        self.data_dir = Some(folder.to_path_buf());
        self
    }

    /// Starts it and waits until it is ready.
    #[must_use]
    pub fn start(self) -> Server {
        let scratch = Scratch::new("server");
        let data_dir = self.data_dir.unwrap_or_else(|| scratch.join("data"));
        process::write(&scratch.join("config.toml"), self.config);
        let mut server =
            Server { child: None, data_dir, address: process::own_address(), peak_rss: 0, output_ends: 0, scratch };
        server.start_again();
        server
    }
}

/// A `snowbankd`. Ended (with SIGKILL) when dropped; when the test has failed, its log is printed.
#[derive(Debug)]
pub struct Server {
    child: Option<Child>,
    data_dir: PathBuf,
    address: SocketAddr,
    peak_rss: u64,
    /// Where the standard output of earlier starts ends.
    output_ends: u64,
    scratch: Scratch,
}

impl Server {
    /// A server with no configuration at all.
    #[must_use]
    pub fn start() -> Self {
        Self::options().start()
    }

    /// A server to be configured.
    #[must_use]
    pub fn options() -> ServerOptions {
        ServerOptions::default()
    }

    /// `http://127.…:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address that it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its data folder.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The token that it made at its first start.
    #[must_use]
    pub fn root_token(&self) -> String {
        let file = self.data_dir.join("root-token");
        let token = fs::read_to_string(&file).unwrap_or_else(|e| panic!("cannot read {}: {e}", file.display()));
        token.trim().to_owned()
    }

    /// Starts it where it ran before, and waits until it is ready.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        self.output_ends = fs::metadata(self.scratch.join("stdout")).map_or(0, |meta| meta.len());
        let mut command = self.snowbankd();
        command
            .arg("--config")
            .arg(self.scratch.join("config.toml"))
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--listen", &self.address.to_string()])
            .stdout(self.append("stdout"))
            .stderr(self.append("stderr"));
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start snowbankd: {e}"));
        self.child = Some(child);
        self.wait_ready();
    }

    fn snowbankd(&self) -> Command {
        process::command(process::binary("snowbankd"), self.scratch.path())
    }

    fn append(&self, name: &str) -> File {
        let file = OpenOptions::new().create(true).append(true).open(self.scratch.join(name));
        file.unwrap_or_else(|e| panic!("cannot write the server's {name}: {e}"))
    }

    fn wait_ready(&mut self) {
        let ready = format!("{}/readyz", self.url());
        let started = Instant::now();
        while !reqwest::blocking::get(&ready).is_ok_and(|answer| answer.status().is_success()) {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                self.child = None;
                panic!("snowbankd ended at its start, {status}: {}", self.log());
            }
            assert!(started.elapsed() < LIMIT, "snowbankd is not ready after {LIMIT:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends SIGTERM, and gives how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.note_peak();
        let mut child = self.child.take().unwrap_or_else(|| panic!("the server does not run"));
        process::send(&child, Signal::TERM);
        let started = Instant::now();
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return status;
            }
            if started.elapsed() > LIMIT {
                // Nothing else to do with it; the panic says what happened.
                let _ = child.kill();
                let _ = child.wait();
                panic!("snowbankd did not end within {LIMIT:?} of SIGTERM: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends SIGTERM and does not wait.
    pub fn ask_to_end(&self) {
        if let Some(child) = &self.child {
            process::send(child, Signal::TERM);
        }
    }

    /// Sends SIGKILL, as a crash would.
    pub fn kill9(&mut self) {
        self.note_peak();
        if let Some(mut child) = self.child.take() {
            // Harmless when it has ended already; `wait` collects it either way.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it gracefully and starts it again.
    pub fn restart(&mut self) {
        let status = self.terminate();
        assert!(status.success(), "snowbankd ended with {status} on SIGTERM: {}", self.log());
        self.start_again();
    }

    fn note_peak(&mut self) {
        if let Some(child) = &self.child {
            self.peak_rss = self.peak_rss.max(process::peak_rss(child.id()));
        }
    }

    /// The most memory that it has held, in bytes, over all its starts.
    pub fn peak_rss_bytes(&mut self) -> u64 {
        self.note_peak();
        self.peak_rss
    }

    /// What it wrote on standard output since its last start.
    #[must_use]
    pub fn banner(&self) -> String {
        let all = fs::read(self.scratch.join("stdout")).unwrap_or_default();
        let from = usize::try_from(self.output_ends).map_or(all.len(), |at| at.min(all.len()));
        String::from_utf8_lossy(&all[from..]).into_owned()
    }

    /// What it has written on standard error, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.scratch.join("stderr")).unwrap_or_default()).into_owned()
    }

    /// Runs `snowbankd ARGS` on this data folder, beside the server if it runs.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> process::Output {
        let mut command = self.snowbankd();
        command.arg("--config").arg(self.scratch.join("config.toml")).arg("--data-dir").arg(&self.data_dir).args(args);
        process::run(command)
    }

    /// A token that may pull what matches `pull` and push what matches `push`.
    #[must_use]
    pub fn token(&self, subject: &str, pull: &[&str], push: &[&str]) -> String {
        let mut args = vec!["token", "create", "--sub", subject, "--expires", "1d"];
        args.extend(pull.iter().flat_map(|pattern| ["--pull", pattern]));
        args.extend(push.iter().flat_map(|pattern| ["--push", pattern]));
        self.command(&args).success().stdout.trim().to_owned()
    }

    /// Bytes of the packs on its disk.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        scratch::bytes_beneath(&self.data_dir.join("storage/packs"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- snowbankd at {}\n{}\n---", self.url(), process::tail(&self.log(), 8_000));
        }
    }
}
