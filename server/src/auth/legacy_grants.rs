//! What a token of attic allows, in terms of this server.

use snowbank_core::attic::{Access, Right};
use snowbank_core::cache_name::CacheName;

use super::permission::Permission;

/// What a token of attic allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyGrants {
    /// What push sessions name its key by.
    kid: String,
    access: Access,
}

impl LegacyGrants {
    pub(super) const fn new(kid: String, access: Access) -> Self {
        Self { kid, access }
    }

    /// The id of the key that has signed it, for a push session that begins with it.
    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    /// Whether it has this right on a cache.
    pub(super) fn allows(&self, cache: &CacheName, right: Right) -> bool {
        self.access.rights(cache).contains(&right)
    }

    /// Permissions on a cache, sorted.
    pub(super) fn permissions(&self, cache: &CacheName) -> Vec<Permission> {
        permissions(self.access.rights(cache))
    }

    /// Permissions by pattern, in the token's order.
    pub fn entries(&self) -> impl Iterator<Item = (String, Vec<Permission>)> {
        self.access.entries().map(|(pattern, rights)| (pattern.to_string(), permissions(rights)))
    }
}

/// Rights as permissions. `configure` covers settings, retention and destruction, so it takes all
/// three rights: no token allows more here than it did under attic.
fn permissions(rights: &[Right]) -> Vec<Permission> {
    let has = |wanted: &[Right]| wanted.iter().all(|right| rights.contains(right));
    let needed = |permission: &Permission| match permission {
        Permission::Pull => has(&[Right::Pull]),
        Permission::Push => has(&[Right::Push]),
        Permission::Delete => has(&[Right::Delete]),
        Permission::Configure => has(&[Right::Configure, Right::Retention, Right::Destroy]),
        Permission::Create => has(&[Right::Create]),
    };
    Permission::ALL.into_iter().filter(needed).collect()
}
