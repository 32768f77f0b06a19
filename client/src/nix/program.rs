//! The program `nix`, run for what only Nix can tell.

use std::io;
use std::process::{Command as BlockingCommand, Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// Where `nix` is when `PATH` does not have it, as for services and for `sudo`.
const USUAL_NIX: &str = "/nix/var/nix/profiles/default/bin/nix";
const PROGRAMS: [&str; 2] = ["nix", USUAL_NIX];
/// How long Nix may take.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);

/// The reason why Nix could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum NixRunError {
    /// There is none.
    #[error("there is no `nix` in PATH")]
    NoNix,
    /// It cannot be started.
    #[error("`nix` cannot be started ({0})")]
    NotStarted(io::Error),
    /// It takes too long.
    #[error("Nix does not answer within {} s", COMMAND_TIMEOUT.as_secs())]
    TooSlow,
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
    Err(if last.kind() == io::ErrorKind::NotFound {
        NixRunError::NoNix
    } else {
        NixRunError::NotStarted(last)
    })
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
