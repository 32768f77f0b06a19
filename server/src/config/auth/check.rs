//! From the section as it is written to one that makes sense.

use std::collections::BTreeMap;
use std::path::Path;

use axum::http::Uri;
use snowbank_core::cache_name::CachePattern;
use toml::Spanned;

use super::super::{ConfigError, Seconds, TokenAlgorithm, absolute, beside, parse_kid};
use super::sections::{
    AuthSection, LegacyKeySection, OidcSection, Patterns, SourceText, TokenKeySection,
};
use super::{AuthConfig, LegacyKeyFile, OidcConfig, OidcGrant, TokenKeyFile, Transport};

/// The longest push session.
const MAX_PUSH_SESSION: Seconds = Seconds::new(7 * 86_400);

impl AuthSection {
    /// Checks everything that can be checked without opening another file.
    pub(in crate::config) fn resolve(
        self,
        written: SourceText<'_>,
        config_dir: Option<&Path>,
    ) -> Result<AuthConfig, ConfigError> {
        let mut token_keys: Vec<TokenKeyFile> = Vec::new();
        for section in &self.token_key {
            token_keys.push(token_key(section, &token_keys, written, config_dir)?);
        }
        let mut legacy_keys: Vec<LegacyKeyFile> = Vec::new();
        for section in self.legacy_key {
            legacy_keys.push(legacy_key(section, &legacy_keys, written, config_dir)?);
        }
        let mut oidc: Vec<OidcConfig> = Vec::new();
        for section in self.oidc {
            oidc.push(entry(section, &oidc, written)?);
        }
        let push_session = push_session(&self.push_session, written)?;
        Ok(AuthConfig { token_keys, legacy_keys, oidc, push_session })
    }
}

/// How long a push session may last: `off` and `0` are none.
fn push_session(
    text: &Spanned<String>,
    written: SourceText<'_>,
) -> Result<Option<Seconds>, ConfigError> {
    if matches!(text.get_ref().as_str(), "off" | "0") {
        return Ok(None);
    }
    match text.get_ref().parse::<Seconds>() {
        Ok(max) if max.get() == 0 => Ok(None),
        Ok(max) if max <= MAX_PUSH_SESSION => Ok(Some(max)),
        _ => {
            let message = "must be a time from 1s to 7d such as \"6h\", or \"off\"";
            Err(written.problem(&text.span(), "auth.push-session", message))
        }
    }
}

fn token_key(
    section: &TokenKeySection,
    before: &[TokenKeyFile],
    written: SourceText<'_>,
    config_dir: Option<&Path>,
) -> Result<TokenKeyFile, ConfigError> {
    let wrong = |message: &str| written.problem(&section.kid.span(), "auth.token-key.kid", message);
    let kid = parse_kid(section.kid.get_ref()).map_err(|error| wrong(&error.to_string()))?;
    if before.iter().any(|other| other.kid == kid) {
        return Err(wrong("another token key has this id; each needs one of its own"));
    }
    Ok(TokenKeyFile {
        kid,
        algorithm: section.algorithm,
        file: absolute(&beside(config_dir, &section.file))?,
    })
}

fn legacy_key(
    section: LegacyKeySection,
    before: &[LegacyKeyFile],
    written: SourceText<'_>,
    config_dir: Option<&Path>,
) -> Result<LegacyKeyFile, ConfigError> {
    let LegacyKeySection { name, algorithm, file, issuer, audiences } = section;
    let wrong = |message: &str| written.problem(&name.span(), "auth.legacy-key.name", message);
    if parse_kid(name.get_ref()).is_err() {
        return Err(wrong("must be 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`"));
    }
    if before.iter().any(|other| other.name == *name.get_ref()) {
        return Err(wrong("another legacy key has this name; each needs one of its own"));
    }
    if !matches!(algorithm.get_ref(), TokenAlgorithm::Hs256 | TokenAlgorithm::Rs256) {
        let message = "attic signs with HS256 or RS256; keys for others belong into \
            `[[auth.token-key]]`";
        return Err(written.problem(&algorithm.span(), "auth.legacy-key.algorithm", message));
    }
    Ok(LegacyKeyFile {
        algorithm: *algorithm.get_ref(),
        file: absolute(&beside(config_dir, &file))?,
        name: name.into_inner(),
        issuer,
        audiences,
    })
}

fn entry(
    section: OidcSection,
    before: &[OidcConfig],
    written: SourceText<'_>,
) -> Result<OidcConfig, ConfigError> {
    let wrong = |value: &Spanned<String>, key: &str, message: &str| {
        written.problem(&value.span(), &format!("auth.oidc.{key}"), message)
    };
    let OidcSection { issuer, audience, name, claims, permissions } = section;
    if Transport::of(issuer.get_ref()).is_none() {
        return Err(wrong(
            &issuer,
            "issuer",
            "is not an issuer's address: allowed is https, such as \"https://gitlab.example.org\", \
             and http on this machine's own addresses, without user and query",
        ));
    }
    if audience.get_ref().trim().is_empty() {
        return Err(wrong(
            &audience,
            "audience",
            "is empty; say for whom tokens are to be meant, such as this server's address",
        ));
    }
    let own_name = match &name {
        Some(name) => name.get_ref().clone(),
        None => host(issuer.get_ref()),
    };
    let named_at = name.as_ref().unwrap_or(&issuer);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !(1..=64).contains(&own_name.len()) || !own_name.bytes().all(plain) {
        return Err(wrong(
            named_at,
            "name",
            "must be 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`",
        ));
    }
    if before.iter().any(|other| (other.name == own_name) != (other.issuer == *issuer.get_ref())) {
        let message = format!(
            "`{own_name}`: entries of one issuer have one name, and those of another issuer \
             another; say it with `name`"
        );
        return Err(wrong(named_at, "name", &message));
    }
    let claims = claim_patterns(claims, &issuer, written)?;
    let permissions = grants(permissions, &issuer, written)?;
    Ok(OidcConfig {
        issuer: issuer.into_inner(),
        audience: audience.into_inner(),
        name: own_name,
        claims,
        permissions,
    })
}

/// The host in an address, as a name.
fn host(url: &str) -> String {
    let uri: Option<Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']').replace(':', "-")
}

/// A public issuer gives tokens to all the world, for any audience that is asked for: an entry has
/// to tell jobs apart.
fn claim_patterns(
    claims: BTreeMap<String, Spanned<Patterns>>,
    issuer: &Spanned<String>,
    written: SourceText<'_>,
) -> Result<BTreeMap<String, Vec<String>>, ConfigError> {
    let mut checked = BTreeMap::new();
    for (name, patterns) in claims {
        let key = format!("auth.oidc.claims.{name}");
        let at = patterns.span();
        let list = patterns.into_inner().into_list();
        if name.is_empty() || list.is_empty() || list.iter().any(String::is_empty) {
            let message = "needs a claim's name, and a pattern or a list of patterns in which `*` \
                stands for any text";
            return Err(written.problem(&at, &key, message));
        }
        checked.insert(name, list);
    }
    let tells_apart =
        |list: &Vec<String>| list.iter().all(|pattern| pattern.bytes().any(|byte| byte != b'*'));
    if !checked.values().any(tells_apart) {
        let message = "has to say what at least one claim must be, such as `repository_owner = \
            \"my-company\"`; without one, everybody to whom this issuer gives tokens would be let \
            in";
        return Err(written.problem(&issuer.span(), "auth.oidc.claims", message));
    }
    Ok(checked)
}

fn grants(
    permissions: BTreeMap<String, Spanned<Vec<String>>>,
    issuer: &Spanned<String>,
    written: SourceText<'_>,
) -> Result<Vec<OidcGrant>, ConfigError> {
    const KEY: &str = "auth.oidc.permissions";
    if permissions.is_empty() {
        let message =
            "has to say what these tokens allow, such as `\"main\" = [\"pull\", \"push\"]`";
        return Err(written.problem(&issuer.span(), KEY, message));
    }
    let grant = |(pattern, words): (String, Spanned<Vec<String>>)| {
        let at = words.span();
        let caches = CachePattern::new(&pattern)
            .map_err(|error| written.problem(&at, KEY, &error.to_string()))?;
        if words.get_ref().is_empty() {
            let message = format!(
                "`{pattern}` has no permissions; name some, such as [\"pull\"], or leave the line \
                 out"
            );
            return Err(written.problem(&at, KEY, &message));
        }
        Ok(OidcGrant { caches, place: written.place(&at), permissions: words.into_inner() })
    };
    permissions.into_iter().map(grant).collect()
}
