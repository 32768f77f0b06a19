//! Tokens that are refused: by their id, or by their subject and the time when they were issued.

use super::exec::on_either;
use super::{DbError, Exec};

/// Refused by id, from a time on that may lie ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedToken {
    /// The token's id.
    pub jti: String,
    /// From when on.
    pub from: i64,
}

/// Refused by subject; the subject `""` is everybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedSubject {
    /// Whose.
    pub subject: String,
    /// Those that were issued until then.
    pub issued_until: i64,
}

/// Everything that is refused.
pub async fn list(mut exec: Exec<'_>) -> Result<(Vec<RevokedToken>, Vec<RevokedSubject>), DbError> {
    let tokens: Vec<(String, i64)> = on_either!(exec.again(), |conn| {
        sqlx::query_as("SELECT jti, revoked FROM revoked_tokens").fetch_all(conn).await?
    });
    let subjects: Vec<(String, i64)> = on_either!(exec, |conn| {
        sqlx::query_as("SELECT subject, issued_until FROM revoked_subjects").fetch_all(conn).await?
    });
    let token = |(jti, from)| RevokedToken { jti, from };
    let subject = |(subject, issued_until)| RevokedSubject { subject, issued_until };
    Ok((tokens.into_iter().map(token).collect(), subjects.into_iter().map(subject).collect()))
}

/// Refuses a token from a time on; what is refused from an earlier one stays so.
pub async fn add_token(exec: Exec<'_>, jti: &str, from: i64) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        sqlx::query(
            "INSERT INTO revoked_tokens (jti, revoked) VALUES ($1, $2) ON CONFLICT (jti) DO UPDATE \
             SET revoked = CASE WHEN $2 < revoked_tokens.revoked THEN $2 ELSE \
             revoked_tokens.revoked END",
        )
        .bind(jti)
        .bind(from)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Refuses a subject's tokens that were issued until a time; a later time that is set stays.
pub async fn add_subject(
    exec: Exec<'_>,
    subject: &str,
    issued_until: i64,
    now: i64,
) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        sqlx::query(
            "INSERT INTO revoked_subjects (subject, issued_until, revoked) VALUES ($1, $2, $3) ON \
             CONFLICT (subject) DO UPDATE SET revoked = $3, issued_until = CASE WHEN $2 > \
             revoked_subjects.issued_until THEN $2 ELSE revoked_subjects.issued_until END",
        )
        .bind(subject)
        .bind(issued_until)
        .bind(now)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Until when a subject's tokens are refused by the time of their issue, its own rule and
/// everybody's together.
pub async fn issued_until(exec: Exec<'_>, subject: &str) -> Result<Option<i64>, DbError> {
    Ok(on_either!(exec, |conn| {
        sqlx::query_scalar(
            "SELECT max(issued_until) FROM revoked_subjects WHERE subject = $1 OR subject = ''",
        )
        .bind(subject)
        .fetch_one(conn)
        .await?
    }))
}
