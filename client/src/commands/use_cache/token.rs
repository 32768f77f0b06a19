//! Which token goes into netrc. It has one entry per host, so that one token must do for all private caches of that host,
//! those of this run and those that nix.conf has already.
//!
//! The server is asked with each token at hand, the one that netrc holds included: the first that may fetch from all of
//! them is taken. None that does is an error, before anything is written.

use snowbank_core::cache_name::CacheName;

use super::{Chosen, host};
use crate::api::{Api, ApiErrorKind};
use crate::config::{Secret, Target};
use crate::exit::{Exit, Failure};
use crate::nix;

/// A host's netrc entry.
pub(super) struct HostToken {
    pub host: String,
    pub token: Secret,
    /// Where the token came from.
    pub source: String,
}

/// The tokens for the hosts of the private caches among `chosen`; `used` are the substituters that nix.conf has already,
/// `netrc` is that file's text.
pub(super) async fn choose(chosen: &[Chosen], used: &[&str], netrc: &str) -> Result<Vec<HostToken>, Failure> {
    let mut tokens: Vec<HostToken> = Vec::new();
    for cache in chosen.iter().filter(|cache| !cache.info.public) {
        let Some(host) = host(&cache.target.server_url) else { continue };
        if tokens.iter().all(|known| known.host != host) {
            tokens.push(for_host(host, chosen, used, netrc).await?);
        }
    }
    Ok(tokens)
}

async fn for_host(host_name: String, chosen: &[Chosen], used: &[&str], netrc: &str) -> Result<HostToken, Failure> {
    let is_here = |url: &str| host(url).as_ref() == Some(&host_name);
    let mut caches: Vec<(String, CacheName)> = Vec::new();
    let mut candidates: Vec<(Secret, String)> = Vec::new();
    for Chosen { target, .. } in chosen.iter().filter(|cache| is_here(&cache.target.server_url)) {
        caches.push((target.server_url.clone(), target.cache.clone()));
        if let Some(token) = &target.token
            && candidates.iter().all(|(known, _)| known.expose() != token.expose())
        {
            candidates.push((token.clone(), target.token_source.clone()));
        }
    }
    for url in used.iter().filter(|url| is_here(url)) {
        if let Some((server, cache)) = url.rsplit_once('/')
            && let Ok(cache) = cache.parse::<CacheName>()
            && caches.iter().all(|known| (known.0.as_str(), &known.1) != (server, &cache))
        {
            caches.push((server.to_owned(), cache));
        }
    }
    let present = nix::netrc::password(netrc, &host_name).and_then(Secret::from_text);
    candidates.extend(present.map(|token| (token, "netrc".to_owned())));

    let mut refused: Option<(String, Vec<String>)> = None;
    for (token, source) in candidates {
        let uncovered = uncovered(&caches, &token, &source).await?;
        if uncovered.is_empty() {
            return Ok(HostToken { host: host_name, token, source });
        }
        // The first is the one that the user meant.
        refused = refused.or(Some((source, uncovered)));
    }
    let (source, uncovered) = refused.unwrap_or_else(|| ("no token".to_owned(), Vec::new()));
    let pulls: Vec<String> = caches.iter().map(|(_, cache)| format!("--pull {cache}")).collect();
    let one_entry = if caches.len() > 1 { "netrc has one entry per host, and " } else { "" };
    Err(Failure::new(
        Exit::Forbidden,
        anyhow::anyhow!(
            "{one_entry}the token from {source} may not fetch from {}; ask the operator of {host_name} for one that may \
             fetch from all (`snowbankd token create --sub NAME {}`), log in with it and run this again",
            uncovered.join(", "),
            pulls.join(" ")
        ),
    ))
}

/// Those of `caches` from which nobody can fetch who shows `token`.
async fn uncovered(caches: &[(String, CacheName)], token: &Secret, source: &str) -> Result<Vec<String>, Failure> {
    let mut uncovered = Vec::new();
    for (server_url, cache) in caches {
        let target = Target {
            server_url: server_url.clone(),
            cache: cache.clone(),
            token: Some(token.clone()),
            token_source: source.to_owned(),
        };
        match Api::new(&target)?.cache_info().await {
            Ok(info) if info.public || info.permissions.iter().any(|one| one == "pull") => {}
            Ok(_) => uncovered.push(format!("{server_url}/{cache}")),
            Err(error) => match error.kind() {
                ApiErrorKind::Unauthenticated | ApiErrorKind::Forbidden | ApiErrorKind::NotFound => {
                    uncovered.push(format!("{server_url}/{cache}"));
                }
                // A server that is down is no reason not to use another.
                _ => tracing::warn!("cannot tell whether the token from {source} is for {server_url}/{cache}: {error}"),
            },
        }
    }
    Ok(uncovered)
}
