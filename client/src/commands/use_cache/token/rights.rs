//! What a token at hand may do, by what its server says.

use super::{CacheAddress, Candidate, target};
use crate::api::{Api, ApiErrorKind};
use crate::exit::Failure;

/// What a token opens.
#[derive(Default)]
pub(super) struct Access {
    /// Caches from which nobody can fetch who shows the token.
    pub uncovered: Vec<String>,
    /// Private caches from which it may fetch.
    pub private: Vec<CacheAddress>,
}

/// Asks for each cache.
pub(super) async fn access(
    caches: &[CacheAddress],
    candidate: &Candidate,
) -> Result<Access, Failure> {
    let (mut access, source) = (Access::default(), &candidate.source);
    for (server_url, cache) in caches {
        match Api::new(&target(server_url, cache, candidate))?.cache_info().await {
            Ok(info) if info.public => {}
            Ok(info) if info.permissions.iter().any(|one| one == "pull") => {
                access.private.push((server_url.clone(), cache.clone()));
            }
            Ok(_) => access.uncovered.push(format!("{server_url}/{cache}")),
            Err(error) => match error.kind() {
                ApiErrorKind::Unauthenticated
                | ApiErrorKind::Forbidden
                | ApiErrorKind::NotFound => {
                    access.uncovered.push(format!("{server_url}/{cache}"));
                }
                // A server that is down is no reason not to use another.
                _ => tracing::warn!(
                    "cannot tell whether the token from {source} is for {server_url}/{cache}: \
                     {error}"
                ),
            },
        }
    }
    Ok(access)
}

/// What else a token may do, and until when.
#[derive(Default)]
pub(super) struct Rights {
    pub is_admin: bool,
    /// Permissions besides `pull`.
    more: Vec<String>,
    pub expires: Option<i64>,
}

impl Rights {
    /// What to say of a token that is taken as it is.
    pub(super) fn note(&self, candidate: &Candidate) -> Option<String> {
        if candidate.is_in_netrc || (self.more.is_empty() && !self.is_admin) {
            return None;
        }
        let admin = self.is_admin.then(|| "administrate the server".to_owned());
        let more: Vec<String> = admin.into_iter().chain(self.more.iter().cloned()).collect();
        Some(format!(
            "The token from {} is now in netrc, and may also {}. Fetching needs `pull` alone: ask \
             the operator for a token that may do nothing else.",
            candidate.source,
            more.join(", ")
        ))
    }
}

/// The rights of a token on the server of the first cache. Without them nobody can tell whether the
/// token may administrate the server.
pub(super) async fn rights(
    caches: &[CacheAddress],
    candidate: &Candidate,
) -> Result<Rights, Failure> {
    let Some((server_url, cache)) = caches.first() else { return Ok(Rights::default()) };
    let whoami = Api::new(&target(server_url, cache, candidate))?.whoami().await?;
    let mut more: Vec<String> =
        whoami.caches.into_values().flatten().filter(|one| one != "pull").collect();
    more.sort_unstable();
    more.dedup();
    Ok(Rights { is_admin: whoami.admin, more, expires: whoami.expires })
}
