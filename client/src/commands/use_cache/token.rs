//! Which token goes into netrc. It has one entry per host, so that one token must do for all
//! private caches of that host, those of this run and those that nix.conf has already.
//!
//! The server is asked with each token at hand, that of netrc first: the first that may fetch from
//! all of them is taken, and none is an error, before anything is written. A token that may
//! administrate the server is not put into a file that Nix and its daemon read: with it a new one
//! is made, which may pull from these caches and do nothing else.

mod issue;
mod rights;

use snowbank_cli::date;
use snowbank_core::cache_name::CacheName;

use super::files::NetrcFile;
use super::{SelectedCache, host, netrc};
use crate::config::{ClientCertificate, Secret, Target};
use crate::exit::{Exit, Failure};
use crate::nix;

use issue::issued;
use rights::{Access, access, rights};

/// A token that ends within this many seconds gives way to another that may do as much.
const RENEWAL_SECONDS: i64 = 30 * 86_400;

/// A host's netrc entry.
pub(super) struct HostToken {
    pub host: String,
    pub token: Secret,
    /// Where the token came from.
    pub source: String,
    /// What to say of it.
    pub note: Option<String>,
}

/// How tokens are selected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Whether the token of the login is taken as it is.
    pub takes_any: bool,
    /// Whether nothing may be changed, here or on the server.
    pub is_dry_run: bool,
}

/// The tokens for the hosts of the private caches among `selected`; `used` are the substituters
/// that nix.conf has already.
pub(super) async fn select(
    selected: &[SelectedCache],
    used: &[&str],
    netrc: &NetrcFile,
    rules: Rules,
) -> Result<Vec<HostToken>, Failure> {
    let mut tokens: Vec<HostToken> = Vec::new();
    for cache in selected.iter().filter(|cache| !cache.info.public) {
        let Some(host) = host(&cache.target.server_url) else { continue };
        if tokens.iter().all(|known| known.host != host) {
            tokens.push(for_host(host, selected, used, netrc, rules).await?);
        }
    }
    Ok(tokens)
}

/// A token at hand.
struct Candidate {
    token: Secret,
    source: String,
    is_in_netrc: bool,
    /// What the host is shown beside it.
    client_certificate: Option<ClientCertificate>,
}

/// A cache of the host, by its server's address and its name.
type CacheAddress = (String, CacheName);

async fn for_host(
    host_name: String,
    selected: &[SelectedCache],
    used: &[&str],
    netrc: &NetrcFile,
    rules: Rules,
) -> Result<HostToken, Failure> {
    let caches = caches_of(&host_name, selected, used);
    let is_here =
        |cache: &&SelectedCache| host(&cache.target.server_url).as_ref() == Some(&host_name);
    let client_certificate =
        selected.iter().filter(is_here).find_map(|cache| cache.target.client_certificate.clone());
    let text = netrc.text()?;
    let present = nix::netrc::password(&text, &host_name).map_err(|error| netrc.invalid(error))?;
    let file = netrc.path.display().to_string();
    let mut candidates: Vec<Candidate> = present
        .and_then(|token| Secret::from_text(&token))
        .map(|token| Candidate {
            token,
            source: file.clone(),
            is_in_netrc: true,
            client_certificate: client_certificate.clone(),
        })
        .into_iter()
        .collect();
    if netrc::is_foreign(&text, &host_name).map_err(|error| netrc.invalid(error))? {
        return foreign(host_name, &caches, candidates.pop(), &file).await;
    }
    for SelectedCache { target, .. } in selected.iter().filter(is_here) {
        if let Some(token) = &target.token
            && candidates.iter().all(|known| known.token.expose() != token.expose())
        {
            let source = target.token_source.clone();
            candidates.push(Candidate {
                token: token.clone(),
                source,
                is_in_netrc: false,
                client_certificate: client_certificate.clone(),
            });
        }
    }

    if rules.takes_any {
        candidates.sort_by_key(|candidate| candidate.is_in_netrc);
    }

    let mut refused: Option<(String, Vec<String>)> = None;
    let mut ending = None;
    for candidate in &candidates {
        let Access { uncovered, private } = access(&caches, candidate).await?;
        if !uncovered.is_empty() {
            // The user meant the token of the login, and that of netrc may be an old one.
            if refused.is_none() || !candidate.is_in_netrc {
                refused = Some((candidate.source.clone(), uncovered));
            }
            continue;
        }
        let rights = rights(&caches, candidate).await?;
        let is_ending =
            rights.expires.is_some_and(|expires| expires < date::now() + RENEWAL_SECONDS);
        if rights.is_admin && !rules.takes_any {
            return issued(host_name, candidate, &private, rules).await;
        }
        let taken = HostToken {
            host: host_name.clone(),
            token: candidate.token.clone(),
            source: candidate.source.clone(),
            note: rights.note(candidate),
        };
        if !(candidate.is_in_netrc && is_ending) {
            return Ok(taken);
        }
        ending = Some(taken);
    }
    ending.ok_or_else(|| {
        let (source, uncovered) = refused.unwrap_or_else(|| ("no token".to_owned(), Vec::new()));
        none_fits(&host_name, &caches, &source, &uncovered)
    })
}

/// The caches of the host, those of this run first.
fn caches_of(host_name: &str, selected: &[SelectedCache], used: &[&str]) -> Vec<CacheAddress> {
    let is_here = |url: &str| host(url).as_deref() == Some(host_name);
    let here = selected.iter().filter(|cache| is_here(&cache.target.server_url));
    let mut caches: Vec<CacheAddress> =
        here.map(|cache| (cache.target.server_url.clone(), cache.target.cache.clone())).collect();
    for url in used.iter().filter(|url| is_here(url)) {
        if let Some((server, cache)) = url.rsplit_once('/')
            && let Ok(cache) = cache.parse::<CacheName>()
            && caches.iter().all(|known| (known.0.as_str(), &known.1) != (server, &cache))
        {
            caches.push((server.to_owned(), cache));
        }
    }
    caches
}

/// The entry that somebody else made: it is the one that counts, so it has to do.
async fn foreign(
    host_name: String,
    caches: &[CacheAddress],
    candidate: Option<Candidate>,
    file: &str,
) -> Result<HostToken, Failure> {
    let wrong = |why: String| {
        let text = format!(
            "{file} has an entry for {host_name} that `snowbank use` did not make, and {why}; \
             correct that entry, or take it out and run this again"
        );
        Failure::new(Exit::Config, anyhow::anyhow!(text))
    };
    let Some(candidate) = candidate else {
        return Err(wrong("it has no password that can be a token".to_owned()));
    };
    let uncovered = access(caches, &candidate).await?.uncovered;
    if !uncovered.is_empty() {
        return Err(wrong(format!("its password may not fetch from {}", uncovered.join(", "))));
    }
    Ok(HostToken { host: host_name, token: candidate.token, source: candidate.source, note: None })
}

fn none_fits(
    host_name: &str,
    caches: &[CacheAddress],
    source: &str,
    uncovered: &[String],
) -> Failure {
    let pulls: Vec<String> = caches.iter().map(|(_, cache)| format!("--pull {cache}")).collect();
    let one_entry = if caches.len() > 1 { "netrc has one entry per host, and " } else { "" };
    Failure::new(
        Exit::Forbidden,
        anyhow::anyhow!(
            "{one_entry}the token from {source} may not fetch from {}; ask the operator of \
             {host_name} for one that may fetch from all (`snowbankd token create --sub NAME {}`), \
             log in with it and run this again",
            uncovered.join(", "),
            pulls.join(" ")
        ),
    )
}

fn target(server_url: &str, cache: &CacheName, candidate: &Candidate) -> Target {
    Target {
        server_url: server_url.to_owned(),
        cache: cache.clone(),
        token: Some(candidate.token.clone()),
        token_source: candidate.source.clone(),
        client_certificate: candidate.client_certificate.clone(),
        filter: crate::config::PathFilter::NONE,
    }
}
