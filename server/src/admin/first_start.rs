//! What a new Snowbank starts with: its identity, a token key, the public cache `main`, and a root
//! token in a file.
//!
//! All of it is made in one transaction, once: a mark in the database says that it was, so that
//! what an operator deletes later stays deleted. The root token's file is written before that
//! transaction commits. A crash in between leaves a file whose token no key verifies, and the next
//! start writes a new one over it.

use std::collections::BTreeMap;

use snowbank_core::cache_name::CacheName;
use snowbank_core::cut::CutParams;
use snowbank_core::signing::PublicKey;

use snowbank_core::wire::admin::{CacheSettings, CreateCache, CreateToken, TokenGrants};

use super::caches::create_cache_in;
use super::tokens::{MAX_LIFETIME, issue};
use super::{Actor, Admin, AdminError, server_key};
use crate::auth::{Permission, TokenKey};
use crate::db::instance::{self, Instance};
use crate::db::{self, Tx};
use crate::secrets::{DataDir, SecretString, random_id, write_secret_file};

const DONE_SETTING: &str = "first-start";

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
/// When the database or the root token's file cannot be written, or the database belongs to another
/// server key; nothing was made then.
pub async fn first_start(
    admin: &Admin,
    data_dir: &DataDir,
    now: i64,
) -> Result<FirstStart, AdminError> {
    let mut tx = admin.db.exclusive_tx().await?;
    server_key::claim(tx.exec(), &admin.sealer).await?;
    let instance = instance::load_or_create(tx.exec(), &random_id::<16>()?, now).await?;
    db::settings::add_cut_params(tx.exec(), &CutParams::DEFAULT).await?;
    let root_token = if db::settings::add_if_absent(tx.exec(), DONE_SETTING, "1").await? {
        let main = CreateCache {
            name: CacheName::main().to_string(),
            isolated: false,
            store_dir: None,
            signing_key: None,
            settings: CacheSettings { public: Some(true), ..CacheSettings::default() },
        };
        let actor = Actor::host();
        create_cache_in(&mut tx, admin, &actor, &main, now).await?;
        let token = root_token(&mut tx, admin, &actor, now).await?;
        write_secret_file(&data_dir.root_token(), &token)?;
        Some(token)
    } else {
        None
    };
    let main = main_cache(&mut tx, now).await?;
    tx.commit().await?;
    Ok(FirstStart { instance, root_token, main })
}

/// Makes the first token key, and a token that allows everything.
async fn root_token(
    tx: &mut Tx,
    admin: &Admin,
    actor: &Actor,
    now: i64,
) -> Result<SecretString, AdminError> {
    db::keys::add_token_key(tx.exec(), &TokenKey::generate()?.seal(&admin.sealer, now)?).await?;
    let everything = Permission::ALL.map(|permission| permission.to_string()).to_vec();
    let request = CreateToken {
        subject: "root".to_owned(),
        label: "made at the first start".to_owned(),
        grants: TokenGrants { caches: BTreeMap::from([("*".to_owned(), everything)]), admin: true },
        expires: MAX_LIFETIME,
    };
    let created = issue(tx, admin, actor, &request, now).await?;
    Ok(SecretString::new(created.token.0))
}

async fn main_cache(tx: &mut Tx, now: i64) -> Result<Option<(CacheName, PublicKey)>, AdminError> {
    let name = CacheName::main();
    let Some(cache) = db::caches::lookup(tx.exec(), &name).await? else { return Ok(None) };
    let keys = db::keys::signing_keys(tx.exec(), cache.id).await?;
    let Some(newest) = keys.iter().rfind(|row| row.signs(now)) else { return Ok(None) };
    Ok(Some((name, newest.key.public_key.parse()?)))
}
