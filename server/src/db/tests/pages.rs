//! Pages of listings: each is a range of an index in its order, and they follow one another without
//! a gap.

use std::fmt::Write as _;

use snowbank_core::pin_name::PinName;
use snowbank_core::store_path::{StorePath, StorePathHash};
use sqlx::{AssertSqlSafe, Row as _};

use super::{FreshDatabase, add_cache, nar};
use crate::db::caches::{Cache, DomainId};
use crate::db::nars::NarId;
use crate::db::path_pages::PathKey;
use crate::db::paths::{NewPath, PathId};
use crate::db::pin_pages::PinsOfPath;
use crate::db::pins::{Generation, Pin};
use crate::db::{self, Exec, Tx};

const PATHS: i64 = 3_000;

/// A number as a hash part.
fn hash(number: i64) -> StorePathHash {
    StorePathHash::from_chars(format!("{number:032}").as_bytes()).unwrap()
}

/// Paths of two caches in turn; a hundred neighbours have one name.
async fn with_paths(tx: &mut Tx) -> [Cache; 2] {
    let caches = [
        add_cache(tx, "main", DomainId::SHARED).await,
        add_cache(tx, "other", DomainId::SHARED).await,
    ];
    db::nars::add(tx.exec(), &[nar(1, DomainId::SHARED, &[])]).await.unwrap();
    let path =
        |id: i64| StorePath::from_base_name(&format!("{}-name-{:03}", hash(id), id / 100)).unwrap();
    let paths: Vec<StorePath> = (1..=PATHS).map(path).collect();
    let new = |(id, store_path)| NewPath {
        id: PathId(id),
        cache: caches[usize::from(id % 2 == 0)].id,
        store_path,
        nar: NarId(1),
        references: &[],
        deriver: None,
        signatures: &[],
        ca: None,
        extra: "",
        pushed_by: "ci",
        created: 1_000,
        expires: None,
    };
    db::paths::add(tx.exec(), &(1..).zip(&paths).map(new).collect::<Vec<_>>()).await.unwrap();
    caches
}

enum Value {
    Int(i64),
    Text(&'static str),
}
use Value::{Int, Text};

/// How the engine goes about a statement, a line for each step.
async fn plan(exec: Exec<'_>, sql: &str, values: &[Value]) -> String {
    let mut plan = String::new();
    macro_rules! explain {
        ($conn:ident, $explain:literal, $column:literal) => {{
            let mut query = sqlx::query(AssertSqlSafe(format!("{} {sql}", $explain)));
            for value in values {
                query = match value {
                    Int(number) => query.bind(*number),
                    Text(text) => query.bind(*text),
                };
            }
            for row in query.fetch_all($conn).await.unwrap() {
                writeln!(plan, "{}", row.get::<String, _>($column)).unwrap();
            }
        }};
    }
    match exec {
        Exec::Sqlite(conn) => explain!(conn, "EXPLAIN QUERY PLAN", 3),
        Exec::Postgres(conn) => explain!(conn, "EXPLAIN", 0),
    }
    plan
}

pub(super) async fn a_page_is_a_range_of_an_index(fresh: FreshDatabase) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    with_paths(&mut tx).await;
    for table in
        ["paths", "pins", "pin_generations", "tokens", "audit", "withdrawn_paths", "caches"]
    {
        let sql = AssertSqlSafe(format!("ANALYZE {table}"));
        if let Exec::Postgres(conn) = tx.exec() {
            sqlx::query(sql).execute(conn).await.unwrap();
        }
    }
    tx.commit().await.unwrap();
    let mut conn = fresh.db.reader().await.unwrap();
    let is_sqlite = matches!(conn.exec(), Exec::Sqlite(_));
    let statements =
        if is_sqlite { on_sqlite() } else { on_postgresql() }.into_iter().chain(on_both());
    for (sql, values, index) in statements {
        let plan = plan(conn.exec(), &sql, &values).await;
        println!("{sql}\n{plan}");
        for word in ["Sort", "Seq Scan", "TEMP B-TREE"] {
            assert!(!plan.contains(word), "{word} in the plan of {sql}:\n{plan}");
        }
        // SQLite searches a table by an index, and scans it without one; the keys that a table has
        // by itself have other names.
        assert!(
            plan.contains(index) || (is_sqlite && plan.contains("SEARCH")),
            "not by {index}: {sql}:\n{plan}"
        );
        let is_scan = |line: &&str| line.starts_with("SCAN") && !line.contains("part0");
        let scans: Vec<&str> = plan.lines().filter(is_scan).collect();
        assert!(scans.is_empty(), "{scans:?} in the plan of {sql}:\n{plan}");
    }
}

/// A statement, what it is asked with, and the index that it goes by.
type Statement = (String, Vec<Value>, &'static str);

/// Below every hash part.
const HASH: &str = "0000000000000000000000000000000";

fn on_sqlite() -> Vec<Statement> {
    let named = |end| vec![Int(1), Text("name-01"), end, Int(100)];
    vec![
        (db::path_pages::IN_ORDER.to_owned(), vec![Int(1), Int(5), Int(100)], "paths_in_order"),
        (
            db::path_pages::OF_NAME.to_owned(),
            named(Int(5)),
            "paths_by_name (cache_id=? AND name=? AND id>?)",
        ),
        (db::path_pages::BEHIND_NAME.to_owned(), named(Text("name-02")), "paths_by_name"),
    ]
}

fn on_postgresql() -> Vec<Statement> {
    let named = vec![Int(1), Text("name-01"), Int(5), Text("name-02"), Int(100)];
    vec![
        (
            db::path_pages::IN_ORDER_ON_POSTGRES.to_owned(),
            vec![Int(1), Int(5), Int(100)],
            "paths_in_order",
        ),
        (db::path_pages::BY_NAME_ON_POSTGRES.to_owned(), named, "paths_by_name"),
    ]
}

fn on_both() -> Vec<Statement> {
    let in_audit =
        vec![Int(100), Text(""), Text(""), Text("push.*"), Int(1), Int(100), Int(1), Text("")];
    vec![
        (
            db::path_pages::BY_HASH.to_owned(),
            vec![Int(1), Text(HASH), Text("1"), Int(100)],
            "paths_cache_id_hash_key",
        ),
        (db::pin_pages::PAGE.to_owned(), vec![Int(1), Text("a"), Int(100)], "pins_pkey"),
        (
            db::pin_pages::of_path(1, 0),
            vec![Int(1), Text(HASH), Int(100)],
            "pin_generations_by_path",
        ),
        (
            db::pins::GENERATIONS.to_owned(),
            vec![Int(1), Text("a"), Int(100), Int(100)],
            "pin_generations_pkey",
        ),
        (
            db::damage::WITHDRAWN_OF.to_owned(),
            vec![Int(1), Text(HASH), Int(100)],
            "withdrawn_paths_pkey",
        ),
        (db::tokens::PAGE.to_owned(), vec![Int(1_000), Text("a"), Int(100)], "tokens_in_order"),
        (db::audit::PAGE.to_owned(), in_audit, "audit_pkey"),
        (db::caches::PAGE.to_owned(), vec![Text("a"), Int(100)], "caches_name_key"),
    ]
}

pub(super) async fn pages_follow_one_another(fresh: FreshDatabase) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    let [main, _] = with_paths(&mut tx).await;
    tx.commit().await.unwrap();
    let mut conn = fresh.db.reader().await.unwrap();
    let ids = |keys: &[PathKey]| keys.iter().map(|key| key.id.0).collect::<Vec<_>>();
    let odd = |range: std::ops::Range<i64>| range.filter(|id| id % 2 == 1).collect::<Vec<_>>();

    let first = db::path_pages::in_order(conn.exec(), main.id, PathId(0), 10).await.unwrap();
    assert_eq!(ids(&first), odd(0..20));
    let next = db::path_pages::in_order(conn.exec(), main.id, first[9].id, 10).await.unwrap();
    assert_eq!(ids(&next), odd(20..40));
    assert_eq!(next[0].bytes, 2, "the bytes of `ci`");

    // Fifty of one name, and on into the next one, up to the end of the range.
    let place = ("name-007", PathId(751));
    let named =
        db::path_pages::by_name(conn.exec(), main.id, place, "name-009", 1_000).await.unwrap();
    assert_eq!(ids(&named), odd(752..900));
    let few = db::path_pages::by_name(conn.exec(), main.id, place, "name-009", 3).await.unwrap();
    assert_eq!(ids(&few), [753, 755, 757]);

    let (after, end) = (hash(100).to_string(), hash(121).to_string());
    let hashed = db::path_pages::by_hash(conn.exec(), main.id, &after, &end, 100).await.unwrap();
    assert_eq!(ids(&hashed), odd(101..121));
    let records = db::path_pages::records(conn.exec(), &[PathId(5), PathId(2_999), PathId(9_999)])
        .await
        .unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[&PathId(5)].store_path.hash(), hash(5));

    assert_eq!(db::caches::page(conn.exec(), "main", 10).await.unwrap()[0].name.as_str(), "other");
    let asked = ["main", "absent", "zzz", "other"].map(|name| name.parse().unwrap());
    let mut public = db::caches::publicity(conn.exec(), &asked).await.unwrap();
    public.sort();
    public.dedup();
    assert_eq!(public, [(asked[0].clone(), true), (asked[3].clone(), true)]);
    for name in &asked {
        assert_eq!(
            db::caches::publicity(conn.exec(), std::slice::from_ref(name)).await.unwrap().len(),
            1,
            "{name}"
        );
    }
}

pub(super) async fn the_pins_of_paths_are_bounded(fresh: FreshDatabase) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    let [main, other] = with_paths(&mut tx).await;
    let generation = |number, id: i64| Generation {
        number,
        store_path: StorePath::from_base_name(&format!("{}-name-{:03}", hash(id), id / 100))
            .unwrap(),
        created: 1_000,
        created_by: "ci".to_owned(),
        present: true,
    };
    // Pin 1 stands for path 1, pin 2 stood for it twice, and so on; every third one is over.
    for pin in 1..=9_u64 {
        let name: PinName = format!("pin-{pin}").parse().unwrap();
        let expires = pin.is_multiple_of(3).then_some(2_000);
        let row = Pin { generation: pin, keep: 10, expires };
        db::pins::set(tx.exec(), main.id, &name, &row).await.unwrap();
        for number in 1..=pin {
            db::pins::add_generation(tx.exec(), main.id, &name, &generation(number, 1))
                .await
                .unwrap();
        }
    }
    let single: PinName = "single".parse().unwrap();
    db::pins::set(tx.exec(), main.id, &single, &Pin { generation: 1, keep: 1, expires: None })
        .await
        .unwrap();
    db::pins::add_generation(tx.exec(), main.id, &single, &generation(1, 3)).await.unwrap();
    tx.commit().await.unwrap();

    let mut conn = fresh.db.reader().await.unwrap();
    let hashes: Vec<StorePathHash> = (1..=100).map(hash).collect();
    let of = async |conn: &mut db::Conn, rows| {
        db::pin_pages::of_paths(conn.exec(), main.id, &hashes, 2_000, rows).await.unwrap()
    };
    let all = of(&mut conn, 1_000).await;
    let names = |numbers: &[u64]| numbers.iter().map(|number| format!("pin-{number}")).collect();
    assert_eq!(all.len(), 2);
    assert_eq!(all[&hash(1)], PinsOfPath { names: names(&[1, 2, 4, 5, 7, 8]), has_more: false });
    assert_eq!(all[&hash(3)], PinsOfPath { names: ["single".to_owned()].into(), has_more: false });
    // The first four rows are of the pins 1, 2, 2 and 3.
    let few = of(&mut conn, 4).await;
    assert_eq!(few[&hash(1)], PinsOfPath { names: names(&[1, 2]), has_more: true });
    assert!(!few[&hash(3)].has_more);
    assert!(
        db::pin_pages::of_paths(conn.exec(), other.id, &hashes, 0, 9).await.unwrap().is_empty()
    );

    let page = db::pin_pages::page(conn.exec(), main.id, "pin-2", 2_000, 3).await.unwrap();
    let shown: Vec<&str> = page.pins.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(
        (shown, page.next.unwrap().as_str()),
        (vec!["pin-4", "pin-5"], "pin-5"),
        "pin-3 was looked at as well"
    );
    assert_eq!(db::pins::count(conn.exec(), main.id, 100).await.unwrap(), 10);
    assert_eq!(db::pins::count(conn.exec(), main.id, 4).await.unwrap(), 4);
}
