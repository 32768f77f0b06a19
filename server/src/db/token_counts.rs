//! How many tokens depend on a key.

use super::exec::on_either;
use super::{DbError, Exec, convert};

/// How many tokens that a key has signed are good at the time `now`: not over, and not taken back,
/// by themselves or with all of their subject.
pub async fn count_live_by_kid(exec: Exec<'_>, kid: &str, now: i64) -> Result<u64, DbError> {
    let count: i64 = on_either!(exec, |conn| {
        sqlx::query_scalar(
            "SELECT count(*) FROM tokens WHERE kid = $1 AND expires > $2 AND NOT EXISTS (SELECT 1 \
             FROM revoked_tokens WHERE revoked_tokens.jti = tokens.jti AND revoked <= $2) AND NOT \
             EXISTS (SELECT 1 FROM revoked_subjects WHERE revoked_subjects.subject IN \
             (tokens.subject, '') AND issued_until >= tokens.created)",
        )
        .bind(kid)
        .bind(now)
        .fetch_one(conn)
        .await?
    });
    convert::number("count", count)
}
