//! Creating a cache, with a signing key of its own.

use snowbank_core::cache_name::CacheName;
use snowbank_core::signing::{PublicKey, SecretKey};
use snowbank_core::store_path::StoreDir;

use super::AdminError;
use crate::db::caches::{Cache, DomainId, NewCache};
use crate::db::{self, Db, DbError, Tx};
use crate::secrets::{Sealer, random, random_id};

/// Nix asks caches with a lower number first; cache.nixos.org has 40.
const DEFAULT_PRIORITY: i64 = 41;

/// A cache that is to be made.
#[derive(Debug, Clone)]
pub struct CacheSpec<'a> {
    /// Its name.
    pub name: CacheName,
    /// Whether anyone may read it.
    pub public: bool,
    /// Whether it shares chunks with no other cache.
    pub isolated: bool,
    /// The zstd level that its clients are told to use.
    pub compression_level: i32,
    /// The host of the server's public address, if it has one.
    pub host: Option<&'a str>,
}

/// A cache that was made.
#[derive(Debug, Clone)]
pub struct CreatedCache {
    /// Its row.
    pub cache: Cache,
    /// The key that verifies what it signs.
    pub public_key: PublicKey,
}

/// Makes a cache and its first signing key.
///
/// # Errors
/// [`AdminError::NameTaken`] when there is one of that name.
pub async fn create_cache(
    db: &Db,
    sealer: &Sealer,
    spec: &CacheSpec<'_>,
    now: i64,
) -> Result<CreatedCache, AdminError> {
    let mut tx = db.commit_tx().await?;
    let created = create_cache_in(&mut tx, sealer, spec, now).await?;
    tx.commit().await?;
    Ok(created)
}

pub(super) async fn create_cache_in(
    tx: &mut Tx,
    sealer: &Sealer,
    spec: &CacheSpec<'_>,
    now: i64,
) -> Result<CreatedCache, AdminError> {
    if db::caches::lookup(tx.exec(), &spec.name).await?.is_some() {
        return Err(AdminError::NameTaken(spec.name.clone()));
    }
    let domain = if spec.isolated { db::caches::add_domain(tx.exec(), now).await? } else { DomainId::SHARED };
    let new = NewCache {
        name: spec.name.clone(),
        domain,
        public: spec.public,
        store_dir: StoreDir::default(),
        priority: DEFAULT_PRIORITY,
        compression_level: spec.compression_level,
        created: now,
    };
    let cache = match db::caches::add(tx.exec(), &new).await {
        // Someone else was quicker.
        Err(DbError::Constraint(_)) => return Err(AdminError::NameTaken(spec.name.clone())),
        result => result?,
    };
    let key = SecretKey::from_seed(&key_name(spec)?, random::<32>()?)?;
    db::keys::add_signing_key(tx.exec(), cache.id, &sealer.seal_signing_key(&key)?, now).await?;
    Ok(CreatedCache { cache, public_key: key.public() })
}

/// `<host>-<cache>-1`, or `snowbank-<random>-<cache>-1` where the host would not tell this server from any other: Nix
/// keeps one key per name, so that two of one name would shut each other out.
fn key_name(spec: &CacheSpec<'_>) -> Result<String, AdminError> {
    let origin = match spec.host.filter(|host| is_global(host)) {
        Some(host) => host.to_ascii_lowercase(),
        None => format!("snowbank-{}", random_id::<5>()?),
    };
    Ok(format!("{origin}-{}-1", spec.name))
}

/// A DNS name with a dot in it that is no address and no name of a local network.
fn is_global(host: &str) -> bool {
    let labels: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    let local = ["local", "localhost", "lan", "home", "internal", "localdomain", "test", "example"];
    let [.., parent, top] = labels[..] else { return false };
    host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        && !parent.is_empty()
        && top.bytes().any(|byte| byte.is_ascii_alphabetic())
        && !local.iter().any(|name| top.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_is_unique_in_the_world_names_a_key() {
        for host in ["cache.example.org", "nix.company.com"] {
            assert!(is_global(host), "{host}");
        }
        for host in ["localhost", "127.0.0.1", "[::1]", "nas", "nas.local", "box.lan", "a_b.org", ".org", ""] {
            assert!(!is_global(host), "{host}");
        }
    }
}
