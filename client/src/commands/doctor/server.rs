//! What the server says: its version, the token's owner and end, the cache and what the token may
//! do there.

use snowbank_cli::date;
use snowbank_core::wire::{CacheInfo, WhoAmI};

use super::report::Finding;
use crate::api::{Api, ApiErrorKind};

const RIGHTS: &str = "token's rights";
/// Seconds before its end from which on a token is warned of.
pub(super) const SOON: i64 = 7 * 24 * 3600;

/// The server's version and the token's state, by one question.
pub(super) async fn whoami(api: &Api) -> Vec<Finding> {
    match api.whoami().await {
        Ok(whoami) => {
            vec![version(&whoami.server_version), owner(&whoami), expiry(&whoami, date::now())]
        }
        Err(error) => vec![Finding::of_failure(RIGHTS, error)],
    }
}

/// The server's version.
pub(super) fn version(server: &str) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    let text = format!("Snowbank {server}, this client is {own}");
    let major_minor =
        |version: &str| version.split('.').take(2).map(str::to_owned).collect::<Vec<_>>();
    if major_minor(server) == major_minor(own) {
        Finding::ok("version", text)
    } else {
        Finding::warn("version", text)
            .advice("where something does not work, try the same version on both sides")
    }
}

fn owner(whoami: &WhoAmI) -> Finding {
    let WhoAmI { subject, token_id, admin, caches, .. } = whoami;
    let mut rights: Vec<String> = caches
        .iter()
        .map(|(pattern, permissions)| format!("{pattern} ({})", permissions.join(", ")))
        .collect();
    if *admin {
        rights.push("all administration".to_owned());
    }
    let rights = if rights.is_empty() { "nothing".to_owned() } else { rights.join(", ") };
    Finding::ok(RIGHTS, format!("{subject} (id {token_id}) may: {rights}"))
}

fn expiry(whoami: &WhoAmI, now: i64) -> Finding {
    const EXPIRY: &str = "token's end";
    let Some(expires) = whoami.expires else { return Finding::ok(EXPIRY, "none") };
    let text = format!("{}, {}", date::utc(expires), date::distance(now, expires));
    if expires.saturating_sub(now) >= SOON {
        Finding::ok(EXPIRY, text)
    } else {
        Finding::warn(EXPIRY, text)
            .advice("ask the operator for a new one, and log in again with it")
    }
}

/// Whether the cache is there, and what may be done with it.
pub(super) async fn cache(api: &Api, has_token: bool) -> (Finding, Option<CacheInfo>) {
    const CACHE: &str = "cache";
    match api.cache_info().await {
        Ok(info) => {
            let finding = may(CACHE, &info, has_token);
            (finding, Some(info))
        }
        Err(error) => {
            let advice = match error.kind() {
                ApiErrorKind::NotFound if has_token => {
                    "is the name right? A cache that the token may neither read nor push to looks \
                     as if it were not there"
                }
                ApiErrorKind::Unauthenticated if !has_token => {
                    "without a token, a private cache and one that does not exist look the same"
                }
                _ => return (Finding::of_failure(CACHE, error), None),
            };
            (Finding::of_failure(CACHE, error).advice(advice), None)
        }
    }
}

fn may(check: &'static str, info: &CacheInfo, has_token: bool) -> Finding {
    let kind = if info.public { "public" } else { "private" };
    let permissions = match info.permissions.join(", ") {
        _ if !has_token => "without a token it can be read".to_owned(),
        none if none.is_empty() => "this token has no permission of its own here".to_owned(),
        some => format!("this token may {some}"),
    };
    let text = format!("{} is {kind}; {permissions}", info.name);
    if !info.public && !info.permissions.iter().any(|one| one == "pull") {
        return Finding::warn(check, text)
            .advice("Nix cannot fetch with this token: ask for one with `pull`");
    }
    Finding::ok(check, text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::report::Status;
    use super::*;

    fn whoami(expires: Option<i64>) -> WhoAmI {
        WhoAmI {
            subject: "ci".to_owned(),
            token_id: "7".to_owned(),
            issued: None,
            expires,
            admin: false,
            caches: BTreeMap::from([("main".to_owned(), vec!["pull".to_owned()])]),
            server_version: "0".to_owned(),
        }
    }

    #[test]
    fn a_token_near_its_end_is_warned_of() {
        let now = 1_700_000_000;
        for (expires, status) in [
            (None, Status::Ok),
            (Some(now + SOON), Status::Ok),
            (Some(now + SOON - 1), Status::Warn),
            (Some(now - 5), Status::Warn),
        ] {
            assert_eq!(expiry(&whoami(expires), now).status, status, "{expires:?}");
        }
        assert!(owner(&whoami(None)).message.contains("main (pull)"));
    }

    #[test]
    fn another_version_is_a_warning_at_most() {
        assert_eq!(version(env!("CARGO_PKG_VERSION")).status, Status::Ok);
        assert_eq!(version("99.0.1").status, Status::Warn);
    }
}
