//! The one token that a subject has, for commands that take a subject in the place of an id.

use snowbank_core::wire::admin::{TokenInfo, TokenList};

/// A subject that does not name one token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
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

/// The only token of `subject` that is valid at the time `now`. A token that is refused from a
/// later time on, such as one that was rotated, does not count.
///
/// # Errors
/// [`SubjectError`] when there is no such token, or more than one.
pub fn only_valid_token<'t>(
    list: &'t TokenList,
    subject: &str,
    now: i64,
) -> Result<&'t TokenInfo, SubjectError> {
    let is_valid = |token: &&TokenInfo| {
        token.subject == subject && token.revoked.is_none() && token.expires > now
    };
    let valid: Vec<&TokenInfo> = list.tokens.iter().filter(is_valid).collect();
    match valid[..] {
        [only] => Ok(only),
        [] => Err(SubjectError::None(subject.to_owned())),
        _ => Err(SubjectError::Several {
            subject: subject.to_owned(),
            ids: valid.iter().map(|token| token.id.clone()).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use snowbank_core::wire::admin::TokenGrants;

    use super::*;

    fn token(id: &str, subject: &str, expires: i64, revoked: Option<i64>) -> TokenInfo {
        TokenInfo {
            id: id.to_owned(),
            subject: subject.to_owned(),
            label: String::new(),
            grants: TokenGrants::default(),
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
        assert_eq!(only_valid_token(&list, "ci", 50).unwrap().id, "2");
        assert!(matches!(only_valid_token(&list, "ci", 100), Err(SubjectError::None(_))));
        let several = only_valid_token(&list, "two", 50).unwrap_err().to_string();
        assert!(several.contains("2 valid tokens (5, 6)"), "{several}");
    }
}
