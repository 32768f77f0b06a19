//! What is said after `snowbank use`: whether Nix goes by what was written, and which settings make
//! a cache's trouble smaller.
//!
//! Nix itself is asked for the settings in effect. Where they are others than those written, the
//! files and variables that Nix reads are looked through for the line that is to blame.

use std::path::Path;

use super::files::{Files, NetrcFile};
use super::nix_conf::Block;
use crate::cli::UseArgs;
use crate::nix::{
    EffectiveSettings, NixFiles, NixSettings, Scope, User, is_served_by_daemon, same_substituter,
};

/// Whether Nix goes by what was written.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// What keeps it from that, each with what to do.
    pub obstacles: Vec<String>,
    /// Why Nix could not be asked.
    pub unknown: Option<String>,
}

/// Asks Nix whether it fetches from the blocks' caches, with the tokens of `netrc` for private
/// ones.
pub(super) async fn verdict(files: &Files, blocks: &[Block], netrc: Option<&NetrcFile>) -> Verdict {
    let mut verdict = Verdict::default();
    let scope = if files.is_system { Scope::System } else { Scope::User };
    match EffectiveSettings::ask(scope).await {
        Ok(Ok(effective)) => verdict.obstacles = in_settings(files, blocks, netrc, &effective),
        Ok(Err(message)) => {
            verdict.obstacles.push(format!("Nix does not accept its own settings: {message}"));
        }
        Err(error) => verdict.unknown = Some(error.to_string()),
    }
    if let Some(netrc) = netrc {
        verdict.obstacles.extend(files.netrc_is_not_a_source(&netrc.path));
    }
    if !files.is_system && verdict.obstacles.is_empty() {
        verdict.obstacles.extend(with_daemon(files.nix(), blocks));
    }
    verdict
}

/// What is not in effect, by the settings that Nix shows.
fn in_settings(
    files: &Files,
    blocks: &[Block],
    netrc: Option<&NetrcFile>,
    effective: &EffectiveSettings,
) -> Vec<String> {
    let all = if files.is_system { files.nix().system_settings() } else { files.nix().settings() };
    // Nix was asked, so a file that this program cannot read only costs the reason.
    let all = all.unwrap_or_default();
    let mut obstacles = Vec::new();
    for block in blocks {
        if !effective.has_substituter(&block.substituter) {
            let cause = cause(files, &all, "substituters");
            obstacles.push(format!("{} is not among the substituters: {cause}", block.substituter));
        } else if !effective.trusts_one_of(&block.public_keys) {
            let cause = cause(files, &all, "trusted-public-keys");
            obstacles.push(format!(
                "no key of {} is among the trusted-public-keys: {cause}",
                block.substituter
            ));
        }
    }
    if let Some(netrc) = netrc.filter(|netrc| files.netrc_is_not_a_source(&netrc.path).is_none())
        && let Some(used) = effective.netrc_file().filter(|used| Path::new(used) != netrc.path)
        && !used.starts_with(super::files::DETERMINATE_FOLDER)
    {
        let cause = match all.origin("netrc-file") {
            Some(origin) => {
                format!("{origin} sets netrc-file; take that line out, or move it above the block")
            }
            None => cause(files, &all, "netrc-file"),
        };
        obstacles.push(format!(
            "Nix reads tokens from {used}, and not from {}: {cause}",
            netrc.path.display()
        ));
    }
    obstacles
}

/// Why a setting of the file that was written is not in effect, and what to do.
fn cause(files: &Files, all: &NixSettings, name: &str) -> String {
    let file = files.nix_conf.display();
    if !all.has_lines_of(&files.nix_conf) {
        let variable =
            ["NIX_USER_CONF_FILES", "NIX_CONFIG_HOME", "NIX_CONF_DIR", "XDG_CONFIG_HOME"]
                .into_iter()
                .find(|variable| std::env::var_os(variable).is_some());
        return match variable {
            Some(variable) => {
                format!(
                    "Nix does not read {file} here, because the variable {variable} names other \
                     files"
                )
            }
            None => format!("Nix does not read {file} here"),
        };
    }
    match all.origin(name) {
        Some(origin) => format!(
            "{origin} sets `{name}` anew, after what {file} adds; write `extra-{name}` there, or \
             move that line above the block"
        ),
        None => format!("`nix config show {name}` shows what is; {file} alone does not explain it"),
    }
}

/// What keeps a Nix daemon from heeding this user's settings.
fn with_daemon(nix: &NixFiles, blocks: &[Block]) -> Option<String> {
    if !is_served_by_daemon(None) {
        return None;
    }
    // A file that cannot be read is as good as one that says nothing: the advice is then for the
    // careful case.
    let daemon = nix.system_settings().unwrap_or_default();
    let user = User::current()?;
    if user.is_trusted(&daemon) {
        return None;
    }
    let unknown: Vec<&Block> = blocks.iter().filter(|block| !is_allowed(&daemon, block)).collect();
    if unknown.is_empty() {
        return None;
    }
    let urls: Vec<String> = unknown.iter().map(|block| block.address()).collect();
    let mut keys: Vec<&str> =
        unknown.iter().flat_map(|block| &block.public_keys).map(String::as_str).collect();
    keys.dedup();
    let conf = nix.system_conf();
    let near: Vec<String> =
        unknown.iter().filter_map(|block| nearly_allowed(&daemon, block)).collect();
    Some(format!(
        "the Nix daemon ignores this: {} is not among its trusted-users. {}An administrator makes \
         the caches known to \
         everyone here with `sudo snowbank use --system`, or with these lines in \
         {}:\n  extra-substituters = {}\n  \
         extra-trusted-public-keys = {}\nor trusts this user in everything \
         with\n  extra-trusted-users = {}",
        user.name,
        near.concat(),
        conf.display(),
        urls.join(" "),
        keys.join(" "),
        user.name
    ))
}

/// Whether the daemon lets users that it does not trust fetch from the block's cache.
fn is_allowed(daemon: &NixSettings, block: &Block) -> bool {
    let keys = daemon.trusted_keys();
    let is_key_known = block.public_keys.iter().any(|key| keys.contains(key));
    is_key_known && crate::nix::is_allowed_to_untrusted(daemon, &block.address())
}

/// An address of the cache that the daemon allows, and that is not the same text.
fn nearly_allowed(daemon: &NixSettings, block: &Block) -> Option<String> {
    let allowed = daemon.words("trusted-substituters", "");
    let near = allowed.iter().find(|url| same_substituter(url, &block.substituter))?;
    (!crate::nix::is_allowed_to_untrusted(daemon, &block.address())).then(|| {
        format!(
            "Its trusted-substituters have {near}, and the daemon compares whole addresses: {} is \
             another. ",
            block.address()
        )
    })
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
            "  --negative-ttl 60      a path that a cache did not have is asked for again after a \
             minute, not an hour",
        );
    }
    if !is_set("connect-timeout") {
        hints.push("  --connect-timeout 5    a cache that cannot be reached is given up after 5 s");
    }
    if !is_set("fallback") {
        hints.push(
            "  --fallback             what cannot be fetched is built; without it an outage of a \
             cache fails builds",
        );
    }
    (!hints.is_empty()).then(|| {
        format!(
            "Nix has defaults that make a cache's trouble worse. `snowbank use {}{} --recommended` \
             sets:\n{}",
            args.caches.join(" "),
            if args.system { " --system" } else { "" },
            hints.join("\n")
        )
    })
}
