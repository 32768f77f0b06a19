//! A real `snowbank` with a home folder of its own, pushing from a [`NixStore`].

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use snowbank_core::receipt::{Receipt, ReceiptLine, ReceiptStats, ReceiptStatus};

use crate::{
    NixStore, Scratch, Server,
    process::{self, Output, Running},
};

/// A person's `snowbank`: a home folder, and the Nix store that it pushes from.
#[derive(Debug)]
pub struct Client {
    nix_environment: Vec<(String, OsString)>,
    next: AtomicU32,
    home: Scratch,
}

impl Client {
    /// A client that has not logged in anywhere.
    #[must_use]
    pub fn new(store: &NixStore) -> Self {
        Self {
            nix_environment: store.environment(),
            next: AtomicU32::new(0),
            home: Scratch::new("client"),
        }
    }

    /// A client that is logged in to `server` with its root token.
    #[must_use]
    pub fn of(server: &Server, store: &NixStore) -> Self {
        Self::at(&server.url(), &server.root_token(), store)
    }

    /// A client that is logged in at `url` with `token`.
    #[must_use]
    pub fn at(url: &str, token: &str, store: &NixStore) -> Self {
        let client = Self::new(store);
        let _ = Running::start(client.command(&["login", "test", url]), token.as_bytes())
            .wait()
            .success();
        client
    }

    /// A variable of its environment from here on.
    pub fn set_variable(&mut self, name: &str, value: impl Into<OsString>) {
        self.nix_environment.push((name.to_owned(), value.into()));
    }

    /// Its home folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// `snowbank ARGS`, not started.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = process::command(process::binary("snowbank"), self.home.path());
        command.args(args).envs(self.nix_environment.iter().map(|(key, value)| (key, value)));
        // The home folder is this client's own, and so are the Nix files in it.
        command.env_remove("NIX_USER_CONF_FILES");
        command
    }

    /// Runs `snowbank ARGS` to its end.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Output {
        process::run(self.command(args))
    }

    /// Runs `snowbank push main` for these installables to its end.
    #[must_use]
    pub fn push<S: AsRef<str>>(&self, installables: &[S]) -> Push {
        self.push_to("main", installables, &[])
    }

    /// Runs `snowbank push CACHE OPTIONS` to its end.
    #[must_use]
    pub fn push_to<S: AsRef<str>>(
        &self,
        cache: &str,
        installables: &[S],
        options: &[&str],
    ) -> Push {
        self.start_push(cache, installables, options).wait()
    }

    /// Starts `snowbank push`. Installables go by standard input: there may be thousands.
    #[must_use]
    pub fn start_push<S: AsRef<str>>(
        &self,
        cache: &str,
        installables: &[S],
        options: &[&str],
    ) -> RunningPush {
        let receipts = self.next_receipts();
        let mut command = self.command(&["push", cache, "--stdin", "--receipts"]);
        command.arg(&receipts).args(options);
        Self::run_push(command, receipts, installables)
    }

    /// Starts `snowbank push` as a CI job does, with server and token from the environment.
    #[must_use]
    pub fn start_push_as<S: AsRef<str>>(
        &self,
        url: &str,
        token: &str,
        cache: &str,
        installables: &[S],
    ) -> RunningPush {
        let receipts = self.next_receipts();
        let mut command = self.command(&["push", cache, "--stdin", "--receipts"]);
        command.arg(&receipts).env("SNOWBANK_URL", url).env("SNOWBANK_TOKEN", token);
        Self::run_push(command, receipts, installables)
    }

    fn next_receipts(&self) -> PathBuf {
        self.home.join(format!("receipts-{}.jsonl", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    fn run_push<S: AsRef<str>>(
        command: Command,
        receipts: PathBuf,
        installables: &[S],
    ) -> RunningPush {
        let list: String = installables.iter().flat_map(|one| [one.as_ref(), "\n"]).collect();
        RunningPush { running: Running::start(command, list.as_bytes()), receipts }
    }
}

/// A push under way.
#[derive(Debug)]
pub struct RunningPush {
    running: Running,
    receipts: PathBuf,
}

impl RunningPush {
    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        self.running.kill();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        self.running.signal(signal);
    }

    /// Whether it has ended.
    pub fn is_done(&mut self) -> bool {
        self.running.is_done()
    }

    /// The receipts written so far.
    #[must_use]
    pub fn receipts_so_far(&self) -> Vec<Receipt> {
        receipts_of(&read_lines(&self.receipts))
    }

    /// Waits for its end.
    #[must_use]
    pub fn wait(self) -> Push {
        self.wait_for(process::COMMAND_LIMIT)
    }

    /// Waits for its end, at most `limit`.
    #[must_use]
    pub fn wait_for(self, limit: std::time::Duration) -> Push {
        let output = self.running.wait_for(limit);
        Push { lines: read_lines(&self.receipts), output, receipts_file: self.receipts }
    }
}

/// A push that has ended.
#[derive(Debug)]
pub struct Push {
    /// How it ended and what it said.
    pub output: Output,
    /// What its receipts file says, a line per path.
    pub lines: Vec<ReceiptLine>,
    /// That file.
    pub receipts_file: PathBuf,
}

impl Push {
    /// A push that must have succeeded.
    #[must_use]
    #[track_caller]
    pub fn success(self) -> Self {
        assert!(self.output.status.success(), "the push failed: {}", self.output);
        self
    }

    /// A push that must have ended with this code.
    #[must_use]
    #[track_caller]
    pub fn ended_with(self, code: i32) -> Self {
        assert_eq!(
            self.output.code(),
            Some(code),
            "the push should have ended with {code}: {}",
            self.output
        );
        self
    }

    /// The server's receipts, of paths uploaded and present.
    #[must_use]
    pub fn receipts(&self) -> Vec<Receipt> {
        receipts_of(&self.lines)
    }

    /// How many paths it made visible.
    #[must_use]
    pub fn uploaded(&self) -> usize {
        self.receipts().iter().filter(|receipt| receipt.status == ReceiptStatus::Uploaded).count()
    }

    /// How many paths were there before.
    #[must_use]
    pub fn present(&self) -> usize {
        self.receipts().iter().filter(|receipt| receipt.status == ReceiptStatus::Present).count()
    }

    /// The client's counts, over all paths.
    #[must_use]
    pub fn stats(&self) -> ReceiptStats {
        let mut sum = ReceiptStats::default();
        for stats in self.receipts().iter().filter_map(|receipt| receipt.stats) {
            sum.chunks_total += stats.chunks_total;
            sum.chunks_new += stats.chunks_new;
            sum.chunks_sent += stats.chunks_sent;
            sum.bytes_total += stats.bytes_total;
            sum.bytes_new += stats.bytes_new;
            sum.bytes_sent += stats.bytes_sent;
        }
        sum
    }
}

/// The lines of a receipts file. A last line without an end is left out: the process may have been
/// killed in it.
fn read_lines(file: &Path) -> Vec<ReceiptLine> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line: &str| {
        serde_json::from_str(line)
            .unwrap_or_else(|e| panic!("{} holds no receipt line: {e}: {line}", file.display()))
    };
    whole.lines().map(parse).collect()
}

fn receipts_of(lines: &[ReceiptLine]) -> Vec<Receipt> {
    let receipt = |line: &ReceiptLine| match line {
        ReceiptLine::Receipt(receipt) => Some(receipt.clone()),
        _ => None,
    };
    lines.iter().filter_map(receipt).collect()
}
