//! Messages about tokens.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::SecretText;
use crate::units::Seconds;

/// What a token allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenGrants {
    /// Permissions by pattern of cache names.
    #[serde(default)]
    pub caches: BTreeMap<String, Vec<String>>,
    /// Whether it may administrate the server.
    #[serde(default)]
    pub admin: bool,
}

/// `PATTERN:PERMISSION+PERMISSION …`, as the audit log has it.
impl fmt::Display for TokenGrants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = self
            .caches
            .iter()
            .map(|(pattern, permissions)| format!("{pattern}:{}", permissions.join("+")))
            .collect();
        if self.admin {
            words.push("admin".to_owned());
        }
        f.write_str(&words.join(" "))
    }
}

/// Body of `POST /api/v1/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateToken {
    /// Whom or what it is for.
    pub subject: String,
    /// A note for people.
    #[serde(default)]
    pub label: String,
    /// What it allows.
    #[serde(flatten)]
    pub grants: TokenGrants,
    /// For how long.
    pub expires: Seconds,
}

/// Answer to what makes a token: the only time that it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedToken {
    /// The token.
    pub token: SecretText,
    /// What is kept of it.
    pub info: TokenInfo,
}

/// What is kept of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Its id, by which it can be revoked.
    pub id: String,
    /// Whom or what it is for.
    pub subject: String,
    /// A note for people.
    pub label: String,
    /// What it allows.
    #[serde(flatten)]
    pub grants: TokenGrants,
    /// The key that it is signed with.
    pub key_id: String,
    /// When it was issued, in seconds since 1970.
    pub created: i64,
    /// Who issued it.
    pub created_by: String,
    /// When its time is over.
    pub expires: i64,
    /// When it was used last, within a minute; absent where it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<i64>,
    /// From when on it is refused; may lie ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<i64>,
}

/// Answer to `GET /api/v1/tokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenList {
    /// Newest first.
    pub tokens: Vec<TokenInfo>,
    /// What to ask for as `after` to get the rest; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Body of `POST /api/v1/tokens/revoke`. At least one of the fields says something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RevokeTokens {
    /// These.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// All of this subject that were issued until now, or until `before`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// All that were issued before this moment, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Also ids and a subject that the server issued no token for, such as those of an identity
    /// provider's tokens.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// Answer to `POST /api/v1/tokens/revoke`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedTokens {
    /// How many tokens that this server issued, and that were valid until now, it concerns.
    pub tokens: u64,
    /// Within how many seconds every server refuses them.
    pub within_seconds: u64,
}

/// Body of `POST /api/v1/tokens/{id}/rotate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateToken {
    /// For how long the old one stays valid.
    pub grace: Seconds,
    /// For how long the new one is valid; as long as the old one was made for where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Seconds>,
}
