//! Push sessions: tokens of this server by which one push goes on after the token that it began
//! with has ended, as those of CI jobs do after minutes.
//!
//! Invariant: a session allows no more than its first token. Its rights are a part of that token's
//! (`pull` and `push` on the caches that the push named), it is refused as soon as that token would
//! be for any other reason than its age (its id or subject is revoked, its key is retired, its
//! issuer or the rule that let it in is gone), and it ends `[auth] push-session` after its
//! beginning, however often it is renewed. It is taken by the requests of a push, by reads, and by
//! nothing else: `http` refuses it everywhere unless an endpoint asks for it.

use std::collections::BTreeMap;

use snowbank_core::cache_name::CacheName;

use super::AuthError;
use super::claims::{FirstToken, Grants, Origin, Session, SessionClaims, Signer, Token};
use super::permission::Permission;

/// The longest time from one renewal to the next.
const MAX_LIFETIME_SECONDS: i64 = 3_600;
/// A session token lives for this part of the whole session, so that there is time to renew it.
const LIFETIMES_PER_SESSION: i64 = 4;
/// What a push needs.
const PERMISSIONS: [Permission; 2] = [Permission::Pull, Permission::Push];

impl Session {
    /// When it ends at the latest.
    #[must_use]
    pub const fn ends_at(&self, max_seconds: i64) -> i64 {
        self.auth_time.saturating_add(max_seconds)
    }

    /// What it allows, whatever else a signed text says.
    pub(super) fn grants(&self) -> Grants {
        let caches = self.caches.iter().filter_map(|(name, permissions)| {
            Some((name.as_str().parse().ok()?, needed(permissions)))
        });
        Grants { caches: caches.collect(), admin: false }
    }

    /// What it allows of what `rules` allow its first token now.
    pub(super) fn grants_within(&self, rules: &Grants) -> Grants {
        let caches = self.caches.iter().filter_map(|(name, permissions)| {
            let allowed = rules.permissions(name);
            let both = needed(permissions).into_iter().filter(|one| allowed.contains(one));
            Some((name.as_str().parse().ok()?, both.collect()))
        });
        Grants { caches: caches.collect(), admin: false }
    }
}

fn needed(permissions: &[Permission]) -> Vec<Permission> {
    permissions.iter().copied().filter(|one| PERMISSIONS.contains(one)).collect()
}

/// The claims of a token with the id `jti` for a push to `caches`: of a new session, or of the one
/// that `token` is of.
///
/// # Errors
/// [`AuthError::Forbidden`] where the token may not push to one of the caches,
/// [`AuthError::SessionEnded`] after the session's end.
pub fn session_claims(
    token: &Token,
    caches: &[CacheName],
    max_seconds: i64,
    jti: String,
    now: i64,
) -> Result<SessionClaims, AuthError> {
    let mut allowed = BTreeMap::new();
    for cache in caches {
        let permissions = needed(&token.permissions(cache));
        if !permissions.contains(&Permission::Push) {
            return Err(AuthError::Forbidden {
                permission: Permission::Push,
                cache: cache.clone(),
            });
        }
        allowed.insert(cache.clone(), permissions);
    }
    let first_session = |signer| Session {
        id: jti.clone(),
        auth_time: now,
        caches: allowed.clone(),
        first: FirstToken { jti: token.jti.clone(), iat: token.iat, signer },
    };
    let push_session = match &token.origin {
        Origin::Session(session) => Session { caches: allowed.clone(), ..Session::clone(session) },
        Origin::Signer(signer) => first_session(signer.clone()),
        Origin::Legacy(legacy) => first_session(Signer::Key { kid: legacy.kid().to_owned() }),
    };
    let lifetime = (max_seconds / LIFETIMES_PER_SESSION).clamp(1, MAX_LIFETIME_SECONDS);
    let exp = now.saturating_add(lifetime).min(push_session.ends_at(max_seconds));
    if exp <= now {
        return Err(AuthError::SessionEnded);
    }
    Ok(SessionClaims { sub: token.sub.clone(), jti, iat: now, exp, push_session })
}

#[cfg(test)]
mod tests;
