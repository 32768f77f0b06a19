//! A post-build hook for one command.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::hook::{queue_command, quoted};
use crate::exit::Failure;
use crate::nix::{NixFiles, User, is_served_by_daemon};
use crate::queue::QueueFolder;
use crate::store::StoreOptions;

/// Most entries of the queue.
const MAX_ENTRIES: u64 = 10_000_000;

/// A hook that Nix is told of by the variable `NIX_CONFIG`.
pub(super) struct PrivateHook {
    script: PathBuf,
}

impl PrivateHook {
    /// Makes the hook in `scratch`, with a configured one behind it. `None` where Nix would not
    /// heed it, or could not run it.
    pub(super) fn make(
        scratch: &Path,
        queue: &QueueFolder,
        cache: &str,
        store: &StoreOptions,
    ) -> Result<Option<Self>, Failure> {
        if !is_heeded(store) {
            return Ok(None);
        }
        let own = scratch.join("queue-hook");
        let own_command = format!("{} {cache}", queue_command(queue, MAX_ENTRIES)?);
        write(&own, &format!("exec {own_command}"))?;
        if !can_run(&own) {
            return Ok(None);
        }
        let configured = NixFiles::of_environment().settings().unwrap_or_default();
        let configured = configured.text("post-build-hook").filter(|hook| !hook.is_empty());
        let script = match configured {
            None => own,
            Some(configured) => {
                let script = scratch.join("post-build-hook");
                let [own, configured] = [&own, Path::new(configured)].map(quoted);
                write(&script, &format!("{}\nexec {}", own?, configured?))?;
                script
            }
        };
        // A line of nix.conf cannot quote.
        // Nix reads words, and joins them with one space.
        let is_plain = script.to_str().is_some_and(|path| {
            !path.contains('#') && path.split_whitespace().collect::<Vec<_>>().join(" ") == path
        });
        Ok(is_plain.then_some(Self { script }))
    }

    /// The value of `NIX_CONFIG` for the command: that of this process, and the hook.
    pub(super) fn nix_config(&self) -> String {
        let own = env::var("NIX_CONFIG").unwrap_or_default();
        format!("{own}\npost-build-hook = {}\n", self.script.display())
    }
}

/// Whether Nix heeds the hook of this user: where no daemon builds for the user, or one that trusts
/// the user.
fn is_heeded(store: &StoreOptions) -> bool {
    if !is_served_by_daemon(store.uri.as_deref()) {
        return true;
    }
    let settings = NixFiles::of_environment().system_settings();
    User::current().is_some_and(|user| settings.is_ok_and(|settings| user.is_trusted(&settings)))
}

/// Whether programs in the folder can be run: it may be on a file system that forbids it.
fn can_run(script: &Path) -> bool {
    let mut command = Command::new(script);
    command.env("OUT_PATHS", "").env_remove("DRV_PATH").stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn write(file: &Path, command: &str) -> Result<(), Failure> {
    let written = fs::write(file, format!("#!/bin/sh\n{command}\n"))
        .and_then(|()| fs::set_permissions(file, Permissions::from_mode(0o755)));
    written.map_err(|error| {
        let doing = format!("cannot write {}", file.display());
        Failure::from(error).context(doing)
    })
}
