//! `[auth]`: whose tokens are believed besides those that keys of the database have signed: keys in
//! files, and issuers that tell who a CI job is; and for how long a push may outlive its token.

mod check;
mod sections;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use axum::http::Uri;
use snowbank_core::cache_name::CachePattern;

use super::{Seconds, TokenAlgorithm};

pub(super) use sections::{AuthSection, SourceText};

/// The section, checked.
#[derive(Debug, Clone, Default)]
pub struct AuthConfig {
    /// Keys in files.
    pub token_keys: Vec<TokenKeyFile>,
    /// Keys that attic's tokens are signed with.
    pub legacy_keys: Vec<LegacyKeyFile>,
    /// Issuers of tokens, one entry for each set of jobs that may do the same.
    pub oidc: Vec<OidcConfig>,
    /// How long a push may go on with tokens of its own after its beginning; `None` where it may
    /// not.
    pub push_session: Option<Seconds>,
}

impl AuthConfig {
    /// [`AuthConfig::push_session`] as the times of tokens are counted.
    #[must_use]
    pub fn push_session_seconds(&self) -> Option<i64> {
        // A week at most, so it fits.
        self.push_session.map(|max| i64::try_from(max.get()).unwrap_or(i64::MAX))
    }
}

/// `[[auth.token-key]]`: a key in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKeyFile {
    /// What a token's header names it by.
    pub kid: String,
    /// What it is for.
    pub algorithm: TokenAlgorithm,
    /// The file, absolute.
    pub file: PathBuf,
}

/// `[[auth.legacy-key]]`: a key of attic in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyKeyFile {
    /// Its name, in messages.
    pub name: String,
    /// What it is for: HS256 or RS256.
    pub algorithm: TokenAlgorithm,
    /// The file, absolute.
    pub file: PathBuf,
    /// Whom its tokens have to name as their issuer.
    pub issuer: Option<String>,
    /// For one of whom its tokens have to be meant; for anyone where it is empty.
    pub audiences: Vec<String>,
}

/// `[[auth.oidc]]`: some of an issuer's tokens, and what they allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcConfig {
    /// The issuer, exactly as its tokens name it.
    pub issuer: String,
    /// For whom the tokens have to be meant.
    pub audience: String,
    /// What subjects from this issuer begin with.
    pub name: String,
    /// Claims by name, nested ones with dots, and for each the patterns of which one has to match.
    /// At least one has something to match.
    pub claims: BTreeMap<String, Vec<String>>,
    /// What such a token allows.
    pub permissions: Vec<OidcGrant>,
}

/// A line of `[auth.oidc.permissions]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcGrant {
    /// On which caches.
    pub caches: CachePattern,
    /// Permissions as they are written; which there are is known where they are given out.
    pub permissions: Vec<String>,
    /// The file and the line.
    pub place: String,
}

/// How an issuer's address is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Under TLS.
    Https,
    /// In the clear, and never leaving this machine.
    HttpOnLoopback,
}

impl Transport {
    /// How to speak to this address; `None` when it is none that may be spoken to, or has a user, a
    /// query or a fragment.
    #[must_use]
    pub fn of(url: &str) -> Option<Self> {
        if url.contains(['@', '?', '#']) || url.contains(char::is_whitespace) {
            return None;
        }
        let uri: Uri = url.parse().ok()?;
        let host = uri.host().filter(|host| !host.is_empty())?;
        match uri.scheme_str()? {
            "https" => Some(Self::Https),
            "http" if is_loopback(host) => Some(Self::HttpOnLoopback),
            _ => None,
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}
