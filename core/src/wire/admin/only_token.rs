//! The one token that a subject has, for commands that take a subject in the place of an id.

use super::{TokenInfo, TokenList};

/// A subject that does not name one token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOneToken {
    /// It has none that is valid.
    #[error("no valid token of the subject `{0}` was issued here; `token list` shows all")]
    None(String),
    /// It has several.
    #[error(
        "the subject `{subject}` has {} valid tokens ({}); name the one that is meant by its id, \
         `token show ID` shows each",
        .ids.len(), .ids.join(", ")
    )]
    Several {
        /// The subject.
        subject: String,
        /// Their ids, the newest first.
        ids: Vec<String>,
    },
}

impl TokenList {
    /// The only token of `subject` that is valid at the time `now`. One that is to be refused from
    /// a later time on, such as one that was rotated, does not count.
    ///
    /// # Errors
    /// [`NotOneToken`].
    pub fn only_valid_of(&self, subject: &str, now: i64) -> Result<&TokenInfo, NotOneToken> {
        let is_valid = |token: &&TokenInfo| {
            token.subject == subject && token.revoked.is_none() && token.expires > now
        };
        let valid: Vec<&TokenInfo> = self.tokens.iter().filter(is_valid).collect();
        match valid[..] {
            [only] => Ok(only),
            [] => Err(NotOneToken::None(subject.to_owned())),
            _ => Err(NotOneToken::Several {
                subject: subject.to_owned(),
                ids: valid.iter().map(|token| token.id.clone()).collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: &str, subject: &str, expires: i64, revoked: Option<i64>) -> TokenInfo {
        TokenInfo {
            id: id.to_owned(),
            subject: subject.to_owned(),
            label: String::new(),
            grants: super::super::TokenGrants::default(),
            key_id: String::new(),
            created: 1,
            created_by: String::new(),
            expires,
            last_used: None,
            revoked,
        }
    }

    #[test]
    fn only_tokens_that_stay_valid_count() {
        let tokens = vec![
            token("1", "root", 100, None),
            token("2", "ci", 100, None),
            token("3", "ci", 100, Some(60)),
            token("4", "ci", 50, None),
            token("5", "two", 100, None),
            token("6", "two", 100, None),
        ];
        let list = TokenList { tokens, next: None };
        assert_eq!(list.only_valid_of("ci", 50).unwrap().id, "2");
        assert!(matches!(list.only_valid_of("ci", 100), Err(NotOneToken::None(_))));
        let several = list.only_valid_of("two", 50).unwrap_err().to_string();
        assert!(several.contains("2 valid tokens (5, 6)"), "{several}");
    }
}
