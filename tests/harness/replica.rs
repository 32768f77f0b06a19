//! One `snowbankd` process with a data folder and an address of its own.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    Authority, Scratch,
    authority::Pair,
    process::{self, Running},
};

/// How long a server may take to become ready, and to end when told to.
const LIMIT: Duration = Duration::from_mins(1);

/// A `snowbankd`. Ended (with SIGKILL) when dropped; when the test has failed, its log is printed.
#[derive(Debug)]
pub struct Replica {
    child: Option<Child>,
    data_dir: PathBuf,
    address: SocketAddr,
    metrics: Option<SocketAddr>,
    environment: Vec<(String, String)>,
    tls: Option<Encryption>,
    peak_rss: u64,
    /// Where the standard output of earlier starts ends.
    output_ends: u64,
    scratch: Scratch,
}

/// What a server that serves HTTPS has.
#[derive(Debug)]
struct Encryption {
    authority: Arc<Authority>,
    own: Pair,
    /// Shown by the harness, where the server asks for a certificate.
    visitor: Pair,
}

impl Replica {
    /// One that has this config file and, unless told otherwise, an empty data folder of its own;
    /// not started. `with_metrics` gives it an address for them.
    pub(crate) fn new(
        config: &str,
        data_dir: Option<PathBuf>,
        with_metrics: bool,
        environment: &[(String, String)],
        tls: Option<(&Arc<Authority>, &str)>,
    ) -> Self {
        let scratch = Scratch::new("server");
        let data_dir = data_dir.unwrap_or_else(|| scratch.join("data"));
        let metrics = with_metrics.then(process::own_address);
        let section = metrics
            .map(|address| format!("\n[metrics]\nlisten = \"{address}\"\n"))
            .unwrap_or_default();
        let file = scratch.join("config.toml");
        let address = process::own_address();
        let config = config.replace("@address@", &address.to_string());
        let (tls, keys) = match tls {
            Some((authority, keys)) => {
                let own =
                    authority.issue_server(scratch.path(), "server", &address.ip().to_string());
                let visitor = authority.issue_client(scratch.path(), "visitor");
                let keys = format!(
                    "\n[tls]\ncertificate-file = \"server.pem\"\nprivate-key-file = \
                     \"server.key\"\n{}\n",
                    keys.replace("@authority@", &authority.certificate().to_string_lossy())
                );
                (Some(Encryption { authority: Arc::clone(authority), own, visitor }), keys)
            }
            None => (None, String::new()),
        };
        process::write(&file, format!("{config}{section}{keys}"));
        // It may hold secrets.
        let private = fs::set_permissions(&file, fs::Permissions::from_mode(0o600));
        private.unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        Self {
            child: None,
            data_dir,
            address,
            metrics,
            environment: environment.to_vec(),
            tls,
            peak_rss: 0,
            output_ends: 0,
            scratch,
        }
    }

    /// `http://127.…:PORT`, or the same with https.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The certificate that it shows, and its key.
    #[must_use]
    pub fn certificate(&self) -> &Pair {
        &self.encryption().own
    }

    /// A certificate for whoever visits it, and its key.
    #[must_use]
    pub fn visitor(&self) -> &Pair {
        &self.encryption().visitor
    }

    fn encryption(&self) -> &Encryption {
        self.tls.as_ref().unwrap_or_else(|| panic!("this server speaks plain HTTP"))
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

    /// The folder of its config file.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The running process's id.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The process that serves.
    pub(crate) fn serve(&self) -> Command {
        let mut command = self.command_line();
        command.args(["--listen", &self.address.to_string()]);
        command
    }

    /// Starts it and does not wait.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        self.output_ends = fs::metadata(self.scratch.join("stdout")).map_or(0, |meta| meta.len());
        let mut command = self.serve();
        command.stdout(self.append("stdout")).stderr(self.append("stderr"));
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start snowbankd: {e}"));
        self.child = Some(child);
    }

    /// Starts it where it ran before, and waits until it is ready.
    pub fn start_again(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    fn snowbankd(&self) -> Command {
        let mut command = process::command(process::binary("snowbankd"), self.scratch.path());
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    fn append(&self, name: &str) -> File {
        let file = OpenOptions::new().create(true).append(true).open(self.scratch.join(name));
        file.unwrap_or_else(|e| panic!("cannot write the server's {name}: {e}"))
    }

    /// Whether it says that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let url = format!("{}/readyz", self.url());
        let answer = match &self.tls {
            Some(tls) => {
                tls.authority.http(Some(&tls.visitor)).build().and_then(|http| http.get(url).send())
            }
            None => reqwest::blocking::get(url),
        };
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Waits until it is ready.
    pub fn wait_ready(&mut self) {
        let started = Instant::now();
        while !self.is_ready() {
            if let Some(status) =
                self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
            {
                self.child = None;
                panic!("snowbankd ended at its start, {status}: {}", self.log());
            }
            assert!(
                started.elapsed() < LIMIT,
                "snowbankd is not ready after {LIMIT:?}: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends SIGTERM and does not wait.
    pub fn ask_to_end(&self) {
        if let Some(child) = &self.child {
            process::send(child, Signal::TERM);
        }
    }

    /// Sends SIGTERM, and gives how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.ask_to_end();
        self.wait_end()
    }

    /// Waits for its end after [`Self::ask_to_end`]; to ask twice would end it at once.
    pub(crate) fn wait_end(&mut self) -> ExitStatus {
        self.note_peak();
        let mut child = self.child.take().unwrap_or_else(|| panic!("the server does not run"));
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

    /// Sends SIGKILL, as a crash would.
    pub fn kill9(&mut self) {
        self.note_peak();
        if let Some(mut child) = self.child.take() {
            // Harmless when it has ended already; `wait` collects it either way.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends SIGSTOP: it does nothing until [`Self::wake`], and does not know of it.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGCONT.
    pub fn wake(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        process::send(
            self.child.as_ref().unwrap_or_else(|| panic!("the server does not run")),
            signal,
        );
    }

    /// Runs it up to a step at which it is to pause, and kills it there.
    pub fn kill_at(&self, step: &str) {
        let mut command = self.serve();
        command.env(crate::collection::PAUSE, format!("{step}:60000:1"));
        let mut running = Running::start(command, &[]);
        assert!(
            crate::collection::comes_to(step, &mut running),
            "it did not come to {step}: {}",
            running.wait()
        );
        running.kill();
    }

    /// Starts it where it is to end by itself within `limit`, and gives what it said.
    #[must_use]
    pub fn start_in_vain(&self, limit: Duration) -> process::Output {
        Running::start(self.serve(), &[]).wait_for(limit)
    }

    /// Sends SIGABRT: it ends as on a failed assertion of its own, with a core where the system
    /// writes one.
    pub fn abort(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap_or_else(|| panic!("the server does not run"));
        process::send(&child, Signal::ABORT);
        child.wait().unwrap_or_else(|e| panic!("waiting for snowbankd: {e}"))
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
        String::from_utf8_lossy(&fs::read(self.scratch.join("stderr")).unwrap_or_default())
            .into_owned()
    }

    /// Runs `snowbankd ARGS` with its config and data folder, beside it if it runs.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> process::Output {
        let mut command = self.command_line();
        command.args(args);
        process::run(command)
    }

    /// Starts `snowbankd ARGS` with its config and data folder, and these variables besides its
    /// own; an empty one takes the variable away.
    #[must_use]
    pub fn start_command(&self, args: &[&str], environment: &[(&str, &str)]) -> Running {
        let mut command = self.command_line();
        command.args(args);
        for (name, value) in environment {
            if value.is_empty() {
                command.env_remove(name)
            } else {
                command.env(name, value)
            };
        }
        Running::start(command, &[])
    }

    /// `snowbankd` with its config and data folder, not started, for more arguments.
    #[must_use]
    pub fn command_line(&self) -> Command {
        let mut command = self.snowbankd();
        command
            .arg("--config")
            .arg(self.scratch.join("config.toml"))
            .arg("--data-dir")
            .arg(&self.data_dir);
        command
    }

    /// The page that Prometheus reads.
    #[must_use]
    pub fn metrics_page(&self) -> String {
        let address =
            self.metrics.unwrap_or_else(|| panic!("this server has no address for metrics"));
        let answer = reqwest::blocking::get(format!("http://{address}/metrics"))
            .and_then(reqwest::blocking::Response::text);
        answer.unwrap_or_else(|e| panic!("http://{address}/metrics: {e}"))
    }

    /// Its metrics: each series (`name{labels}`, as on the page) and its value.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let page = self.metrics_page();
        let lines = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let parse = |line: &str| {
            let (series, value) =
                line.rsplit_once(' ').unwrap_or_else(|| panic!("no metric: {line}"));
            (series.to_owned(), value.parse().unwrap_or_else(|e| panic!("{line}: {e}")))
        };
        lines.map(parse).collect()
    }

    /// The sum over a counter's series that carry all these labels.
    #[must_use]
    pub fn counted(&self, counter: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |series: &str| {
            series.split('{').next() == Some(counter)
                && labels
                    .iter()
                    .all(|(label, value)| series.contains(&format!("{label}=\"{value}\"")))
        };
        self.metrics()
            .into_iter()
            .filter(|(series, _)| carries(series))
            .map(|(_, value)| value)
            .sum()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!(
                "--- snowbankd at {}\n{}\n---",
                self.url(),
                process::tail(&self.log(), 8_000)
            );
        }
    }
}
