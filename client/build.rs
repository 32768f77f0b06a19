//! The version that `--version` prints: with the commit, where it is known.
//!
//! `SNOWBANK_COMMIT` names the commit; else `git` does. Builds for development have none, so that a
//! commit makes nothing to build.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=SNOWBANK_COMMIT");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = match commit() {
        Some(commit) => format!("{version} ({commit})"),
        None => version,
    };
    println!("cargo::rustc-env=SNOWBANK_VERSION={version}");
}

fn commit() -> Option<String> {
    if let Some(commit) = env::var("SNOWBANK_COMMIT").ok().filter(|commit| !commit.is_empty()) {
        return Some(commit);
    }
    if env::var("PROFILE").as_deref() != Ok("release") {
        return None;
    }
    // The log of where HEAD has pointed changes with each commit and each checkout.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo::rerun-if-changed={log}");
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// What git says of the folder that this is built in; nothing where there is no git, or the folder
/// is none of a clone.
fn git(args: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
