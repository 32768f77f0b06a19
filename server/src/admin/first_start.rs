//! What a new Snowbank starts with: its identity, a token key, the public cache `main`, and a root token in a file.
//!
//! All of it is made in one transaction, once: a mark in the database says that it was, so that what an operator deletes
//! later stays deleted. The root token's file is written before that transaction commits. A crash in between leaves a file
//! whose token no key verifies, and the next start writes a new one over it.

use std::collections::BTreeMap;

use snowbank_core::cache_name::{CacheName, CachePattern};
use snowbank_core::cut::CutParams;
use snowbank_core::signing::PublicKey;

use super::caches::{CacheSpec, create_cache_in};
use super::tokens::{MAX_LIFETIME, TokenSpec, issue};
use super::{AdminError, server_key};
use crate::auth::{Grants, Permission, TokenKey};
use crate::db::instance::{self, Instance};
use crate::db::{self, Db, DbError, Tx};
use crate::secrets::{DataDir, Sealer, SecretString, random_id, write_secret_file};

const DONE: &str = "first-start";
const MAIN: &str = "main";

/// What the first cache is made with.
#[derive(Debug, Clone)]
pub struct SetUp<'a> {
    /// The zstd level that clients are told to use.
    pub compression_level: i32,
    /// The host of the server's public address, if it has one.
    pub host: Option<&'a str>,
}

/// What is there after a start, the first or any other.
#[derive(Debug)]
pub struct FirstStart {
    /// The identity of this Snowbank.
    pub instance: Instance,
    /// The root token, when this was the first start.
    pub root_token: Option<SecretString>,
    /// The cache `main` and a key that verifies what it signs, unless they were deleted.
    pub main: Option<(CacheName, PublicKey)>,
}

/// Makes what a new Snowbank starts with, or finds that it is there.
///
/// # Errors
/// When the database or the root token's file cannot be written, or the database belongs to another server key; nothing
/// was made then.
pub async fn first_start(
    db: &Db,
    sealer: &Sealer,
    data_dir: &DataDir,
    set_up: &SetUp<'_>,
    now: i64,
) -> Result<FirstStart, AdminError> {
    let mut tx = db.exclusive_tx().await?;
    server_key::claim(tx.exec(), sealer).await?;
    let instance = instance::load_or_create(tx.exec(), &random_id::<16>()?, now).await?;
    db::settings::add_cut_params(tx.exec(), &CutParams::DEFAULT).await?;
    let root_token = if db::settings::add_if_absent(tx.exec(), DONE, "1").await? {
        let main = CacheName::new(MAIN).map_err(|error| DbError::corrupt(error.to_string()))?;
        let spec = CacheSpec {
            name: main,
            public: true,
            isolated: false,
            compression_level: set_up.compression_level,
            host: set_up.host,
        };
        create_cache_in(&mut tx, sealer, &spec, now).await?;
        let token = root_token(&mut tx, sealer, now).await?;
        write_secret_file(&data_dir.root_token(), &token)?;
        Some(token)
    } else {
        None
    };
    let main = main_cache(&mut tx).await?;
    tx.commit().await?;
    Ok(FirstStart { instance, root_token, main })
}

/// Makes the first token key, and a token that allows everything.
async fn root_token(tx: &mut Tx, sealer: &Sealer, now: i64) -> Result<SecretString, AdminError> {
    let key = TokenKey::generate()?;
    db::keys::add_token_key(tx.exec(), &key.seal(sealer, now)?).await?;
    let everywhere = CachePattern::new("*").map_err(|error| DbError::corrupt(error.to_string()))?;
    let caches = BTreeMap::from([(everywhere, vec![Permission::Pull, Permission::Push])]);
    let spec = TokenSpec { subject: "root".to_owned(), grants: Grants { caches, admin: true }, lifetime: MAX_LIFETIME };
    issue(&key, spec, now)
}

async fn main_cache(tx: &mut Tx) -> Result<Option<(CacheName, PublicKey)>, AdminError> {
    let Ok(name) = CacheName::new(MAIN) else { return Ok(None) };
    let Some(cache) = db::caches::lookup(tx.exec(), &name).await? else { return Ok(None) };
    let keys = db::keys::active_signing_keys(tx.exec(), cache.id).await?;
    let Some(newest) = keys.last() else { return Ok(None) };
    Ok(Some((name, newest.public_key.parse()?)))
}
