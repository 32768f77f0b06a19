//! A cache's signing keys: their names, their rotation with an overlap, and giving them out on the
//! host.
//!
//! Nix keeps narinfos, and with them their signatures, for 30 days: both keys sign for longer than
//! that, so that a machine that trusts either never meets a path that only the other has signed.

use snowbank_core::cache_name::CacheName;
use snowbank_core::signing::SecretKey;
use snowbank_core::units::Seconds;
use snowbank_core::wire::admin::{CacheDetails, RotateKey, SecretText};
use zeroize::Zeroizing;

use super::cache_details::{details, existing};
use super::{Actor, Admin, AdminError};
use crate::db::caches::Cache;
use crate::db::{self, Tx};
use crate::secrets::{random, random_id};

/// The longest overlap of two keys, ten years.
const MAX_OVERLAP: Seconds = Seconds::new(3_650 * 86_400);
/// Keys that sign at the same time: each costs a signature per narinfo.
const MAX_ACTIVE: usize = 8;

/// Gives a cache a new key to sign with; the old ones go on signing for the overlap.
///
/// # Errors
/// [`AdminError::NoCache`], or [`AdminError::BadSetting`] for a key that cannot be used.
pub async fn rotate_signing_key(
    admin: &Admin,
    actor: &Actor,
    name: &CacheName,
    request: &RotateKey,
    now: i64,
) -> Result<CacheDetails, AdminError> {
    if request.overlap > MAX_OVERLAP {
        return Err(AdminError::BadSetting(
            "old and new keys overlap for at most 3650d".to_owned(),
        ));
    }
    let mut tx = admin.db.exclusive_tx().await?;
    let cache = existing(&mut tx, name).await?;
    let rows = db::keys::signing_keys(tx.exec(), cache.id).await?;
    if rows.iter().filter(|row| row.signs(now)).count() >= MAX_ACTIVE {
        let message =
            format!("`{name}` signs with {MAX_ACTIVE} keys already; wait until an overlap ends");
        return Err(AdminError::BadSetting(message));
    }
    let key = match &request.signing_key {
        Some(text) => parse_secret(text)?,
        None => match rows.last() {
            Some(newest) => SecretKey::from_seed(&next_name(&newest.key.name), random::<32>()?)?,
            None => first_key(admin, name)?,
        },
    };
    if rows.iter().any(|row| row.key.name == key.name()) {
        let message =
            format!("`{name}` has or had a key called {}; Nix keeps one key per name", key.name());
        return Err(AdminError::BadSetting(message));
    }
    // Within 3650d, so it fits.
    let overlap = i64::try_from(request.overlap.get()).unwrap_or(i64::MAX);
    db::keys::retire_signing_keys(tx.exec(), cache.id, now.saturating_add(overlap)).await?;
    add_key(&mut tx, admin, &cache, &key, now).await?;
    let detail = format!("key={} overlap={}", key.name(), request.overlap);
    actor.record(&mut tx, "cache.rotate-key", name.as_str(), detail, now).await?;
    let details = details(tx.exec(), &cache).await?;
    tx.commit().await?;
    Ok(details)
}

/// The keys that a cache signs with, secret halves and all, in Nix's format, oldest first. For the
/// host only.
///
/// # Errors
/// [`AdminError::NoCache`]; a key that was sealed with another server key.
pub async fn export_signing_keys(
    admin: &Admin,
    actor: &Actor,
    name: &CacheName,
    now: i64,
) -> Result<Vec<Zeroizing<String>>, AdminError> {
    let mut tx = admin.db.commit_tx().await?;
    let cache = existing(&mut tx, name).await?;
    let rows = db::keys::signing_keys(tx.exec(), cache.id).await?;
    let keys = rows
        .iter()
        .filter(|row| row.signs(now))
        .map(|row| admin.sealer.open_signing_key(&row.key).map(|key| key.to_nix()))
        .collect::<Result<_, _>>()?;
    actor.record(&mut tx, "cache.export-key", name.as_str(), String::new(), now).await?;
    tx.commit().await?;
    Ok(keys)
}

pub(super) async fn add_key(
    tx: &mut Tx,
    admin: &Admin,
    cache: &Cache,
    key: &SecretKey,
    now: i64,
) -> Result<(), AdminError> {
    Ok(db::keys::add_signing_key(tx.exec(), cache.id, &admin.sealer.seal_signing_key(key)?, now)
        .await?)
}

pub(super) fn parse_secret(text: &SecretText) -> Result<SecretKey, AdminError> {
    SecretKey::parse(text.0.trim())
        .map_err(|error| AdminError::BadSetting(format!("the signing key: {error}")))
}

/// A new key called `<host>-<cache>-1`, or `snowbank-<random>-<cache>-1` where the host would not
/// tell this server from any other: Nix keeps one key per name, so that two of one name would shut
/// each other out.
pub(super) fn first_key(admin: &Admin, cache: &CacheName) -> Result<SecretKey, AdminError> {
    let origin = match admin.host.as_deref().filter(|host| is_global(host)) {
        Some(host) => host.to_ascii_lowercase(),
        None => format!("snowbank-{}", random_id::<5>()?),
    };
    Ok(SecretKey::from_seed(&format!("{origin}-{cache}-1"), random::<32>()?)?)
}

/// The name of the key after the one called `name`: the number at its end counts up.
fn next_name(name: &str) -> String {
    let numbered =
        name.rsplit_once('-').and_then(|(stem, number)| Some((stem, number.parse::<u32>().ok()?)));
    match numbered {
        Some((stem, number)) => format!("{stem}-{}", number.saturating_add(1)),
        None => format!("{name}-2"),
    }
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
        for host in [
            "localhost",
            "127.0.0.1",
            "[::1]",
            "nas",
            "nas.local",
            "box.lan",
            "a_b.org",
            ".org",
            "",
        ] {
            assert!(!is_global(host), "{host}");
        }
    }

    #[test]
    fn the_next_key_counts_up() {
        for (name, next) in [
            ("h-main-1", "h-main-2"),
            ("h-main-9", "h-main-10"),
            ("key", "key-2"),
            ("a-b", "a-b-2"),
        ] {
            assert_eq!(next_name(name), next);
        }
    }
}
