//! A `nix-daemon --stdio` of our own, for stores that no daemon listens for.
//!
//! It opens the store as any Nix command does, so that it also keeps the files and locks of
//! temporary roots. A task drains its standard error and keeps the end of it for an error's text.
//! The process is killed on drop.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::task::AbortOnDropHandle;

use super::StoreError;

/// Where `nix-daemon` is when `PATH` does not have it, as for services and for `sudo`.
const USUAL_DAEMON: &str = "/nix/var/nix/profiles/default/bin/nix-daemon";
/// How much of the end of its standard error an error quotes, in bytes.
const QUOTED_STDERR_BYTES: usize = 4096;
/// How long a daemon that broke the connection may take to end, before it is made to.
const STDERR_TIMEOUT: Duration = Duration::from_secs(2);

/// The process, and what it writes to its standard error.
pub(super) struct OwnDaemon {
    child: Child,
    stderr: AbortOnDropHandle<Vec<u8>>,
}

impl OwnDaemon {
    /// Starts one for the store at `uri`; gives it with its standard input and output.
    pub(super) fn start(uri: &str) -> Result<(Self, ChildStdin, ChildStdout), StoreError> {
        let failed = |source| StoreError::Start { source };
        let spawn = |program: &str| {
            Command::new(program)
                .args(["--stdio", "--store", uri])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
        };
        let mut child = spawn("nix-daemon")
            .or_else(|error| {
                let elsewhere =
                    error.kind() == io::ErrorKind::NotFound && Path::new(USUAL_DAEMON).exists();
                if elsewhere { spawn(USUAL_DAEMON) } else { Err(error) }
            })
            .map_err(failed)?;
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
            return Err(failed(io::ErrorKind::BrokenPipe.into()));
        };
        let stderr = AbortOnDropHandle::new(tokio::spawn(end_of(stderr)));
        Ok((Self { child, stderr }, stdin, stdout))
    }

    /// What it wrote before it broke the connection off.
    pub(super) async fn last_words(mut self) -> String {
        let mut stderr = tokio::time::timeout(STDERR_TIMEOUT, &mut self.stderr).await;
        if stderr.is_err() {
            // Only for the message: one that ended meanwhile cannot be killed, and needs not be.
            drop(self.child.start_kill());
            stderr = tokio::time::timeout(STDERR_TIMEOUT, &mut self.stderr).await;
        }
        let bytes = stderr.ok().and_then(Result::ok).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

/// Reads a stream to its end, and gives the last bytes of it.
async fn end_of(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let (mut end, mut piece) = (Vec::new(), [0; QUOTED_STDERR_BYTES]);
    // A stream that cannot be read has ended.
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        end.extend_from_slice(&piece[..length]);
        end.drain(..end.len().saturating_sub(QUOTED_STDERR_BYTES));
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_stream_is_kept() {
        assert_eq!(end_of(&b"error: no"[..]).await, b"error: no");
        let long: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(end_of(&long[..]).await, &long[long.len() - QUOTED_STDERR_BYTES..]);
    }
}
