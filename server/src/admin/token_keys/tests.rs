//! Which key signs, and which may go.

use super::*;
use crate::config::{DatabaseConfig, DatabaseUrl};

const NOW: i64 = 1_800_000_000;

struct Place {
    _folder: tempfile::TempDir,
    db: Db,
    sealer: Sealer,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = DatabaseConfig::new(DatabaseUrl::Sqlite(folder.path().join("snowbank.db")));
        Self {
            db: Db::open(&config).await.unwrap(),
            sealer: Sealer::new(&[1; 32]),
            _folder: folder,
        }
    }

    async fn add(&self, kid: &str, now: i64) -> Result<(), TokenKeyError> {
        add(&self.db, &self.sealer, &[], &key(kid), now).await
    }

    async fn end(&self, kid: &str, how: End) -> Result<(), TokenKeyError> {
        end(&self.db, &self.sealer, &[], kid, how, NOW).await
    }

    async fn signer(&self, files: &[TokenKey]) -> Option<String> {
        let mut conn = self.db.reader().await.unwrap();
        signing_key(conn.exec(), &self.sealer, files).await.ok().map(|key| key.kid().to_owned())
    }
}

fn key(kid: &str) -> TokenKey {
    TokenKey::generate_for(TokenAlgorithm::EdDsa, Some(kid.to_owned())).unwrap()
}

#[tokio::test]
async fn the_key_that_was_added_last_signs_whatever_the_clock_says() {
    let place = Place::new().await;
    assert_eq!(place.signer(&[]).await, None);
    for (kid, now) in [("z", NOW), ("m", NOW), ("a", NOW - 1_000)] {
        place.add(kid, now).await.unwrap();
        assert_eq!(place.signer(&[]).await.as_deref(), Some(kid));
    }
    assert!(matches!(place.add("z", NOW).await, Err(TokenKeyError::Taken(_))));
    place.end("a", End::Retire).await.unwrap();
    assert_eq!(place.signer(&[key("file")]).await.as_deref(), Some("m"));
    assert!(
        matches!(place.add("a", NOW).await, Err(TokenKeyError::Taken(_))),
        "its id is not used again"
    );
    let all = list(&place.db, &place.sealer, &[key("file")], NOW).await.unwrap();
    let shown: Vec<_> =
        all.iter().map(|key| (key.kid.as_str(), key.retired.is_some(), key.signs_new)).collect();
    assert_eq!(
        shown,
        [("a", true, false), ("m", false, true), ("z", false, false), ("file", false, false)]
    );
}

#[tokio::test]
async fn a_key_in_a_file_signs_where_the_database_has_none() {
    let place = Place::new().await;
    let files = [key("file")];
    assert_eq!(place.signer(&files).await.as_deref(), Some("file"));
    place.add("own", NOW).await.unwrap();
    assert_eq!(place.signer(&files).await.as_deref(), Some("own"));
    let taken = add(&place.db, &place.sealer, &files, &key("file"), NOW).await;
    assert!(matches!(taken, Err(TokenKeyError::Taken(_))));
    let kept = end(&place.db, &place.sealer, &files, "file", End::Remove, NOW).await;
    assert!(matches!(kept, Err(TokenKeyError::InConfigFile(_))));
    end(&place.db, &place.sealer, &files, "own", End::Remove, NOW).await.unwrap();
    assert_eq!(place.signer(&files).await.as_deref(), Some("file"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_last_two_keys_one_stays_also_when_both_are_ended_at_once() {
    let place = Place::new().await;
    for kid in ["a", "b"] {
        place.add(kid, NOW).await.unwrap();
    }
    let (a, b) = tokio::join!(place.end("a", End::Retire), place.end("b", End::Remove));
    assert_ne!(a.is_ok(), b.is_ok(), "{a:?} {b:?}");
    let refused = a.err().or(b.err()).unwrap();
    assert!(matches!(refused, TokenKeyError::LastSigner(_)), "{refused}");
    assert!(place.signer(&[]).await.is_some());
    for (kid, how) in [("absent", End::Retire), ("absent", End::Remove)] {
        assert!(matches!(place.end(kid, how).await, Err(TokenKeyError::Absent(_))));
    }
}
