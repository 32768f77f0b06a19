use super::*;
use crate::auth::keys::Ring;
use crate::auth::revocations::Revocations;
use crate::auth::{Claims, Signer, TokenKey};
use serde::Serialize;

const SIX_HOURS: i64 = 6 * 3_600;

fn name(text: &str) -> CacheName {
    text.parse().unwrap()
}

fn own_token(grants: &[(&str, &[Permission])], admin: bool) -> Token {
    let grant = |(pattern, permissions): &(&str, &[Permission])| {
        (pattern.parse().unwrap(), permissions.to_vec())
    };
    Token {
        sub: "ci".to_owned(),
        jti: "first".to_owned(),
        iat: 1_000,
        exp: 1_300,
        grants: Grants { caches: grants.iter().map(grant).collect(), admin },
        origin: Origin::Signer(Signer::Key { kid: "key".to_owned() }),
    }
}

/// The token as a server sees it that is sent the claims.
fn received(claims: SessionClaims) -> Token {
    let SessionClaims { sub, jti, iat, exp, push_session } = claims;
    let grants = push_session.grants();
    Token { sub, jti, iat, exp, grants, origin: Origin::Session(Box::new(push_session)) }
}

/// Every set of permissions.
fn all_sets() -> impl Iterator<Item = Vec<Permission>> {
    let has = |set: u32, place: usize| set & (1 << place) != 0;
    (0..1_u32 << Permission::ALL.len()).map(move |set| {
        let all = Permission::ALL.into_iter().enumerate();
        all.filter(|(place, _)| has(set, *place)).map(|(_, one)| one).collect()
    })
}

#[test]
fn a_session_has_what_a_push_needs_and_the_token_has() {
    use Permission::{Configure, Delete, Pull, Push};
    let token = own_token(&[("app-*", &[Push, Delete, Configure]), ("app-a", &[Pull])], true);
    let caches = [name("app-a"), name("app-b")];
    let claims = session_claims(&token, &caches, SIX_HOURS, "id".to_owned(), 1_200).unwrap();
    assert_eq!((claims.sub.as_str(), claims.iat, claims.exp), ("ci", 1_200, 1_200 + 3_600));
    let session = &claims.push_session;
    assert_eq!((session.id.as_str(), session.auth_time), ("id", 1_200));
    assert_eq!((session.first.jti.as_str(), session.first.iat), ("first", 1_000));
    let token = received(claims);
    assert!(!token.grants.admin);
    assert_eq!(token.permissions(&name("app-a")), [Pull, Push]);
    assert_eq!(token.permissions(&name("app-b")), [Push]);
    assert_eq!(token.permissions(&name("app-c")), []);
}

#[test]
fn a_token_that_may_not_push_gets_no_session() {
    let token = own_token(&[("*", &[Permission::Pull, Permission::Configure])], true);
    let error = session_claims(&token, &[name("main")], SIX_HOURS, "id".to_owned(), 1_200);
    assert!(
        matches!(error, Err(AuthError::Forbidden { permission: Permission::Push, .. })),
        "{error:?}"
    );
}

#[test]
fn what_is_signed_as_a_session_is_believed_only_as_far_as_a_push_goes() {
    let key = TokenKey::generate().unwrap();
    let all = Permission::ALL.to_vec();
    let first = FirstToken {
        jti: "first".to_owned(),
        iat: 1_000,
        signer: Signer::Key { kid: key.kid().to_owned() },
    };
    let session = Session {
        id: "id".to_owned(),
        auth_time: 1_000,
        caches: [(name("main"), all)].into(),
        first,
    };
    let claims = SessionClaims {
        sub: "ci".to_owned(),
        jti: "id".to_owned(),
        iat: 1_000,
        exp: 9_000_000,
        push_session: session,
    };
    let token = key.issue_session(&claims).unwrap();
    let ring = |max| Ring::new([&key], Revocations::default()).with_sessions(max);
    let verified = ring(Some(500)).verify(token.expose(), 1_499).unwrap();
    assert_eq!(verified.permissions(&name("main")), PERMISSIONS);
    assert!(!verified.grants.admin);
    // Whatever its own end is, the settings bound it.
    for (max, now) in [(Some(500), 1_500), (Some(10), 1_499), (None, 1_000)] {
        let refused = ring(max).verify(token.expose(), now);
        assert!(matches!(refused, Err(AuthError::SessionEnded)), "{max:?} {now}: {refused:?}");
    }
    // Without the key of its first token, it is as unknown as that.
    let other = TokenKey::generate().unwrap();
    let token = other.issue_session(&claims).unwrap();
    let ring = Ring::new([&other], Revocations::default()).with_sessions(Some(500));
    assert!(matches!(ring.verify(token.expose(), 1_100), Err(AuthError::UnknownKey)));
}

/// The claims of a token of both kinds.
#[derive(Serialize)]
struct Both {
    #[serde(flatten)]
    claims: SessionClaims,
    snowbank: Grants,
}

#[test]
fn no_kind_of_token_passes_for_the_other() {
    let own = own_token(&[("*", &[Permission::Push])], false);
    let claims = session_claims(&own, &[name("main")], SIX_HOURS, "id".to_owned(), 1_200).unwrap();
    // A server that knows no sessions finds no permissions in it.
    let value = serde_json::to_value(&claims).unwrap();
    assert!(serde_json::from_value::<Claims>(value).is_err());
    // A token that says both is neither.
    let key = TokenKey::generate().unwrap();
    let signer = Signer::Key { kid: key.kid().to_owned() };
    let mut claims = claims;
    claims.push_session.first.signer = signer;
    let ring = Ring::new([&key], Revocations::default()).with_sessions(Some(SIX_HOURS));
    assert!(ring.verify(key.sign(&claims).unwrap().expose(), 1_200).is_ok());
    let both = Both { claims, snowbank: Grants { admin: true, ..Grants::default() } };
    let refused = ring.verify(key.sign(&both).unwrap().expose(), 1_200);
    assert!(matches!(refused, Err(AuthError::Malformed)), "{refused:?}");
}

/// However a session is renewed, it never has more than its first token, never lasts longer than
/// the settings say, and keeps what it is revoked by.
#[test]
fn no_chain_of_renewals_gains_anything() {
    let main = name("main");
    for (permissions, max, step) in all_sets()
        .flat_map(|set| [(set.clone(), 40, 7), (set.clone(), SIX_HOURS, 1_799), (set, 1, 1)])
    {
        let mut token = own_token(&[("main", &permissions)], true);
        let (begun_at, mut renewals) = (1_010, 0);
        let mut now = begun_at;
        loop {
            let made =
                session_claims(&token, std::slice::from_ref(&main), max, renewals.to_string(), now);
            let claims = match made {
                Ok(claims) => claims,
                Err(AuthError::Forbidden { .. }) => {
                    assert!(!permissions.contains(&Permission::Push), "{permissions:?}");
                    break;
                }
                Err(AuthError::SessionEnded) => {
                    assert!(now >= begun_at + max, "{now} {max}");
                    break;
                }
                Err(other) => panic!("{other:?}"),
            };
            assert!(claims.exp > now && claims.exp <= begun_at + max, "{claims:?}");
            assert!(claims.exp - now <= MAX_LIFETIME_SECONDS, "{claims:?}");
            let session = &claims.push_session;
            assert_eq!((session.id.as_str(), session.auth_time), ("0", begun_at));
            assert_eq!((session.first.jti.as_str(), session.first.iat), ("first", 1_000));
            for rules in all_sets() {
                let caches = [("main".parse().unwrap(), rules.clone())].into();
                let within = session.grants_within(&Grants { caches, admin: true });
                assert!(!within.admin);
                for one in within.permissions(&main) {
                    assert!(permissions.contains(&one) && rules.contains(&one), "{one}");
                }
            }
            token = received(claims);
            assert!(!token.grants.admin);
            for one in token.permissions(&main) {
                assert!(permissions.contains(&one) && PERMISSIONS.contains(&one), "{one}");
            }
            assert_eq!(token.permissions(&name("other")), []);
            (now, renewals) = (now + step, renewals + 1);
        }
        assert!(renewals > 0 || !permissions.contains(&Permission::Push));
    }
}
