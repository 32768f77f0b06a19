//! Which tokens are refused although they are well signed and within their times.

use std::collections::HashMap;

use super::Token;
use crate::db::revocations::{RevokedSubject, RevokedToken};

/// Every revocation, as it was at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Revocations {
    from: HashMap<String, i64>,
    issued_until: HashMap<String, i64>,
}

impl Revocations {
    pub(super) fn new((tokens, subjects): (Vec<RevokedToken>, Vec<RevokedSubject>)) -> Self {
        Self {
            from: tokens.into_iter().map(|token| (token.jti, token.from)).collect(),
            issued_until: subjects
                .into_iter()
                .map(|rule| (rule.subject, rule.issued_until))
                .collect(),
        }
    }

    /// Whether the token is refused at the time `now`: by its id, its subject's rule, or the rule
    /// for everybody.
    pub(super) fn cover(&self, token: &Token, now: i64) -> bool {
        let issued_too_early =
            |subject: &str| self.issued_until.get(subject).is_some_and(|until| token.iat <= *until);
        self.from.get(&token.jti).is_some_and(|from| *from <= now)
            || issued_too_early(&token.sub)
            || issued_too_early("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Grants;

    fn token(sub: &str, iat: i64) -> Token {
        Token {
            sub: sub.to_owned(),
            jti: "id".to_owned(),
            iat,
            exp: 1000,
            grants: Grants::default(),
        }
    }

    #[test]
    fn a_token_is_refused_by_id_from_its_time_on() {
        let rule = RevokedToken { jti: "id".to_owned(), from: 50 };
        let revocations = Revocations::new((vec![rule], Vec::new()));
        assert!(!revocations.cover(&token("ci", 10), 49));
        assert!(revocations.cover(&token("ci", 10), 50));
    }

    #[test]
    fn tokens_are_refused_by_subject_and_by_the_time_of_their_issue() {
        let rule = |subject: &str, issued_until| RevokedSubject {
            subject: subject.to_owned(),
            issued_until,
        };
        let revocations = Revocations::new((Vec::new(), vec![rule("ci", 50), rule("", 20)]));
        for (sub, iat, refused) in
            [("ci", 50, true), ("ci", 51, false), ("me", 20, true), ("me", 21, false)]
        {
            assert_eq!(revocations.cover(&token(sub, iat), 100), refused, "{sub} {iat}");
        }
    }
}
