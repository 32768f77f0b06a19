//! `snowbank use`: makes Nix fetch from caches, for this user or for the whole machine, and undoes
//! that.
//!
//! Order when writing: netrc before nix.conf, so that Nix never asks a private cache without the
//! token; the reverse when removing. Each file is replaced whole, and read again right before, with
//! its folder locked. At the end Nix itself says whether it fetches from the caches.

mod advice;
mod files;
pub(crate) mod netrc;
pub(crate) mod nix_conf;
mod token;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use snowbank_core::wire::CacheInfo;

use crate::api::Api;
use crate::cli::{GlobalArgs, UseArgs};
use crate::config::{ClientCertificate, ConfigError, Target, resolve_target};
use crate::exit::{Exit, Failure};
use crate::nix;

use advice::Verdict;
use files::{Files, NetrcFile};
use nix_conf::{Block, Settings};
use token::{HostToken, Rules};

/// The first version of Nix that can show a client certificate.
const SHOWS_CERTIFICATES: (u32, u32) = (2, 34);

/// A cache that Nix is to fetch from, as the server describes it.
struct SelectedCache {
    target: Target,
    info: CacheInfo,
}

impl SelectedCache {
    fn substituter(&self) -> String {
        substituter(&self.target)
    }
}

/// Runs `snowbank use`.
///
/// # Errors
/// No such cache, a server that cannot be reached, a token that may not fetch, a file that cannot
/// be read or written.
pub async fn run(global: &GlobalArgs, args: UseArgs) -> Result<Exit, Failure> {
    let targets: Vec<Target> = args
        .caches
        .iter()
        .map(|cache| resolve_target(global, cache))
        .collect::<Result<_, ConfigError>>()?;
    let files = Files::find(args.system)?;
    if args.remove {
        for target in &targets {
            remove(global, &args, &files, target).await?;
        }
        return Ok(Exit::Success);
    }

    let mut selected = Vec::with_capacity(targets.len());
    for target in targets {
        let info = Api::new(&target)?.cache_info().await?;
        selected.push(SelectedCache { target, info });
    }
    let is_private = selected.iter().any(|cache| !cache.info.public);
    if args.print {
        return print(&args, &files, &selected).await;
    }
    files.check_editable()?;
    let outcome = {
        let lock = files.lock().await?;
        let netrc_file = if is_private { Some(files.netrc_file()?) } else { None };
        let _netrc_lock = match &netrc_file {
            Some(file) => file.lock(&lock).await.map_err(|error| files.explained(error))?,
            None => None,
        };
        write(&args, &files, &selected, netrc_file).await?
    };
    say_outcome(global, &args, &files, &outcome).await
}

/// The result of writing the files.
struct WriteOutcome {
    blocks: Vec<Block>,
    netrc_file: Option<NetrcFile>,
    tokens: Vec<HostToken>,
    nix_conf: String,
    is_changed: bool,
}

/// Writes both files, whose folders are locked.
async fn write(
    args: &UseArgs,
    files: &Files,
    selected: &[SelectedCache],
    netrc_file: Option<NetrcFile>,
) -> Result<WriteOutcome, Failure> {
    let old = files.nix_conf_text()?;
    let blocks = blocks(selected, netrc_file.as_ref(), args.priority);
    let mut new = String::clone(&old);
    for block in &blocks {
        new = nix_conf::with_block(&new, block).map_err(|error| files.invalid(&error))?;
    }
    new = nix_conf::with_settings(&new, &settings(args)).map_err(|error| files.invalid(&error))?;
    let rules = Rules { takes_any: args.this_token, is_dry_run: false };
    let mut tokens = Vec::new();
    if let Some(file) = &netrc_file {
        tokens = token::select(selected, &nix_conf::substituters(&old), file, rules).await?;
        for HostToken { host, token, .. } in &tokens {
            file.add(host, token).map_err(|error| files.explained(error))?;
        }
    }
    let is_changed = *old != new;
    if is_changed {
        files.write_nix_conf(&old, &new).map_err(|error| files.explained(error))?;
    }
    Ok(WriteOutcome { blocks, netrc_file, tokens, nix_conf: new, is_changed })
}

/// Says whether Nix fetches from the caches now, and what else is to know.
async fn say_outcome(
    global: &GlobalArgs,
    args: &UseArgs,
    files: &Files,
    outcome: &WriteOutcome,
) -> Result<Exit, Failure> {
    let WriteOutcome { blocks, netrc_file, tokens, nix_conf, is_changed } = outcome;
    let path = files.nix_conf.display();
    let Verdict { obstacles, unknown } = advice::verdict(files, blocks, netrc_file.as_ref()).await;
    let notes = tokens.iter().filter_map(|token| token.note.as_deref());
    if !obstacles.is_empty() {
        for note in notes.filter(|_| !global.quiet) {
            say(note)?;
        }
        let urls: Vec<&str> = blocks.iter().map(|block| block.substituter.as_str()).collect();
        let text = format!("{path} names {}, but {}", urls.join(", "), obstacles.join("\nand "));
        return Err(Failure::new(Exit::Config, anyhow::anyhow!(text)));
    }
    if global.quiet {
        return Ok(Exit::Success);
    }
    for Block { substituter, .. } in blocks {
        say(&match (&unknown, is_changed) {
            (Some(why), _) => {
                format!("{path} names {substituter}. Whether Nix goes by that is not known: {why}.")
            }
            (None, true) => format!("Nix now fetches from {substituter} ({path})."),
            (None, false) => format!("Nix already fetches from {substituter} ({path})."),
        })?;
    }
    if files.is_included() {
        say(&format!(
            "{path} is the file that the machine's nix.conf includes for settings of an \
             administrator."
        ))?;
    }
    for note in notes {
        say(note)?;
    }
    if blocks.iter().any(|block| block.client_certificate.is_some())
        && nix::program::version().is_some_and(|version| version < SHOWS_CERTIFICATES)
    {
        say("This machine's Nix cannot show a client certificate. Nix 2.34 and later can.")?;
    }
    if files.is_system {
        say("Where a Nix daemon runs, restart it, so that it reads the file (`systemctl restart \
             nix-daemon`).")?;
    }
    if *is_changed && let Some(text) = advice::settings(nix_conf, args) {
        say(&text)?;
    }
    Ok(Exit::Success)
}

/// Shows what would be written.
async fn print(args: &UseArgs, files: &Files, selected: &[SelectedCache]) -> Result<Exit, Failure> {
    let is_private = selected.iter().any(|cache| !cache.info.public);
    let netrc_file = if is_private { Some(files.netrc_file()?) } else { None };
    let old = files.nix_conf_text()?;
    let rules = Rules { takes_any: args.this_token, is_dry_run: true };
    let tokens = match &netrc_file {
        Some(file) => token::select(selected, &nix_conf::substituters(&old), file, rules).await?,
        None => Vec::new(),
    };
    let blocks = blocks(selected, netrc_file.as_ref(), args.priority);
    io::stdout()
        .write_all(printed(&blocks, &settings(args), netrc_file.as_ref(), &tokens).as_bytes())?;
    Ok(Exit::Success)
}

fn blocks(
    selected: &[SelectedCache],
    netrc_file: Option<&NetrcFile>,
    priority: Option<u32>,
) -> Vec<Block> {
    selected.iter().map(|cache| block(cache, netrc_file, priority)).collect()
}

/// What nix.conf is to say of a cache.
fn block(cache: &SelectedCache, netrc_file: Option<&NetrcFile>, priority: Option<u32>) -> Block {
    let named = netrc_file.filter(|file| !cache.info.public && !file.is_set);
    Block {
        substituter: cache.substituter(),
        priority,
        client_certificate: cache.target.client_certificate.as_ref().map(absolute_paths),
        public_keys: cache.info.public_keys.clone(),
        netrc_file: named.map(|file| file.path.display().to_string()),
    }
}

/// The files of a client certificate, as Nix finds them from wherever it runs.
fn absolute_paths(own: &ClientCertificate) -> (String, String) {
    let absolute = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        path.display().to_string()
    };
    (absolute(&own.certificate_file), absolute(&own.key_file))
}

/// The settings that were asked for.
fn settings(args: &UseArgs) -> Settings {
    let recommended = |value| args.recommended.then_some(value);
    let negative_ttl = args.negative_ttl.or(recommended(60)).map(|seconds| seconds.to_string());
    let connect_timeout =
        args.connect_timeout.or(recommended(5)).map(|seconds| seconds.to_string());
    let fallback = (args.fallback || args.recommended).then(|| "true".to_owned());
    [
        ("narinfo-cache-negative-ttl", negative_ttl),
        ("connect-timeout", connect_timeout),
        ("fallback", fallback),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

/// What would be written, to be pasted; the token stays where it is.
fn printed(
    blocks: &[Block],
    settings: &Settings,
    netrc_file: Option<&NetrcFile>,
    tokens: &[HostToken],
) -> String {
    let mut text: String = blocks.iter().map(Block::text).collect();
    if !settings.is_empty() {
        text.push_str(&nix_conf::settings_text(settings));
    }
    if let Some(file) = netrc_file {
        for HostToken { host, source, .. } in tokens {
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "# and in {}: machine {host} login snowbank password TOKEN   (token: {source})",
                file.path.display()
            );
        }
    }
    text
}

/// Takes out what was written for one cache.
async fn remove(
    global: &GlobalArgs,
    args: &UseArgs,
    files: &Files,
    target: &Target,
) -> Result<(), Failure> {
    let (path, substituter) = (files.nix_conf.display(), substituter(target));
    let without = |old: &str| {
        nix_conf::without_block(old, &substituter).map_err(|error| files.invalid(&error))
    };
    if without(&files.nix_conf_text()?)?.is_none() {
        let text = format!("{path} has nothing of `snowbank use` for {substituter}.");
        return if global.quiet { Ok(()) } else { Ok(say(&text)?) };
    }
    if args.print {
        let text = format!("The block for {substituter} would be taken out of {path}.\n");
        return Ok(io::stdout().write_all(text.as_bytes())?);
    }
    files.check_editable()?;
    let lock = files.lock().await?;
    let old = files.nix_conf_text()?;
    // Another process may have taken it out meanwhile.
    let new = without(&old)?.unwrap_or_else(|| String::clone(&old));
    files.write_nix_conf(&old, &new).map_err(|error| files.explained(error))?;
    let mut token = None;
    if let Some(host) = host(&target.server_url) {
        token = files
            .remove_netrc_entry(&host, &new, &lock)
            .await
            .map_err(|error| files.explained(error))?;
    }
    if !global.quiet {
        say(&format!("Nix no longer fetches from {substituter} ({path})."))?;
        if let Some(id) = token {
            say(&format!(
                "The token that was in netrc is still valid; `snowbank token revoke {id}` takes it \
                 back."
            ))?;
        }
    }
    Ok(())
}

fn substituter(target: &Target) -> String {
    format!("{}/{}", target.server_url, target.cache)
}

/// The host of an address, as netrc has it: without port, and without the brackets of an IPv6
/// address.
pub(crate) fn host(url: &str) -> Option<String> {
    let url = reqwest::Url::parse(url).ok()?;
    Some(url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned())
}

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_written_as_netrc_has_them() {
        for (url, expected) in [
            ("http://[::1]:8080", "::1"),
            ("https://Cache.example.org/x", "cache.example.org"),
            ("http://10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(host(url).as_deref(), Some(expected), "{url}");
        }
    }
}
