//! Who this process is to Nix's daemon, which heeds some settings from users it trusts only.
//!
//! Source: `matchUser` in Nix's `nix-daemon.cc`: a name, `@` and a group's name, or `*`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::NixSettings;

/// A user and the groups it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    groups: Vec<String>,
}

impl User {
    /// The user that this process runs as; `None` where the system cannot tell its name.
    #[must_use]
    pub fn current() -> Option<Self> {
        // Users and groups may come from a directory service, which `id` asks as Nix does.
        let name = id("-un")?.trim().to_owned();
        let groups = id("-Gn").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        Some(Self { name, groups })
    }

    /// Whether the daemon with these settings trusts this user.
    #[must_use]
    pub fn is_trusted(&self, daemon: &NixSettings) -> bool {
        daemon.words("trusted-users", "root").iter().any(|one| match one.strip_prefix('@') {
            Some(group) => self.groups.iter().any(|own| own == group),
            None => one == "*" || *one == self.name,
        })
    }
}

/// Whether a daemon with these settings fetches from `url` for users that it does not trust: it
/// knows the cache itself, or has that very address, or that address and a slash, among
/// `trusted-substituters`.
///
/// Source: `ClientSettings::apply` in Nix's `daemon.cc`.
#[must_use]
pub fn is_allowed_to_untrusted(daemon: &NixSettings, url: &str) -> bool {
    let trusted = daemon.words("trusted-substituters", "");
    daemon.has_substituter(url)
        || trusted.iter().any(|one| one == url || one.strip_suffix('/') == Some(url))
}

fn id(what: &str) -> Option<String> {
    let output =
        Command::new("id").arg(what).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// Whether this process's Nix goes through a daemon, by the store that nix.conf names, or else
/// `NIX_REMOTE`, and by whether one could be reached.
#[must_use]
pub fn is_served_by_daemon(store: Option<&str>) -> bool {
    let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = path("NIX_STATE_DIR").unwrap_or_else(|| PathBuf::from("/nix/var/nix"));
    let socket =
        path("NIX_DAEMON_SOCKET_PATH").unwrap_or_else(|| state.join("daemon-socket/socket"));
    let remote =
        store.map(OsString::from).or_else(|| env::var_os("NIX_REMOTE")).unwrap_or_default();
    goes_through_daemon(&remote, rustix::process::geteuid().is_root(), &socket)
}

fn goes_through_daemon(remote: &OsStr, is_root: bool, socket: &Path) -> bool {
    let remote = remote.to_string_lossy();
    match remote.split('?').next().unwrap_or_default() {
        // Who may write to the store needs no daemon.
        "" | "auto" => !is_root && socket.exists(),
        "daemon" => true,
        other => other.starts_with("unix://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_by_name_by_group_or_for_all() {
        let user =
            User { name: "me".to_owned(), groups: vec!["me".to_owned(), "wheel".to_owned()] };
        for (line, trusted) in [
            ("", false),
            ("trusted-users = root me", true),
            ("trusted-users = root\nextra-trusted-users = @wheel", true),
            ("trusted-users = @staff mee", false),
            ("trusted-users = *", true),
        ] {
            let mut settings = NixSettings::default();
            settings.add_text(line, Path::new("/")).unwrap();
            assert_eq!(user.is_trusted(&settings), trusted, "{line}");
        }
        let root = User { name: "root".to_owned(), groups: Vec::new() };
        assert!(root.is_trusted(&NixSettings::default()));
    }

    #[test]
    fn a_daemon_compares_whole_addresses() {
        let allowed = |line: &str, url: &str| {
            let mut settings = NixSettings::default();
            settings.add_text(line, Path::new("/")).unwrap();
            is_allowed_to_untrusted(&settings, url)
        };
        let url = "http://h/main";
        for line in
            ["substituters = http://h/main?priority=1", "trusted-substituters = http://h/main"]
        {
            assert!(allowed(line, url), "{line}");
        }
        assert!(allowed("trusted-substituters = http://a http://h/main/", url));
        assert!(!allowed("trusted-substituters = http://h/main", "http://h/main?priority=30"));
        assert!(!allowed("trusted-substituters = http://h/main?priority=30", url));
        assert!(!allowed("", url));
    }

    #[test]
    fn a_daemon_is_used_where_it_is_named_or_needed() {
        let there = Path::new("/");
        let absent = Path::new("/no/such/socket");
        for (remote, is_root, socket, daemon) in [
            ("", false, there, true),
            ("", false, absent, false),
            ("auto", true, there, false),
            ("daemon", true, absent, true),
            ("unix:///x?root=/y", true, absent, true),
            ("local?root=/x", false, there, false),
        ] {
            assert_eq!(
                goes_through_daemon(OsStr::new(remote), is_root, socket),
                daemon,
                "{remote:?}"
            );
        }
    }
}
