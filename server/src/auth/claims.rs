//! What a token says: the registered claims of RFC 7519 and, under `snowbank`, what it allows.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use snowbank_core::attic::Right;
use snowbank_core::cache_name::{CacheName, CachePattern};

use super::legacy_grants::LegacyGrants;
use super::permission::Permission;

/// What a token allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Permissions by pattern of cache names. Those that this version does not know allow nothing
    /// in it.
    #[serde(default, deserialize_with = "known_permissions")]
    pub caches: BTreeMap<CachePattern, Vec<Permission>>,
    /// Whether the token may administrate the server.
    #[serde(default)]
    pub admin: bool,
}

fn known_permissions<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<CachePattern, Vec<Permission>>, D::Error> {
    let named = BTreeMap::<CachePattern, Vec<String>>::deserialize(deserializer)?;
    let known = |names: Vec<String>| names.iter().filter_map(|name| name.parse().ok()).collect();
    Ok(named.into_iter().map(|(pattern, names)| (pattern, known(names))).collect())
}

impl Grants {
    /// What is allowed on a cache, by all patterns together, each permission once.
    #[must_use]
    pub fn permissions(&self, cache: &CacheName) -> Vec<Permission> {
        let mut permissions: Vec<Permission> = self
            .caches
            .iter()
            .filter(|(pattern, _)| pattern.matches(cache))
            .flat_map(|(_, list)| list)
            .copied()
            .collect();
        permissions.sort_unstable();
        permissions.dedup();
        permissions
    }
}

/// The end of a token that names none, in Unix seconds: the last second of the year 9999.
pub(super) const NEVER: i64 = 253_402_300_799;

/// Everything that is signed in a token. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whom it was given to.
    pub sub: String,
    /// Its own id, by which it can be revoked.
    pub jti: String,
    /// When it was issued.
    pub iat: i64,
    /// When its time is over.
    pub exp: i64,
    /// When its time begins, if that is not when it was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// What it allows.
    pub snowbank: Grants,
}

/// Where a token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It was made for somebody, and is signed.
    Signer(Signer),
    /// It is of a push session.
    Session(Box<Session>),
    /// It is one of attic's, which allows something by its own rules.
    Legacy(Box<LegacyGrants>),
}

/// Who has signed a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signer {
    /// A key of the ring.
    Key {
        /// Its id.
        kid: String,
    },
    /// An issuer that the settings name.
    Issuer {
        /// Its address.
        url: String,
        /// The token's claims: the settings decide again what they allow whenever the session is
        /// used.
        claims: Map<String, Value>,
    },
}

/// The token that a session began with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstToken {
    /// Its id.
    pub jti: String,
    /// When it was issued.
    pub iat: i64,
    /// Who has signed it.
    pub signer: Signer,
}

/// A push session, as each of its tokens has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The id of its first session token, which stands for all of it.
    pub id: String,
    /// When it began; no renewal changes that.
    pub auth_time: i64,
    /// What it allows, on which caches.
    pub caches: BTreeMap<CacheName, Vec<Permission>>,
    /// The token that it began with.
    pub first: FirstToken,
}

/// Everything that is signed in a token of a push session. It has no `snowbank`, so that a server
/// that knows no sessions refuses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionClaims {
    /// Whom the session's first token was given to.
    pub sub: String,
    /// Its own id.
    pub jti: String,
    /// When it was issued.
    pub iat: i64,
    /// When its time is over.
    pub exp: i64,
    /// The session.
    pub push_session: Session,
}

/// The claims of a token of either kind, as they are read.
#[derive(Debug, Deserialize)]
pub(super) struct AnyClaims {
    pub sub: String,
    pub jti: String,
    pub iat: i64,
    pub exp: i64,
    #[serde(default)]
    pub nbf: Option<i64>,
    pub snowbank: Option<Grants>,
    pub push_session: Option<Session>,
}

/// A token that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Whom it was given to.
    pub sub: String,
    /// Its own id.
    pub jti: String,
    /// When it was issued, in Unix seconds.
    pub iat: i64,
    /// When its time is over, in Unix seconds.
    pub exp: i64,
    /// What it allows.
    pub grants: Grants,
    /// Where it comes from.
    pub origin: Origin,
}

impl Token {
    /// The push session that it is of.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        match &self.origin {
            Origin::Session(session) => Some(session),
            Origin::Signer(_) | Origin::Legacy(_) => None,
        }
    }

    /// What it allows on a cache, each permission once.
    #[must_use]
    pub fn permissions(&self, cache: &CacheName) -> Vec<Permission> {
        match &self.origin {
            Origin::Legacy(legacy) => legacy.permissions(cache),
            Origin::Signer(_) | Origin::Session(_) => self.grants.permissions(cache),
        }
    }

    /// Whether it is one of attic's and has this right on a cache.
    pub(super) fn has_right(&self, cache: &CacheName, right: Right) -> bool {
        matches!(&self.origin, Origin::Legacy(legacy) if legacy.allows(cache, right))
    }

    /// When its time is over, if it ever is.
    #[must_use]
    pub fn expires(&self) -> Option<i64> {
        (self.exp < NEVER).then_some(self.exp)
    }
}
