//! Real Nix on stores of a test's own.
//!
//! A store here is what Nix calls a chroot store: `local?root=FOLDER`. Its logical store directory
//! is `/nix/store`, its files lie beneath `FOLDER/nix/store`, and nothing outside the folder is
//! touched. Nix builds in such a store too: it binds the store and the folders named by
//! `sandbox-paths` into a mount namespace of its own, which root may do, as may everyone where user
//! namespaces are allowed. Builders use the machine's `/bin/sh` and its tools.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    Scratch,
    process::{self, Output, Running},
};

const CONFIG: &str = "build-users-group =\nsandbox = true\nsandbox-fallback = false\nsubstituters \
    =\n\
    trusted-public-keys =\nrequire-sigs = true\nfsync-metadata = false\nmax-jobs = \
    2\nkeep-derivations = false\n\
    connect-timeout = 10\nstalled-download-timeout = 60\ndownload-attempts = 1\n\
    experimental-features = nix-command\n";

/// How long a copy of many gigabytes may take.
const COPY_LIMIT: Duration = Duration::from_mins(30);

/// A Nix store at a root of its own.
#[derive(Debug)]
pub struct NixStore {
    scratch: Scratch,
}

impl NixStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        let scratch = Scratch::new("nix");
        let folders = ["/bin", "/usr", "/lib", "/lib64", "/etc/alternatives"]
            .into_iter()
            .filter(|folder| Path::new(folder).exists());
        let sandbox_paths = folders.collect::<Vec<_>>().join(" ");
        process::write(
            &scratch.join("conf/nix.conf"),
            format!("{CONFIG}sandbox-paths = {sandbox_paths}\n"),
        );
        let _ = scratch.folder("home");
        Self { scratch }
    }

    /// The folder that holds the store's `/nix`.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.scratch.join("root")
    }

    /// The store's address for `--store` and `NIX_REMOTE`.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("local?root={}", self.root().display())
    }

    /// What a process needs in its environment to work with this store.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, OsString)> {
        vec![
            ("NIX_REMOTE".to_owned(), self.uri().into()),
            ("NIX_CONF_DIR".to_owned(), self.scratch.join("conf").into()),
            ("NIX_USER_CONF_FILES".to_owned(), OsString::new()),
        ]
    }

    /// Where a store path's files really are.
    #[must_use]
    pub fn real_path(&self, store_path: &str) -> PathBuf {
        self.root().join(store_path.trim_start_matches('/'))
    }

    /// A Nix command on this store, not started.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = process::command(program, &self.scratch.join("home"));
        command.envs(self.environment());
        command
    }

    /// Runs a Nix command on this store to its end.
    #[must_use]
    pub fn run(&self, program: &str, args: &[&str]) -> Output {
        let mut command = self.command(program);
        command.args(args);
        process::run(command)
    }

    fn lines(&self, program: &str, args: &[&str]) -> Vec<String> {
        self.run(program, args).success().stdout.lines().map(str::to_owned).collect()
    }

    /// As [`Self::lines`], for more arguments than a command line takes.
    fn lines_for<S: AsRef<str>>(&self, program: &str, args: &[&str], paths: &[S]) -> Vec<String> {
        let batches = paths.chunks(2_000).flat_map(|batch| {
            let all: Vec<&str> =
                args.iter().copied().chain(batch.iter().map(AsRef::as_ref)).collect();
            self.lines(program, &all)
        });
        batches.collect()
    }

    /// Adds a file or folder to the store, and gives its store path.
    #[must_use]
    pub fn add(&self, path: &Path) -> String {
        self.lines("nix-store", &["--add", &path.to_string_lossy()]).remove(0)
    }

    /// Adds several, in one command.
    #[must_use]
    pub fn add_all(&self, paths: &[PathBuf]) -> Vec<String> {
        let texts: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
        self.lines_for("nix-store", &["--add"], &texts)
    }

    /// Builds a Nix expression, and gives the store paths of its outputs.
    #[must_use]
    pub fn build(&self, expression: &str) -> Vec<String> {
        let file = self.scratch.join("expression.nix");
        process::write(&file, expression);
        self.lines("nix-build", &["--no-out-link", "--quiet", &file.to_string_lossy()])
    }

    /// Instantiates a Nix expression, and gives its derivations.
    #[must_use]
    pub fn instantiate(&self, expression: &str) -> Vec<String> {
        let file = self.scratch.join("expression.nix");
        process::write(&file, expression);
        self.lines("nix-instantiate", &["--quiet", &file.to_string_lossy()])
    }

    /// All that these paths refer to, themselves included, in no particular order.
    #[must_use]
    pub fn closure<S: AsRef<str>>(&self, paths: &[S]) -> Vec<String> {
        let all: BTreeSet<String> =
            self.lines_for("nix-store", &["--query", "--requisites"], paths).into_iter().collect();
        all.into_iter().collect()
    }

    /// The NAR hash of each, as Nix has recorded it: `sha256:<nix32>`.
    #[must_use]
    pub fn hashes<S: AsRef<str>>(&self, paths: &[S]) -> Vec<String> {
        self.lines_for("nix-store", &["--query", "--hash"], paths)
    }

    /// The NAR size of each.
    #[must_use]
    pub fn sizes<S: AsRef<str>>(&self, paths: &[S]) -> Vec<u64> {
        let lines = self.lines_for("nix-store", &["--query", "--size"], paths);
        lines
            .iter()
            .map(|line| {
                line.parse().unwrap_or_else(|e| panic!("nix-store --query --size: {line}: {e}"))
            })
            .collect()
    }

    /// Adds the tree that a NAR describes, as `name`.
    #[must_use]
    pub fn add_nar(&self, name: &str, nar: &[u8]) -> String {
        let scratch = Scratch::new("restored");
        let mut command = self.command("nix-store");
        command.arg("--restore").arg(scratch.join(name));
        let _ = Running::start(command, nar).wait().success();
        self.add(&scratch.join(name))
    }

    /// Takes what `nix-store --export` wrote, or the like: paths under any name, with references.
    pub fn import(&self, export: &[u8]) {
        let mut command = self.command("nix-store");
        command.arg("--import");
        let _ = Running::start(command, export).wait().success();
    }

    /// Has Nix copy paths, and all that they refer to, into the binary cache at `url` (`nix copy
    /// --to`).
    #[must_use]
    pub fn copy_to<S: AsRef<str>>(&self, url: &str, paths: &[S]) -> Output {
        let mut command = self.command("nix");
        command.args(["copy", "--to", url]).args(paths.iter().map(AsRef::as_ref));
        Running::start(command, &[]).wait_for(COPY_LIMIT)
    }

    /// Has Nix copy paths, and all that they refer to, out of the binary cache at `url` (`nix copy
    /// --from`); each must be signed by `key`.
    #[must_use]
    pub fn copy_from<S: AsRef<str>>(&self, url: &str, key: &str, paths: &[S]) -> Output {
        let mut command = self.command("nix");
        command.args(["copy", "--from", url, "--option", "trusted-public-keys", key]);
        command.args(paths.iter().map(AsRef::as_ref));
        Running::start(command, &[]).wait_for(COPY_LIMIT)
    }

    /// Makes a key for a binary cache: the file of its secret half, and its public half as nix.conf
    /// wants it.
    #[must_use]
    pub fn make_key(&self, name: &str) -> (PathBuf, String) {
        let [secret, public] =
            ["secret", "public"].map(|half| self.scratch.join(format!("{name}.{half}")));
        let args = [
            "--generate-binary-cache-key",
            name,
            &secret.to_string_lossy(),
            &public.to_string_lossy(),
        ];
        let _ = self.run("nix-store", &args).success();
        let key =
            fs::read_to_string(&public).unwrap_or_else(|e| panic!("{}: {e}", public.display()));
        (secret, key.trim().to_owned())
    }

    /// The NAR of a path, by `nix-store --dump`.
    #[must_use]
    pub fn dump(&self, store_path: &str) -> Vec<u8> {
        let mut command = self.command("nix-store");
        command.args(["--dump"]).arg(self.real_path(store_path));
        let output =
            command.output().unwrap_or_else(|e| panic!("nix-store --dump {store_path}: {e}"));
        assert!(
            output.status.success(),
            "nix-store --dump {store_path}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    /// Whether the store holds a path.
    #[must_use]
    pub fn has(&self, store_path: &str) -> bool {
        self.run("nix-store", &["--query", "--hash", store_path]).status.success()
    }

    /// Has Nix fetch paths from the cache at `url`, each of which must be signed by `key`.
    #[must_use]
    pub fn substitute<S: AsRef<str>>(&self, url: &str, key: &str, paths: &[S]) -> Output {
        self.substitute_with(url, key, paths, &[])
    }

    /// As [`Self::substitute`], with more options for Nix.
    #[must_use]
    pub fn substitute_with<S: AsRef<str>>(
        &self,
        url: &str,
        key: &str,
        paths: &[S],
        options: &[&str],
    ) -> Output {
        let mut command = self.command("nix-store");
        command.args([
            "--realise",
            "--option",
            "substituters",
            url,
            "--option",
            "trusted-public-keys",
            key,
        ]);
        command
            .args(["--option", "require-sigs", "true"])
            .args(options)
            .args(paths.iter().map(AsRef::as_ref));
        Running::start(command, &[]).wait()
    }

    /// Has Nix check that every path's contents are what it recorded; panics otherwise.
    pub fn verify(&self) {
        let _ = self.run("nix-store", &["--verify", "--check-contents"]).success();
    }

    /// Makes a store path's files writable, for a test that damages them.
    #[must_use]
    pub fn unlocked(&self, store_path: &str) -> PathBuf {
        let path = self.real_path(store_path);
        let status = Command::new("chmod").arg("-R").arg("u+w").arg(&path).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "cannot make {} writable",
            path.display()
        );
        path
    }

    /// Removes a store path's files, and leaves it registered.
    pub fn lose(&self, store_path: &str) {
        let path = self.unlocked(store_path);
        let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        gone.unwrap_or_else(|e| panic!("cannot remove {}: {e}", path.display()));
    }
}

/// A `nix-daemon` that keeps a [`NixStore`]. Ended when dropped.
#[derive(Debug)]
pub struct NixDaemon {
    socket: PathBuf,
    // Ends when this value does.
    _process: Running,
}

impl NixDaemon {
    /// Starts one, and waits until it listens.
    #[must_use]
    pub fn of(store: &NixStore) -> Self {
        let socket = store.scratch.join("daemon-socket");
        let mut command = store.command("nix-daemon");
        command.arg("--daemon").env("NIX_DAEMON_SOCKET_PATH", &socket);
        let process = Running::start(command, &[]);
        process::wait_until("nix-daemon listens", Duration::from_secs(20), || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        Self { socket, _process: process }
    }

    /// The store's address through this daemon.
    #[must_use]
    pub fn uri(&self, store: &NixStore) -> String {
        format!("unix://{}?root={}", self.socket.display(), store.root().display())
    }
}

impl Default for NixStore {
    fn default() -> Self {
        Self::new()
    }
}
