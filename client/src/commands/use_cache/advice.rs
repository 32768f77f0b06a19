//! What is said after `snowbank use`: whether anything heeds the file, and which settings make a cache's trouble smaller.

use std::path::Path;

use super::files::Files;
use super::nix_conf::Block;
use crate::cli::UseArgs;
use crate::nix::{NixFiles, NixSettings, User, is_served_by_daemon};

/// What else must be done before Nix heeds what was written; `None` where nothing must.
pub(super) fn who_heeds_this(files: &Files, blocks: &[Block]) -> Option<String> {
    if files.is_system {
        let restart =
            "Where a Nix daemon runs, restart it, so that it reads the file (`systemctl restart nix-daemon`).";
        return Some(restart.to_owned());
    }
    if !is_served_by_daemon() {
        return None;
    }
    let nix = NixFiles::of_environment();
    // A file that cannot be read is as good as one that says nothing: the advice is then for the careful case.
    let daemon = nix.system_settings().unwrap_or_default();
    let user = User::current()?;
    if user.is_trusted(&daemon) {
        return None;
    }
    let unknown: Vec<&Block> = blocks.iter().filter(|block| !is_allowed(&daemon, block)).collect();
    if unknown.is_empty() {
        return None;
    }
    let urls: Vec<&str> = unknown.iter().map(|block| block.substituter.as_str()).collect();
    let mut keys: Vec<&str> = unknown.iter().flat_map(|block| &block.public_keys).map(String::as_str).collect();
    keys.dedup();
    let conf = nix.system_conf();
    Some(format!(
        "But the Nix daemon ignores this: {} is not among its trusted-users. An administrator makes the caches known to \
         everyone here with `sudo snowbank use --system`, or with these lines in {}:\n  extra-substituters = {}\n  \
         extra-trusted-public-keys = {}\nor trusts this user in everything with\n  extra-trusted-users = {}",
        user.name,
        conf.display(),
        urls.join(" "),
        keys.join(" "),
        user.name
    ))
}

/// Whether the daemon lets users that it does not trust fetch from the block's cache.
fn is_allowed(daemon: &NixSettings, block: &Block) -> bool {
    let trusted = daemon.words("trusted-substituters", "");
    let is_known = daemon.has_substituter(&block.substituter)
        || trusted.iter().any(|url| crate::nix::same_substituter(url, &block.substituter));
    let keys = daemon.trusted_keys();
    is_known && block.public_keys.iter().any(|key| keys.contains(key))
}

/// A hint at settings that are not set anywhere; `None` where they are, or were just asked for.
pub(super) fn settings(nix_conf: &str, args: &UseArgs) -> Option<String> {
    let mut settings = NixFiles::of_environment().settings().unwrap_or_default();
    // What was just written may be in a file that this process's environment leaves out.
    let _ = settings.add_text(nix_conf, Path::new("/"));
    let is_set = |name| settings.text(name).is_some();
    let mut hints = Vec::new();
    if !is_set("narinfo-cache-negative-ttl") {
        hints.push(
            "  --negative-ttl 60      a path that a cache did not have is asked for again after a minute, not an hour",
        );
    }
    if !is_set("connect-timeout") {
        hints.push("  --connect-timeout 5    a cache that cannot be reached is given up after 5 s");
    }
    if !is_set("fallback") {
        hints.push(
            "  --fallback             what cannot be fetched is built; without it an outage of a cache fails builds",
        );
    }
    (!hints.is_empty()).then(|| {
        format!(
            "Nix has defaults that make a cache's trouble worse. `snowbank use {} --recommended` sets:\n{}",
            args.caches.join(" "),
            hints.join("\n")
        )
    })
}
