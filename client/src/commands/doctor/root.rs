//! Whether root and the user who called sudo see the same: builds that run as root have files of
//! their own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::Subject;
use super::report::Finding;
use crate::nix::NixSettings;

const ROOT: &str = "root and user";

/// Compares this user's Nix with root's, or root's with that of the user who called sudo.
pub(super) fn check(subject: &Subject) -> Finding {
    let is_root = rustix::process::geteuid().is_root();
    let other = if is_root {
        env::var("SUDO_USER").ok().filter(|name| name != "root")
    } else {
        Some("root".to_owned())
    };
    let Some(other) = other else {
        return Finding::skipped(
            ROOT,
            "run as root, and not by sudo: there is nobody to compare with",
        );
    };
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let Some(home) = home(&passwd, &other) else {
        return Finding::skipped(ROOT, format!("the home folder of {other} is not in /etc/passwd"));
    };
    let (own, theirs) = match (subject.nix.settings(), settings_of(subject, &home)) {
        (Ok(own), Ok(theirs)) => (own, theirs),
        (Err(error), _) | (_, Err(error)) => {
            return Finding::skipped(ROOT, format!("{error}; `sudo snowbank doctor` may"));
        }
    };
    let (own, theirs) =
        (own.has_substituter(&subject.substituter), theirs.has_substituter(&subject.substituter));
    let us = if is_root { "root" } else { "this user" };
    match (own, theirs) {
        (true, true) => Finding::ok(ROOT, format!("{us} and {other} both fetch from the cache")),
        (false, false) => {
            Finding::ok(ROOT, format!("neither {us} nor {other} fetches from the cache"))
        }
        (true, false) => differ(subject, us, &other),
        (false, true) => differ(subject, &other, us),
    }
}

fn differ(subject: &Subject, one: &str, other: &str) -> Finding {
    Finding::warn(ROOT, format!("{one} fetches from the cache and {other} does not")).advice(
        format!("for everybody on this machine: sudo snowbank use --system {}", subject.reference),
    )
}

/// What holds for the user with this home folder.
fn settings_of(subject: &Subject, home: &Path) -> Result<NixSettings, crate::config::ConfigError> {
    let mut settings = subject.nix.system_settings()?;
    settings.add_file(&home.join(".config/nix/nix.conf"))?;
    Ok(settings)
}

/// A user's home folder, from the text of `/etc/passwd`.
fn home(passwd: &str, name: &str) -> Option<PathBuf> {
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = lines.find(|fields| fields.first() == Some(&name))?;
    fields.get(5).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_folders_are_in_the_sixth_field() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nme:x:1000:1000:Me,,,:/home/me:/bin/sh\n";
        assert_eq!(home(passwd, "me"), Some("/home/me".into()));
        assert_eq!(home(passwd, "nobody"), None);
    }
}
