//! `rclone serve s3` over a folder: an S3 server that is not written in Rust and shares nothing
//! with `s3s`.

use std::{
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    Scratch,
    loopback::lock,
    process::{self, Running},
    s3::{ACCESS_KEY_ID, BUCKET, SECRET_ACCESS_KEY},
};

/// A running `rclone serve s3`. Ended when dropped.
#[derive(Debug)]
pub struct Rclone {
    address: SocketAddr,
    process: Mutex<Running>,
    scratch: Scratch,
}

impl Rclone {
    /// Starts one with an empty bucket `snowbank`.
    #[must_use]
    pub fn start() -> Self {
        let scratch = Scratch::new("rclone");
        let _ = scratch.folder(Path::new("buckets").join(BUCKET));
        let address = process::own_address();
        let process = Mutex::new(serve(address, &scratch));
        Self { address, process, scratch }
    }

    /// Kills it.
    pub fn kill(&self) {
        let mut process = lock(&self.process);
        process.kill();
        process::wait_until("rclone is gone", Duration::from_secs(20), || process.is_done());
    }

    /// Starts it again where it was, over what it had.
    pub fn start_again(&self) {
        *lock(&self.process) = serve(self.address, &self.scratch);
    }

    /// Stops it (SIGSTOP): connections stay, and nothing is answered.
    pub fn stop(&self) {
        lock(&self.process).signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        lock(&self.process).signal(Signal::CONT);
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The folder that holds its buckets.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.scratch.join("buckets")
    }
}

/// Starts it, and waits until it listens.
fn serve(address: SocketAddr, scratch: &Scratch) -> Running {
    let mut command = process::command(program(), scratch.path());
    command
        .args(["serve", "s3", "--addr", &address.to_string()])
        .args(["--auth-key", &format!("{ACCESS_KEY_ID},{SECRET_ACCESS_KEY}")])
        // Empty folders stay: one that goes while another request writes into it would fail that
        // one.
        .arg("--no-cleanup")
        .arg(scratch.join("buckets"));
    let mut running = Running::start(command, &[]);
    process::wait_until("rclone serve s3 listens", Duration::from_secs(20), || {
        assert!(!running.is_done(), "rclone serve s3 ended at its start");
        TcpStream::connect(address).is_ok()
    });
    running
}

/// `rclone` of the PATH, or the one that `tests/run` has installed.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let installed = cache.map(|cache| cache.join("snowbank/tools/bin"));
    let found = std::env::split_paths(&path)
        .chain(installed)
        .map(|folder| folder.join("rclone"))
        .find(|it| it.is_file());
    found.unwrap_or_else(|| panic!("there is no rclone; tests/run installs it"))
}
