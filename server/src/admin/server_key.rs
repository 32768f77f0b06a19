//! Which server key a database's secrets are sealed with.
//!
//! The database holds the key's id from the first start on, so that a server with another key is
//! refused when it starts, and not when it first needs a secret.

use super::AdminError;
use crate::auth::TokenKey;
use crate::db::{self, Db, Exec};
use crate::secrets::Sealer;

const KEY_ID: &str = "server-key-id";

/// Checks that the database's secrets were sealed with this server key.
///
/// # Errors
/// [`AdminError::OtherServerKey`] when they were not.
pub async fn check_server_key(db: &Db, sealer: &Sealer) -> Result<(), AdminError> {
    compare(db.reader().await?.exec(), sealer).await.map(|_| ())
}

/// The same for a server that starts; a database that names no key yet is given this one.
pub(super) async fn claim(mut exec: Exec<'_>, sealer: &Sealer) -> Result<(), AdminError> {
    if !compare(exec.again(), sealer).await? {
        db::settings::add_if_absent(exec, KEY_ID, sealer.key_id()).await?;
    }
    Ok(())
}

/// Whether the database names this key; an error when it names another, or holds what this one does
/// not open.
async fn compare(mut exec: Exec<'_>, sealer: &Sealer) -> Result<bool, AdminError> {
    match db::settings::lookup(exec.again(), KEY_ID).await? {
        Some(id) if id == sealer.key_id() => Ok(true),
        Some(_) => Err(AdminError::OtherServerKey),
        None => {
            // A database from before ids were kept: its token keys tell.
            let keys = db::keys::token_keys(exec).await?;
            match keys.first().map(|key| TokenKey::open(key, sealer)) {
                Some(Err(_)) => Err(AdminError::OtherServerKey),
                _ => Ok(false),
            }
        }
    }
}
