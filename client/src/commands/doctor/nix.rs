//! Nix itself, asked for a path of the cache: certificates, netrc and proxies are then those that Nix goes by.
//!
//! Nix remembers for an hour (`narinfo-cache-negative-ttl`) that a cache did not have a path, also when it has it by now. Such
//! a miss shows when Nix finds the path only if told to disregard what it remembers.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::Subject;
use super::report::Finding;
use crate::exit::Exit;

const FETCH: &str = "fetch";
const MISS: &str = "misses";
/// Options by which Nix disregards what it remembers of a cache.
const ASK_ANEW: [&str; 6] =
    ["--option", "narinfo-cache-negative-ttl", "0", "--option", "narinfo-cache-positive-ttl", "0"];
/// How long Nix may take.
const LIMIT: Duration = Duration::from_mins(1);
/// Where `nix` is when `PATH` does not have it, as for services and for `sudo`.
const USUAL_NIX: &str = "/nix/var/nix/profiles/default/bin/nix";
/// The most of what Nix says that is repeated, in characters.
const QUOTED: usize = 300;

/// Has Nix ask the cache for `path`, which is there: as it would by itself, then disregarding what it remembers.
pub(super) async fn check(subject: &Subject, path: &str) -> Vec<Finding> {
    if subject.nix.settings().is_ok_and(|settings| !settings.has_substituter(&subject.substituter)) {
        return skipped("nix.conf does not name the cache");
    }
    // In this order: the second question replaces what Nix remembers of the path.
    let both = async {
        let remembered = path_info(subject, path, &[]).await?;
        Ok::<_, Trouble>((remembered, path_info(subject, path, &ASK_ANEW).await?))
    };
    let (remembered, asked) = match both.await {
        Ok(both) => both,
        Err(Trouble::NoNix) => return skipped("there is no `nix` in PATH"),
        Err(Trouble::Other(reason)) => return skipped(&reason),
    };
    if !asked.status.success() {
        let text = format!("Nix does not find {path} in the cache: {}", said(&asked));
        let advice = "what Nix goes by and this program does not: netrc-file, ssl-cert-file, http_proxy in lower case";
        return vec![
            Finding::problem(FETCH, Exit::Config, text).advice(advice),
            Finding::skipped(MISS, "Nix did not get as far as that"),
        ];
    }
    vec![Finding::ok(FETCH, format!("Nix finds {path} in the cache")), miss(subject, path, remembered.status.success())]
}

fn skipped(why: &str) -> Vec<Finding> {
    [FETCH, MISS].map(|check| Finding::skipped(check, why)).into()
}

fn miss(subject: &Subject, path: &str, is_remembered_as_there: bool) -> Finding {
    if is_remembered_as_there {
        let text =
            "Nix remembers none for this path, as this user (a daemon remembers its own: `sudo snowbank doctor`)";
        return Finding::ok(MISS, text);
    }
    Finding::warn(MISS, format!("Nix remembered that the cache does not have {path}, which it has by now")).advice(format!(
        "for this path that is mended by this check; others are asked for again after an hour.\nSet the time to a minute: \
         snowbank use {} --negative-ttl 60\nForget all at once: rm ~/.cache/nix/binary-cache-v*.sqlite* (root's too, for a \
         daemon)",
        subject.reference
    ))
}

/// Why Nix could not be asked.
enum Trouble {
    NoNix,
    Other(String),
}

async fn path_info(subject: &Subject, path: &str, options: &[&str]) -> Result<Output, Trouble> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for program in ["nix", USUAL_NIX] {
        let mut command = Command::new(program);
        command
            .args(["--extra-experimental-features", "nix-command", "path-info", "--store", &subject.substituter])
            .args(options)
            .arg(path)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        match timeout(LIMIT, command.output()).await {
            Ok(Ok(output)) => return Ok(output),
            Ok(Err(error)) => last = error,
            Err(_) => return Err(Trouble::Other(format!("Nix does not answer within {} s", LIMIT.as_secs()))),
        }
    }
    Err(if last.kind() == io::ErrorKind::NotFound {
        Trouble::NoNix
    } else {
        Trouble::Other(format!("`nix` cannot be started ({last})"))
    })
}

/// The last line of what Nix said, without colours.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it says nothing");
    let mut plain = String::new();
    let mut in_escape = false;
    for c in line.chars() {
        match c {
            '\u{1b}' => in_escape = true,
            _ if in_escape => in_escape = !c.is_ascii_alphabetic(),
            c if !c.is_control() => plain.push(c),
            _ => {}
        }
    }
    plain.chars().take(QUOTED).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn what_nix_said_is_repeated_without_colours() {
        let stderr = b"warning: x\n\x1b[31;1merror:\x1b[0m path '/nix/store/y' is not valid\n\n".to_vec();
        let output = Output { status: std::process::ExitStatus::from_raw(256), stdout: Vec::new(), stderr };
        assert_eq!(said(&output), "error: path '/nix/store/y' is not valid");
    }
}
