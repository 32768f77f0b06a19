//! `snowbank use`: makes Nix fetch from caches, for this user or for the whole machine, and undoes that.
//!
//! Order when writing: netrc before nix.conf, so that Nix never asks a private cache without the token; the reverse when
//! removing. Each file is replaced whole.

mod advice;
mod files;
mod netrc;
mod nix_conf;
mod token;

use std::fmt::Write as _;
use std::io::{self, Write as _};

use snowbank_core::wire::CacheInfo;

use crate::api::Api;
use crate::cli::{GlobalArgs, UseArgs};
use crate::config::{ConfigError, Target, resolve_target};
use crate::exit::{Exit, Failure};

use files::{Files, NetrcFile};
use nix_conf::{Block, Settings};
use token::HostToken;

/// A cache to fetch from, as the server describes it.
struct Chosen {
    target: Target,
    info: CacheInfo,
}

impl Chosen {
    fn substituter(&self) -> String {
        substituter(&self.target)
    }
}

/// Runs `snowbank use`.
///
/// # Errors
/// No such cache, a server that cannot be reached, a token that may not fetch, a file that cannot be read or written.
pub async fn run(global: &GlobalArgs, args: UseArgs) -> Result<Exit, Failure> {
    let targets: Vec<Target> =
        args.caches.iter().map(|cache| resolve_target(global, cache)).collect::<Result<_, ConfigError>>()?;
    let files = Files::find(args.system)?;
    if args.remove {
        for target in &targets {
            remove(global, &args, &files, target)?;
        }
        return Ok(Exit::Success);
    }

    let mut chosen = Vec::with_capacity(targets.len());
    for target in targets {
        let info = Api::new(&target)?.cache_info().await?;
        chosen.push(Chosen { target, info });
    }
    let old = files.nix_conf_text()?;
    let is_private = chosen.iter().any(|cache| !cache.info.public);
    let netrc_file = if is_private { Some(files.netrc_file()?) } else { None };
    let tokens = match &netrc_file {
        Some(file) => token::choose(&chosen, &nix_conf::substituters(&old), &file.text()?).await?,
        None => Vec::new(),
    };
    let blocks: Vec<Block> = chosen.iter().map(|cache| block(cache, netrc_file.as_ref(), args.priority)).collect();
    let settings = settings(&args);
    if args.print {
        io::stdout().write_all(printed(&blocks, &settings, netrc_file.as_ref(), &tokens).as_bytes())?;
        return Ok(Exit::Success);
    }

    files.check_editable()?;
    let mut new = String::clone(&old);
    for block in &blocks {
        new = nix_conf::with_block(&new, block).map_err(|error| files.invalid(&error))?;
    }
    new = nix_conf::with_settings(&new, &settings).map_err(|error| files.invalid(&error))?;
    for HostToken { host, token, source } in &tokens {
        if let Some(file) = &netrc_file {
            file.add(host, token, source).map_err(|error| files.explained(error))?;
        }
    }
    let changed = *old != new;
    if changed {
        files.write_nix_conf(&old, &new).map_err(|error| files.explained(error))?;
    }
    if !global.quiet {
        let what = if changed { "now fetches" } else { "already fetches" };
        for block in &blocks {
            say(&format!("Nix {what} from {} ({}).", block.substituter, files.nix_conf.display()))?;
        }
        if let Some(text) = advice::who_heeds_this(&files, &blocks) {
            say(&text)?;
        }
        if changed && let Some(text) = advice::settings(&new, &args) {
            say(&text)?;
        }
    }
    Ok(Exit::Success)
}

/// What nix.conf is to say of a cache.
fn block(cache: &Chosen, netrc_file: Option<&NetrcFile>, priority: Option<u32>) -> Block {
    let named = netrc_file.filter(|file| !cache.info.public && !file.is_set);
    Block {
        substituter: cache.substituter(),
        priority,
        public_keys: cache.info.public_keys.clone(),
        netrc_file: named.map(|file| file.path.display().to_string()),
    }
}

/// The settings that were asked for.
fn settings(args: &UseArgs) -> Settings {
    let recommended = |value| args.recommended.then_some(value);
    let negative_ttl = args.negative_ttl.or(recommended(60)).map(|seconds| seconds.to_string());
    let connect_timeout = args.connect_timeout.or(recommended(5)).map(|seconds| seconds.to_string());
    let fallback = (args.fallback || args.recommended).then(|| "true".to_owned());
    [("narinfo-cache-negative-ttl", negative_ttl), ("connect-timeout", connect_timeout), ("fallback", fallback)]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// What would be written, to be pasted; the token stays where it is.
fn printed(blocks: &[Block], settings: &Settings, netrc_file: Option<&NetrcFile>, tokens: &[HostToken]) -> String {
    let mut text: String = blocks.iter().map(Block::text).collect();
    if !settings.is_empty() {
        text.push_str(&nix_conf::settings_text(settings));
    }
    if let Some(file) = netrc_file {
        for HostToken { host, source, .. } in tokens {
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "# and in {}: machine {host} login snowbank password TOKEN   (the token from {source})",
                file.path.display()
            );
        }
    }
    text
}

/// Takes out what was written for one cache.
fn remove(global: &GlobalArgs, args: &UseArgs, files: &Files, target: &Target) -> Result<(), Failure> {
    let (path, substituter) = (files.nix_conf.display(), substituter(target));
    let old = files.nix_conf_text()?;
    let new = nix_conf::without_block(&old, &substituter).map_err(|error| files.invalid(&error))?;
    let Some(new) = new else {
        let text = format!("{path} has nothing of `snowbank use` for {substituter}.");
        return if global.quiet { Ok(()) } else { Ok(say(&text)?) };
    };
    if args.print {
        let text = format!("The block for {substituter} would be taken out of {path}.\n");
        return Ok(io::stdout().write_all(text.as_bytes())?);
    }
    files.check_editable()?;
    files.write_nix_conf(&old, &new).map_err(|error| files.explained(error))?;
    if let Some(host) = host(&target.server_url) {
        files.remove_netrc_entry(&host, &new).map_err(|error| files.explained(error))?;
    }
    if !global.quiet {
        say(&format!("Nix no longer fetches from {substituter} ({path})."))?;
    }
    Ok(())
}

fn substituter(target: &Target) -> String {
    format!("{}/{}", target.server_url, target.cache)
}

/// The host of an address, as netrc has it: without port.
fn host(url: &str) -> Option<String> {
    reqwest::Url::parse(url).ok()?.host_str().map(str::to_owned)
}

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{text}")
}
