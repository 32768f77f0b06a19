//! Starting the project's binaries and others, with limits on their time and nothing inherited but
//! `PATH`.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use crate::Scratch;

/// How long a command may take unless said otherwise.
pub const COMMAND_LIMIT: Duration = Duration::from_mins(5);

/// One of the project's binaries, as `tests/run` builds them.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let folder = std::env::var_os("SNOWBANK_TEST_BIN").map_or_else(beside_the_test, PathBuf::from);
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is not there; build it first: cargo build -p snowbank-server -p snowbank-client \
         (tests/run does)",
        path.display()
    );
    path
}

/// `target/debug` for a test in `target/debug/deps`, and for a benchmark in `target/debug`.
fn beside_the_test() -> PathBuf {
    let own =
        std::env::current_exe().unwrap_or_else(|e| panic!("where is this test's own binary: {e}"));
    let folder = own.parent().unwrap_or(Path::new("."));
    if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder).to_path_buf()
    } else {
        folder.to_path_buf()
    }
}

/// Cargo's target folder: two above a test's binary.
#[must_use]
pub fn target_folder() -> PathBuf {
    let folder = beside_the_test();
    folder.parent().unwrap_or(&folder).to_path_buf()
}

/// A command with an empty environment but for `PATH` and the home folder `home`.
#[must_use]
pub fn command(program: impl AsRef<OsStr>, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env(
            "PATH",
            std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()),
        )
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", home)
        .env("XDG_CACHE_HOME", home.join(".cache"))
        .env("XDG_CONFIG_HOME", home.join(".config"))
        .env("XDG_DATA_HOME", home.join(".local/share"))
        .env("RUST_BACKTRACE", "1")
        .current_dir(home)
        .stdin(Stdio::null());
    command
}

/// What a finished command left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote on standard output.
    pub stdout: String,
    /// What it wrote on standard error.
    pub stderr: String,
    /// How long it took.
    pub elapsed: Duration,
    /// The most memory that it held, in bytes, as last seen (sampled every few milliseconds).
    pub peak_rss: u64,
    /// Processor time that it and those of its children took that it has waited for.
    pub cpu: Duration,
}

impl Output {
    /// The exit code; `None` after a signal.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The output of a command that must succeed.
    #[must_use]
    #[track_caller]
    pub fn success(self) -> Self {
        assert!(self.status.success(), "the command failed: {self}");
        self
    }

    /// Asserts that the command succeeded.
    #[track_caller]
    pub fn succeeds(self) {
        let _ = self.success();
    }

    /// The output of a command that must end with this code.
    #[must_use]
    #[track_caller]
    pub fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    /// Both streams: for assertions on what a user is told.
    #[must_use]
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let signal =
            self.status.signal().map(|signal| format!(", signal {signal}")).unwrap_or_default();
        write!(
            f,
            "exit code {:?}{signal} after {:.1} s\n--- stdout\n{}\n--- stderr\n{}\n---",
            self.code(),
            self.elapsed.as_secs_f32(),
            tail(&self.stdout, 6_000),
            tail(&self.stderr, 6_000)
        )
    }
}

/// The last `limit` bytes of a text, from a line's start.
#[must_use]
pub fn tail(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let from = (text.len() - limit..text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(text.len());
    let rest = &text[from..];
    format!("[…]\n{}", rest.split_once('\n').map_or(rest, |(_, lines)| lines))
}

/// A command under way, its streams going to files. Ended when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: String,
    started: Instant,
    peak_rss: u64,
    /// Processor time, known once the process has ended.
    cpu: Option<Duration>,
    // Declared after `child`, so that it is removed once the process is gone.
    streams: Scratch,
}

impl Running {
    /// Starts `command` with `input` on its standard input.
    #[must_use]
    pub fn start(mut command: Command, input: &[u8]) -> Self {
        let what = format!("{command:?}");
        let streams = Scratch::new("streams");
        let file = |name: &str| {
            File::create(streams.join(name))
                .unwrap_or_else(|e| panic!("cannot write {name} of {what}: {e}"))
        };
        if !input.is_empty() {
            fs::write(streams.join("stdin"), input)
                .unwrap_or_else(|e| panic!("cannot write stdin of {what}: {e}"));
            command.stdin(
                File::open(streams.join("stdin"))
                    .unwrap_or_else(|e| panic!("stdin of {what}: {e}")),
            );
        }
        command.stdout(file("stdout")).stderr(file("stderr"));
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {what}: {e}"));
        Self { child, what, started: Instant::now(), peak_rss: 0, cpu: None, streams }
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub fn is_done(&mut self) -> bool {
        if self.cpu.is_none() {
            self.peak_rss = self.peak_rss.max(peak_rss(self.child.id()));
            if has_ended(&self.child) {
                // Before it is waited for: the system forgets it then.
                self.cpu = Some(cpu_time(self.child.id()));
            }
        }
        self.cpu.is_some()
    }

    /// What it has written on standard error so far.
    #[must_use]
    pub fn stderr_so_far(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.streams.join("stderr")).unwrap_or_default())
            .into_owned()
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        // Harmless when it has ended already.
        let _ = self.child.kill();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        send(&self.child, signal);
    }

    /// Waits for its end, at most [`COMMAND_LIMIT`].
    #[must_use]
    pub fn wait(self) -> Output {
        self.wait_for(COMMAND_LIMIT)
    }

    /// Waits for its end, at most `limit`; panics when it has not ended by then.
    #[must_use]
    pub fn wait_for(mut self, limit: Duration) -> Output {
        while !self.is_done() {
            if self.started.elapsed() > limit {
                self.kill();
                let output = self.output();
                panic!("{} did not end within {limit:?}: {output}", self.what);
            }
            // The end is seen at most 2 % too late.
            let pause = self.started.elapsed() / 50;
            std::thread::sleep(pause.clamp(Duration::from_micros(200), Duration::from_millis(10)));
        }
        self.output()
    }

    fn output(&mut self) -> Output {
        let status = self.child.wait().unwrap_or_else(|e| panic!("waiting for {}: {e}", self.what));
        let read = |name| {
            String::from_utf8_lossy(&fs::read(self.streams.join(name)).unwrap_or_default())
                .into_owned()
        };
        Output {
            status,
            stdout: read("stdout"),
            stderr: read("stderr"),
            elapsed: self.started.elapsed(),
            peak_rss: self.peak_rss,
            cpu: self.cpu.unwrap_or_default(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_done() {
            self.kill();
        }
        // Nothing waits for this process any more; its end only has to be collected.
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
#[must_use]
pub fn run(command: Command) -> Output {
    Running::start(command, &[]).wait()
}

/// Sends a signal to a child.
pub fn send(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    // Fails only when the child has ended and been waited for, and then there is nothing to tell
    // it.
    let _ = rustix::process::kill_process(pid, signal);
}

/// Whether a child has ended; it stays to be waited for.
fn has_ended(child: &Child) -> bool {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    // An error means that there is nothing to wait for any more.
    !matches!(waitid(WaitId::Pid(Pid::from_child(child)), options), Ok(None))
}

/// The most memory that a process has held so far (`VmHWM`), in bytes; 0 when there is no such
/// process any more.
#[must_use]
pub fn peak_rss(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

/// The memory that a process holds now (`VmRSS`), in bytes; 0 when there is no such process any
/// more.
#[must_use]
pub fn rss(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Processor time, user's and system's, that a process has taken so far with those of its children
/// that it has waited for; known until the process is waited for, and to a hundredth of a second.
#[must_use]
pub fn cpu_time(pid: u32) -> Duration {
    // `utime`, `stime`, `cutime` and `cstime` are fields 14 to 17; those behind the name begin with
    // the third.
    let ticks: u64 =
        stat(pid).iter().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    // A tick is 10 ms wherever Linux reports it (`USER_HZ`).
    Duration::from_millis(ticks * 10)
}

/// As [`cpu_time`], with the children that run.
#[must_use]
pub fn tree_cpu_time(pid: u32) -> Duration {
    cpu_time(pid) + children(pid).into_iter().map(cpu_time).sum::<Duration>()
}

/// Processes whose parent is `parent`.
#[must_use]
pub fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc")
        .map(|entries| entries.flatten().collect::<Vec<_>>())
        .unwrap_or_default();
    let ids = entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| stat(*id).get(1).is_some_and(|its| its.parse() == Ok(parent))).collect()
}

/// Whether there is such a process, and it runs.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    stat(pid).first().is_some_and(|state| state != "Z" && state != "X")
}

/// What `/proc/PID/stat` says behind the process's name, which is in parentheses: state, parent, …
fn stat(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(") ")
        .map(|(_, rest)| rest.split_whitespace().map(str::to_owned).collect())
        .unwrap_or_default()
}

/// An address that nobody else listens on: the host in 127.64.0.0/10 is this process's own (its
/// bits are the process's id), and the port counts up. So tests that run side by side never meet,
/// and a server that is restarted finds its address free.
#[must_use]
pub fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let [_, high, middle, low] = (std::process::id() & 0x003f_ffff).to_be_bytes();
    let port = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 64 + high, middle, low)), port)
}

/// Raises the number of files that this process, and those that it starts, may have open to the
/// most that is allowed.
pub fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    let raised = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    raised.unwrap_or_else(|e| panic!("{most:?} open files: {e}"));
}

/// Asks `ready` until it says yes; panics with `what` after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Writes a file, its folder included.
pub fn write(path: &Path, contents: impl AsRef<[u8]>) {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)
        .unwrap_or_else(|e| panic!("cannot create {}: {e}", folder.display()));
    let mut file =
        File::create(path).unwrap_or_else(|e| panic!("cannot create {}: {e}", path.display()));
    file.write_all(contents.as_ref())
        .unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
}
