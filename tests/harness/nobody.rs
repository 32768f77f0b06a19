//! A user of a machine with a Nix daemon that does not trust them.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    NixStore, Scratch,
    nix::NixDaemon,
    process::{self, Output},
};

/// The id of `nobody` and of its group.
const ID: u32 = 65_534;

/// The user `nobody`, with a home folder, whose Nix goes through a daemon.
#[derive(Debug)]
pub struct Nobody {
    daemon: String,
    conf: PathBuf,
    home: Scratch,
}

impl Nobody {
    /// That user of `daemon`, which keeps `store`. `None`, and a line that says why, where this
    /// process may not become that user, or where the programs are out of that user's reach.
    #[must_use]
    pub fn of(daemon: &NixDaemon, store: &NixStore) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root may run a program as another user");
            return None;
        }
        let home = Scratch::new("nobody");
        chown(home.path(), Some(ID), Some(ID))
            .unwrap_or_else(|e| panic!("{}: {e}", home.path().display()));
        // Its way to the socket and to the store.
        let folder = store.root().with_file_name("");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let conf = store.root().with_file_name("conf");
        let nobody = Self { daemon: daemon.uri(store), conf, home };
        let snowbank = process::binary("snowbank");
        if nobody.command(&snowbank).arg("--version").output().is_err() {
            eprintln!("SKIPPED: {} is in a folder that others may not enter", snowbank.display());
            return None;
        }
        Some(nobody)
    }

    /// Its home folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A program that this user runs, not started.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = process::command(program, self.home());
        command.uid(ID).gid(ID).env("NIX_REMOTE", &self.daemon).env("NIX_CONF_DIR", &self.conf);
        command
    }

    /// Runs a program as this user to its end.
    #[must_use]
    pub fn run(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Output {
        let mut command = self.command(program);
        command.args(args);
        process::run(command)
    }
}
