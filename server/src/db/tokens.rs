//! What is kept of every token that was issued here. The token itself is not among it.

use sqlx::FromRow;

use super::exec::on_either;
use super::{DbError, Exec};

/// A token that was issued.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct TokenRow {
    /// Its id.
    pub jti: String,
    /// The key that it is signed with.
    pub kid: String,
    /// Whom or what it is for.
    pub subject: String,
    /// A note for people.
    pub label: String,
    /// What it allows, as JSON.
    pub grants: String,
    /// When it was issued.
    pub created: i64,
    /// When its time is over.
    pub expires: i64,
    /// Who issued it.
    pub created_by: String,
    /// When it was used last.
    pub last_used: Option<i64>,
    /// From when on it is refused.
    pub revoked: Option<i64>,
}

/// With the earlier of the two times from which a token may be refused.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT t.jti, t.kid, t.subject, t.label, t.grants, t.created, t.expires, \
             t.created_by, t.last_used, CASE WHEN r.revoked IS NULL THEN (SELECT min(s.revoked) \
             FROM revoked_subjects s WHERE (s.subject = t.subject OR s.subject = '') AND t.created \
             <= s.issued_until) ELSE r.revoked END AS revoked FROM tokens t LEFT JOIN \
             revoked_tokens r ON r.jti = t.jti ",
            $rest
        )
    };
}

/// Notes a token down; its `last_used` and `revoked` are not looked at.
pub async fn add(exec: Exec<'_>, token: &TokenRow) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        sqlx::query(
            "INSERT INTO tokens (jti, kid, subject, label, grants, created, expires, created_by, \
             last_used) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL)",
        )
        .bind(&token.jti)
        .bind(&token.kid)
        .bind(&token.subject)
        .bind(&token.label)
        .bind(&token.grants)
        .bind(token.created)
        .bind(token.expires)
        .bind(&token.created_by)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// The token with this id.
pub async fn lookup(exec: Exec<'_>, jti: &str) -> Result<Option<TokenRow>, DbError> {
    Ok(on_either!(exec, |conn| {
        sqlx::query_as(select!("WHERE t.jti = $1")).bind(jti).fetch_optional(conn).await?
    }))
}

/// Whether any token was issued for a subject.
pub async fn has_subject(exec: Exec<'_>, subject: &str) -> Result<bool, DbError> {
    let found: Option<String> = on_either!(exec, |conn| {
        sqlx::query_scalar("SELECT jti FROM tokens WHERE subject = $1 LIMIT 1")
            .bind(subject)
            .fetch_optional(conn)
            .await?
    });
    Ok(found.is_some())
}

pub(super) const PAGE: &str =
    select!("WHERE (t.created, t.jti) < ($1, $2) ORDER BY t.created DESC, t.jti DESC LIMIT $3");

/// Where a page of tokens goes on: behind the one that was issued then and has that id.
pub type TokenPlace<'a> = (i64, &'a str);

/// Up to `limit` tokens, newest first, after a place.
pub async fn page(
    exec: Exec<'_>,
    after: TokenPlace<'_>,
    limit: u32,
) -> Result<Vec<TokenRow>, DbError> {
    Ok(on_either!(exec, |conn| {
        sqlx::query_as(PAGE)
            .bind(after.0)
            .bind(after.1)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?
    }))
}

/// How many tokens are valid at the time `now` among those of a subject (any, where there is none)
/// that were issued until a time.
pub async fn count_valid(
    exec: Exec<'_>,
    subject: Option<&str>,
    issued_until: i64,
    now: i64,
) -> Result<u64, DbError> {
    let count: i64 = on_either!(exec, |conn| {
        sqlx::query_scalar(
            "SELECT count(*) FROM tokens t WHERE ($1 = '' OR t.subject = $1) AND t.created <= $2 \
             AND t.expires > $3 AND NOT EXISTS (SELECT 1 FROM revoked_tokens r WHERE r.jti = t.jti \
             AND r.revoked <= $3) AND NOT EXISTS (SELECT 1 FROM revoked_subjects s WHERE \
             (s.subject = t.subject OR s.subject = '') AND t.created <= s.issued_until)",
        )
        .bind(subject.unwrap_or(""))
        .bind(issued_until)
        .bind(now)
        .fetch_one(conn)
        .await?
    });
    super::convert::number("count of tokens", count)
}

/// Notes when tokens were used last.
pub async fn used(mut exec: Exec<'_>, uses: &[(String, i64)]) -> Result<(), DbError> {
    for (jti, at) in uses {
        on_either!(exec.again(), |conn| {
            sqlx::query(
                "UPDATE tokens SET last_used = $2 WHERE jti = $1 AND (last_used IS NULL OR \
                last_used < $2)",
            )
            .bind(jti)
            .bind(at)
            .execute(conn)
            .await?;
        });
    }
    Ok(())
}
