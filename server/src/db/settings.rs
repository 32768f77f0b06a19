//! Settings that belong to the data rather than to a server's config file, as texts by key.

use snowbank_core::cut::CutParams;

use super::exec::on_either;
use super::{DbError, Exec};

const CUT: &str = "cut";

/// The setting that keeps collection and compaction from working, and says why: after a backup was
/// restored, objects may be the only ones that know of chunks. `repair` takes it away.
pub const COLLECTION_OFF: &str = "collection-off";

/// The value of a setting.
pub async fn lookup(exec: Exec<'_>, key: &str) -> Result<Option<String>, DbError> {
    Ok(on_either!(exec, |conn| {
        sqlx::query_scalar("SELECT value FROM settings WHERE key = $1")
            .bind(key)
            .fetch_optional(conn)
            .await?
    }))
}

/// Sets a setting that is not set yet, and leaves one that is.
pub async fn add_if_absent(exec: Exec<'_>, key: &str, value: &str) -> Result<bool, DbError> {
    let rows = on_either!(exec, |conn| {
        sqlx::query(
            "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING",
        )
        .bind(key)
        .bind(value)
        .execute(conn)
        .await?
        .rows_affected()
    });
    Ok(rows == 1)
}

/// Sets a setting, whatever it was.
pub async fn set(exec: Exec<'_>, key: &str, value: &str) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        sqlx::query(
            "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET \
            value = $2",
        )
        .bind(key)
        .bind(value)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Unsets a setting; one that is not set stays so.
pub async fn remove(exec: Exec<'_>, key: &str) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        sqlx::query("DELETE FROM settings WHERE key = $1").bind(key).execute(conn).await?;
    });
    Ok(())
}

/// How clients are told to cut, once [`add_cut_params`] has set it.
///
/// # Errors
/// As any read; [`DbError::Corrupt`] when the setting makes no sense.
pub async fn cut_params(exec: Exec<'_>) -> Result<Option<CutParams>, DbError> {
    let parse = |text: String| {
        serde_json::from_str(&text)
            .map_err(|error| DbError::corrupt(format!("the setting `cut`: {error}")))
    };
    lookup(exec, CUT).await?.map(parse).transpose()
}

/// Sets how clients are told to cut, unless it is set.
pub async fn add_cut_params(exec: Exec<'_>, params: &CutParams) -> Result<(), DbError> {
    let text = serde_json::to_string(params)
        .map_err(|error| DbError::corrupt(format!("cut parameters: {error}")))?;
    add_if_absent(exec, CUT, &text).await.map(|_| ())
}
