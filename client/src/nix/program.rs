//! The program `nix`, run for what only Nix can tell.

use std::io;
use std::path::Path;
use std::process::{Command as BlockingCommand, Output, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Where `nix` is when `PATH` does not have it, as for services and for `sudo`.
const USUAL_NIX: &str = "/nix/var/nix/profiles/default/bin/nix";
/// The program that realises store paths.
pub const NIX_STORE: &str = "nix-store";
const PROGRAMS: [&str; 2] = ["nix", USUAL_NIX];
/// How long Nix may take.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);

/// The reason why Nix could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum NixRunError {
    /// There is none.
    #[error("there is no `{0}` in PATH")]
    NoNix(&'static str),
    /// It cannot be started.
    #[error("`{0}` cannot be started ({1})")]
    NotStarted(&'static str, io::Error),
    /// It takes too long.
    #[error("Nix does not answer within {} s", COMMAND_TIMEOUT.as_secs())]
    TooSlow,
}

impl NixRunError {
    fn of(error: io::Error, program: &'static str) -> Self {
        if error.kind() == io::ErrorKind::NotFound {
            Self::NoNix(program)
        } else {
            Self::NotStarted(program, error)
        }
    }
}

/// Runs `nix` with the command that `arrange` gives it, to its end.
///
/// # Errors
/// [`NixRunError`], for a Nix that did not run to its end.
pub async fn run(arrange: impl Fn(&mut Command)) -> Result<Output, NixRunError> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for program in PROGRAMS {
        let mut command = Command::new(program);
        command
            .args(["--extra-experimental-features", "nix-command"])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        arrange(&mut command);
        match timeout(COMMAND_TIMEOUT, command.output()).await {
            Ok(Ok(output)) => return Ok(output),
            Ok(Err(error)) => last = error,
            Err(_) => return Err(NixRunError::TooSlow),
        }
    }
    Err(NixRunError::of(last, "nix"))
}

/// Starts the Nix program `name`, arranged by `arrange`. It has all the time that it needs, and is
/// killed when the child is dropped.
///
/// # Errors
/// [`NixRunError`], for a program that is not there or cannot be started.
pub fn start(name: &'static str, arrange: impl Fn(&mut Command)) -> Result<Child, NixRunError> {
    let usual = Path::new(USUAL_NIX).with_file_name(name);
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for program in [Path::new(name), &usual] {
        let mut command = Command::new(program);
        command.kill_on_drop(true);
        arrange(&mut command);
        match command.spawn() {
            Ok(child) => return Ok(child),
            Err(error) => last = error,
        }
    }
    Err(NixRunError::of(last, name))
}

/// The version of Nix, as far as major and minor; `None` where there is no Nix, or one that counts
/// otherwise.
#[must_use]
pub fn version() -> Option<(u32, u32)> {
    let run =
        |program| BlockingCommand::new(program).arg("--version").stdin(Stdio::null()).output().ok();
    let output = PROGRAMS.into_iter().find_map(run)?;
    version_of(&String::from_utf8_lossy(&output.stdout))
}

/// The version in `nix (Nix) 2.26.3`. Lix numbers its releases otherwise, and began from Nix 2.18.
fn version_of(text: &str) -> Option<(u32, u32)> {
    if text.contains("Lix") {
        return Some((2, 18));
    }
    let mut parts = text.split_whitespace().next_back()?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (text, expected) in [
            ("nix (Nix) 2.8.0\n", Some((2, 8))),
            ("nix (Determinate Nix 3.11.2) 2.31.1\n", Some((2, 31))),
            ("nix (Lix, like Nix) 2.93.0\n", Some((2, 18))),
            ("", None),
        ] {
            assert_eq!(version_of(text), expected, "{text}");
        }
    }
}
