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
    /// for everybody. A token of a push session is refused by the session's id as well, and where
    /// the session's first token is: it counts as issued when that was, since a server that does
    /// not know a revocation yet may renew the session.
    pub(super) fn cover(&self, token: &Token, now: i64) -> bool {
        let session = token.session();
        let issued_at = session.map_or(token.iat, |session| session.first.iat);
        let issued_too_early =
            |subject: &str| self.issued_until.get(subject).is_some_and(|until| issued_at <= *until);
        let others = session.map(|session| [&session.id, &session.first.jti]);
        let mut ids = std::iter::once(&token.jti).chain(others.into_iter().flatten());
        ids.any(|id| self.from.get(id).is_some_and(|from| *from <= now))
            || issued_too_early(&token.sub)
            || issued_too_early("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{FirstToken, Grants, Origin, Session, Signer};

    fn token(sub: &str, iat: i64) -> Token {
        Token {
            sub: sub.to_owned(),
            jti: "id".to_owned(),
            iat,
            exp: 1000,
            grants: Grants::default(),
            origin: Origin::Signer(Signer::Key { kid: "key".to_owned() }),
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
    fn a_session_is_refused_with_its_first_token() {
        let signer = Signer::Key { kid: "key".to_owned() };
        let first = FirstToken { jti: "first".to_owned(), iat: 10, signer };
        let session = Session {
            id: "session".to_owned(),
            auth_time: 20,
            caches: std::collections::BTreeMap::new(),
            first,
        };
        let token = Token { origin: Origin::Session(Box::new(session)), ..token("ci", 90) };
        let by_id = |id: &str| RevokedToken { jti: id.to_owned(), from: 50 };
        let by_subject = |subject: &str, issued_until| RevokedSubject {
            subject: subject.to_owned(),
            issued_until,
        };
        for id in ["id", "session", "first"] {
            assert!(Revocations::new((vec![by_id(id)], Vec::new())).cover(&token, 50), "{id}");
        }
        assert!(!Revocations::new((vec![by_id("other")], Vec::new())).cover(&token, 50));
        // It was renewed after the revocation, by a server that did not know of it.
        for (subject, until, refused) in
            [("ci", 10, true), ("", 80, true), ("ci", 9, false), ("me", 80, false)]
        {
            let revocations = Revocations::new((Vec::new(), vec![by_subject(subject, until)]));
            assert_eq!(revocations.cover(&token, 100), refused, "{subject} {until}");
        }
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
