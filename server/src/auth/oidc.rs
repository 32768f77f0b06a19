//! Tokens that somebody else issues: the OpenID Connect ID tokens by which GitHub, GitLab and
//! others tell who a CI job is.
//!
//! The settings name the issuer, the audience, what the claims have to be, and what such a token
//! may do; the token itself grants nothing. Invariants: a token is an issuer's only if its `iss` is
//! exactly the configured text and a key that the issuer has published verifies it, by an algorithm
//! of that key; it has an end, within a day of its beginning; tokens of other issuers, and of
//! ourselves, wait for no issuer.

mod fetch;
mod key_set;
mod keys;
mod rules;

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use serde::Deserialize;
use serde_json::{Map, Value};
use snowbank_core::token::derived_token_id;

use self::keys::IssuerKeys;
use self::rules::{Mismatch, Rule};
use super::claims::{Origin, Signer};
use super::decode::{CLOCK_SKEW_SECONDS, MAX_TOKEN_BYTES, refusal, validation};
use super::{AuthError, Grants, Permission, Token, TrustError};
use crate::config::OidcConfig;

/// The longest time from a token's beginning to its end.
const MAX_LIFETIME_SECONDS: i64 = 86_400;

/// The issuers that the settings name.
#[derive(Debug, Default)]
pub(super) struct Issuers(Vec<Issuer>);

/// An issuer, and what its tokens may do.
#[derive(Debug)]
pub(super) struct Issuer {
    url: String,
    name: String,
    rules: Vec<Rule>,
    keys: IssuerKeys,
}

impl Issuers {
    pub fn from_config(entries: &[OidcConfig]) -> Result<Self, TrustError> {
        let mut issuers: Vec<Issuer> = Vec::new();
        for entry in entries {
            let rule = Rule::from_config(entry)?;
            match issuers.iter_mut().find(|issuer| issuer.url == entry.issuer) {
                Some(issuer) => issuer.rules.push(rule),
                None => issuers.push(Issuer {
                    url: entry.issuer.clone(),
                    name: entry.name.clone(),
                    rules: vec![rule],
                    keys: IssuerKeys::new(&entry.issuer, &entry.name),
                }),
            }
        }
        Ok(Self(issuers))
    }

    /// The issuer that a token says it is from, if it is one of these. Nothing is verified yet.
    pub fn named_by(&self, token: &str) -> Option<&Issuer> {
        #[derive(Deserialize)]
        struct IssuerClaim {
            iss: String,
        }
        if self.0.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let named: IssuerClaim = serde_json::from_slice(&payload).ok()?;
        self.at(&named.iss)
    }

    /// The issuer of this address, if it is one of these.
    pub fn at(&self, url: &str) -> Option<&Issuer> {
        self.0.iter().find(|issuer| issuer.url == url)
    }
}

impl Issuer {
    /// Verifies a token at the time `now`; gives it and when it was issued. Whether it was revoked
    /// is not looked at.
    pub async fn verify(&self, token: &str, now: i64) -> Result<Token, AuthError> {
        let claims = self.believe(token).await?;
        let (exp, iat) = self.check_times(&claims, now)?;
        let sub = format!("{}:{}", self.name, self.text(&claims, "sub")?);
        let grants = self.grants(&claims)?;
        let jti = match claims.get("jti") {
            Some(Value::String(jti)) if !jti.is_empty() => jti.clone(),
            _ => derived_token_id(token),
        };
        let origin = Origin::Signer(Signer::Issuer { url: self.url.clone(), claims });
        Ok(Token { sub, jti, iat, exp, grants, origin })
    }

    /// As [`Issuer::verify`], with the keys that are known; a request for others, if there is to be
    /// one, is begun.
    pub fn verify_at_hand(&self, token: &str, now: i64) -> Result<Token, AuthError> {
        let unknown =
            || AuthError::IssuerUnavailable { issuer: self.name.clone(), retry_after_seconds: 1 };
        self.verify(token, now).now_or_never().unwrap_or_else(|| Err(unknown()))
    }

    /// The claims of a token that the issuer has signed.
    async fn believe(&self, token: &str) -> Result<Map<String, Value>, AuthError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Malformed)?;
        if header.crit.is_some() {
            return Err(AuthError::Malformed);
        }
        // Before anyone is asked for keys: no key of an issuer is for anything else.
        if !key_set::is_asymmetric(header.alg) {
            return Err(AuthError::WrongAlgorithm);
        }
        let unknown = || AuthError::UnknownIssuerKey { issuer: self.name.clone() };
        let kid = header.kid.ok_or_else(unknown)?;
        let keys = self.keys.having(&kid).await?;
        let key = keys.get(&kid).ok_or_else(unknown)?;
        if !key.algorithms.contains(&header.alg) {
            return Err(AuthError::WrongAlgorithm);
        }
        let decoded =
            jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &validation(header.alg));
        let claims = decoded.map_err(refusal)?.claims;
        // What chose the issuer was read before the signature was verified; this is what was
        // signed.
        if claims.get("iss").and_then(Value::as_str) == Some(&self.url) {
            Ok(claims)
        } else {
            Err(self.bad("iss"))
        }
    }

    /// When the token ends, and when it was issued.
    fn check_times(&self, claims: &Map<String, Value>, now: i64) -> Result<(i64, i64), AuthError> {
        let time = |name: &'static str| {
            claims.get(name).and_then(Value::as_i64).ok_or_else(|| self.bad(name))
        };
        let (exp, iat) = (time("exp")?, time("iat")?);
        let nbf = if claims.contains_key("nbf") { time("nbf")? } else { iat };
        if exp <= now {
            return Err(AuthError::Expired);
        }
        if nbf.max(iat) > now.saturating_add(CLOCK_SKEW_SECONDS) {
            return Err(AuthError::NotYetValid);
        }
        if exp.saturating_sub(iat) > MAX_LIFETIME_SECONDS {
            return Err(AuthError::TooLongLived { issuer: self.name.clone() });
        }
        Ok((exp, iat))
    }

    fn text<'a>(
        &self,
        claims: &'a Map<String, Value>,
        name: &'static str,
    ) -> Result<&'a str, AuthError> {
        let text = claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.ok_or_else(|| self.bad(name))
    }

    fn bad(&self, claim: &'static str) -> AuthError {
        AuthError::IssuerClaim { issuer: self.name.clone(), claim }
    }

    /// What all rules together allow that fit the token.
    ///
    /// # Errors
    /// No rule fits it.
    pub fn grants(&self, claims: &Map<String, Value>) -> Result<Grants, AuthError> {
        let (mut caches, mut fits, mut misfits) =
            (BTreeMap::<_, Vec<Permission>>::new(), false, Vec::new());
        for rule in &self.rules {
            match rule.check(claims) {
                Ok(()) => fits = true,
                Err(Mismatch::Audience) => continue,
                Err(Mismatch::Claim(name)) => {
                    misfits.push(name.to_owned());
                    continue;
                }
            }
            for (pattern, permissions) in &rule.grants {
                let all = caches.entry(pattern.clone()).or_default();
                all.extend(permissions);
                all.sort_unstable();
                all.dedup();
            }
        }
        if fits {
            return Ok(Grants { caches, admin: false });
        }
        if misfits.is_empty() {
            return Err(AuthError::WrongAudience { issuer: self.name.clone() });
        }
        misfits.sort_unstable();
        misfits.dedup();
        Err(AuthError::ClaimMismatch { issuer: self.name.clone(), claims: misfits })
    }
}

#[cfg(test)]
mod tests;
