//! Pages of a cache of thousands of paths.

use super::*;
use crate::admin::{Actor, Admin, create_cache};
use crate::config::{DatabaseConfig, DatabaseUrl};
use crate::db::caches::DomainId;
use crate::db::nars::{NarId, NewNar};
use crate::db::paths::NewPath;
use crate::secrets::Sealer;
use snowbank_cli::Render as _;
use snowbank_core::hash::{FileHash, NarHash, Sha256};
use snowbank_core::manifest::ContentDigest;
use snowbank_core::wire::admin::{CacheSettings, CreateCache};

const PATHS: i64 = 4_500;

struct Place {
    _folder: tempfile::TempDir,
    db: Db,
    cache: Cache,
}

/// A path whose hash part and name say its number; every tenth is a `docs`.
fn path(number: i64) -> StorePath {
    let kind = if number % 10 == 0 { "docs" } else { "tool" };
    StorePath::from_base_name(&format!("{number:032}-{kind}-{}", number / 100)).unwrap()
}

/// A cache of [`PATHS`] paths; `references` gives those of each.
async fn place(references: impl Fn(i64) -> i64) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let config = DatabaseConfig::new(DatabaseUrl::Sqlite(folder.path().join("snowbank.db")));
    let db = Db::open(&config).await.unwrap();
    let sealer = Sealer::new(&[1; 32]);
    let admin = Admin {
        db: db.clone(),
        sealer,
        compression_level: 3,
        host: None,
        key_files: Vec::new(),
        legacy_keys: crate::auth::LegacyKeys::default(),
    };
    let settings = CacheSettings::default();
    let request = CreateCache {
        name: "main".to_owned(),
        isolated: false,
        store_dir: None,
        signing_key: None,
        settings,
    };
    create_cache(&admin, &Actor::host(), &request, 1).await.unwrap();
    let mut tx = db.commit_tx().await.unwrap();
    let cache = db::caches::lookup(tx.exec(), &"main".parse().unwrap()).await.unwrap().unwrap();
    let nar = NewNar {
        id: NarId(1),
        domain: DomainId::SHARED,
        nar_hash: NarHash::from(Sha256::of(b"nar")),
        nar_size: 7,
        file_hash: FileHash::from(Sha256::of(b"file")),
        file_size: 5,
        content_digest: ContentDigest::from_bytes([7; 32]),
        chunk_count: 0,
        segments: &[],
        cut_id: 0,
        created: 1,
    };
    db::nars::add(tx.exec(), &[nar]).await.unwrap();
    let all: Vec<(StorePath, Vec<StorePath>)> = (1..=PATHS)
        .map(|number| (path(number), (0..references(number)).map(path).collect()))
        .collect();
    let new = |(id, (store_path, references))| NewPath {
        id: PathId(id),
        cache: cache.id,
        store_path,
        nar: NarId(1),
        references,
        deriver: None,
        signatures: &[],
        ca: None,
        extra: "",
        pushed_by: "ci",
        created: 1,
        expires: None,
    };
    let rows: Vec<NewPath<'_>> = (1..)
        .zip(&all)
        .map(|(id, (path, references))| new((id, (path, references.as_slice()))))
        .collect();
    db::paths::add(tx.exec(), &rows).await.unwrap();
    tx.commit().await.unwrap();
    Place { _folder: folder, db, cache }
}

impl Place {
    async fn page(&self, pattern: Option<&str>, after: Option<String>) -> PathPage {
        let query = PathQueryText { pattern: pattern.map(str::to_owned), after };
        list_paths(&self.db, &self.cache, &query, false, 1).await.unwrap()
    }

    /// Numbers of all paths that fit, and of how many each page had.
    async fn all(&self, pattern: Option<&str>) -> (Vec<i64>, Vec<usize>) {
        let (mut numbers, mut pages, mut after) = (Vec::new(), Vec::new(), None);
        loop {
            let page = self.page(pattern, after).await;
            assert!(serde_json::to_vec(&page).unwrap().len() <= 1 << 20);
            pages.push(page.paths.len());
            numbers.extend(
                page.paths.iter().map(|path| path.store_path[11..43].parse::<i64>().unwrap()),
            );
            after = page.next;
            if after.is_none() {
                return (numbers, pages);
            }
        }
    }
}

#[tokio::test]
async fn a_page_is_bounded_in_what_it_shows_and_in_what_it_looks_at() {
    let place = place(|_| 1).await;
    let (numbers, pages) = place.all(None).await;
    assert_eq!(numbers, (1..=PATHS).collect::<Vec<_>>());
    assert_eq!(pages, [MAX_LISTED; 9]);

    let (none, pages) = place.all(Some("*nosuch*")).await;
    assert_eq!((none.len(), pages), (0, vec![0; 3]), "2,000 paths are looked at for each");
    assert_eq!(place.all(Some("nosuch*")).await.1, [0], "no name begins so, nor a hash part");
    assert_eq!(place.all(Some("no such*")).await.1, [0]);
    let (docs, pages) = place.all(Some("*docs*")).await;
    assert_eq!(docs, (1..=PATHS / 10).map(|number| number * 10).collect::<Vec<_>>());
    assert_eq!(pages, [200, 200, 50]);
}

#[tokio::test]
async fn a_pattern_with_a_beginning_looks_at_what_begins_so() {
    let place = place(|_| 0).await;
    let (docs, pages) = place.all(Some("docs-*")).await;
    assert_eq!((docs.len(), pages), (450, vec![450]), "one page, whatever else the cache holds");
    // By name: 7, and 70 to 79 hundred if there were so many.
    assert_eq!(
        place.all(Some("docs-7*")).await.0,
        (70..80).map(|number| number * 10).collect::<Vec<_>>()
    );
    assert_eq!(place.all(Some("docs-7")).await.0.len(), 10);
    assert_eq!(place.all(Some("docs-*4")).await.0.len(), 50, "4, 14, 24, 34 and 44");
    // A hash part, a part of one, and a base name.
    let of_hash = format!("{}*", &path(1_230).base_name()[..31]);
    assert_eq!(place.all(Some(&of_hash)).await.0, (1_230..1_240).collect::<Vec<_>>());
    assert_eq!(place.all(Some(&path(77).base_name())).await.0, [77]);
    assert_eq!(place.all(Some(&format!("{}-t*", path(77).hash()))).await.0, [77]);
    assert_eq!(place.all(Some(&format!("{}-x*", path(77).hash()))).await.0.len(), 0);
    assert_eq!(
        place.all(Some("0*")).await.0.len(),
        usize::try_from(PATHS).unwrap(),
        "every hash part begins so"
    );

    let strange = PathQueryText { pattern: None, after: Some("x.1".to_owned()) };
    let refused = list_paths(&place.db, &place.cache, &strange, false, 1).await.unwrap_err();
    assert!(matches!(refused, AdminError::BadSetting(_)), "{refused}");
}

#[tokio::test]
async fn long_rows_make_short_pages() {
    // The first twenty refer to 1,500 paths, 60 KB in JSON; the 21st to more than are shown.
    let place =
        place(|number| if number <= 20 { 1_500 } else { i64::from(number == 21) * 3_000 }).await;
    let first = place.page(None, None).await;
    assert!((5..20).contains(&first.paths.len()), "{}", first.paths.len());
    let (numbers, pages) = place.all(None).await;
    assert_eq!(numbers, (1..=PATHS).collect::<Vec<_>>());
    assert_eq!(pages[0], first.paths.len());
    let long = show_path(&place.db, &place.cache, &path(21).base_name(), true, 1).await.unwrap();
    assert_eq!((long.references.len(), long.more_references), (MAX_REFERENCES, 1_000));
    assert_eq!(long.pushed_by.as_deref(), Some("ci"));
    assert!(long.text().to_string().ends_with("and 1000 more"));
    let brief = show_path(&place.db, &place.cache, &path(30).base_name(), false, 1).await.unwrap();
    assert!(
        brief.pushed_by.is_none()
            && brief.text().to_string().contains("pushed      1970-01-01 00:00:01 UTC\n"),
        "{brief:?}"
    );
}

#[test]
fn a_path_is_named_in_any_usual_way() {
    let dir = StoreDir::default();
    let hash = "0123456789abcdfghijklmnpqrsvwxyz";
    for text in [
        hash.to_owned(),
        format!("{hash}-hello"),
        format!("/nix/store/{hash}-hello"),
        format!("/nix/store/{hash}-hello/bin/hello"),
    ] {
        assert_eq!(hash_part(&dir, &text).unwrap().to_string(), hash, "{text}");
    }
    for text in ["", "hello", "/nix/store/hello", "/tmp/x"] {
        assert!(hash_part(&dir, text).is_err(), "{text}");
    }
}
