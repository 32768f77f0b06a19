//! One suite over both engines: each case is a function of a fresh database, run on SQLite as a
//! test of its own and on PostgreSQL, one database each, by a single test that starts one
//! throw-away server.
//!
//! Without PostgreSQL's programs that test fails, and says what to install.

mod damage;
mod index;
mod kept;
mod pages;
pub(crate) mod postgres;
mod replicas;
mod rows;
mod schema;
mod token_keys;
mod transactions;

use std::future::Future;
use std::pin::Pin;

use snowbank_core::cache_name::CacheName;
use snowbank_core::chunk::ChunkName;
use snowbank_core::hash::{FileHash, NarHash, Sha256};
use snowbank_core::manifest::ContentDigest;
use snowbank_core::pack::PackKey;
use snowbank_core::store_path::StoreDir;

use super::caches::{Cache, DomainId, NewCache};
use super::nars::{EncodedSegment, NarId, NewNar};
use super::packs::{NewPack, PackId};
use super::{Db, Tx};
use crate::config::{DatabaseConfig, DatabaseUrl};

/// What a case gets: a database of its own, and what opens it once more.
struct FreshDatabase {
    db: Db,
    config: DatabaseConfig,
}

impl FreshDatabase {
    async fn open(config: DatabaseConfig) -> Self {
        Self { db: Db::open(&config).await.unwrap(), config }
    }
}

type Case = fn(FreshDatabase) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Declares the suite: a SQLite test per case, and the list that the PostgreSQL test goes through.
macro_rules! suite {
    ($($module:ident::$case:ident,)+) => {
        const CASES: &[(&str, Case)] = &[$((stringify!($case), |fresh| Box::pin($module::$case(fresh))),)+];

        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let folder = tempfile::tempdir().unwrap();
                    let url = super::DatabaseUrl::Sqlite(folder.path().join("snowbank.db"));
                    let config = super::DatabaseConfig::new(url);
                    super::$module::$case(super::FreshDatabase::open(config).await).await;
                }
            )+
        }
    };
}

suite! {
    schema::opening_again_changes_nothing,
    schema::a_newer_schema_is_refused_when_it_says_so,
    schema::a_newer_schema_that_expands_is_worked_with,
    schema::a_command_does_not_upgrade,
    schema::settings_and_identity_are_made_once,
    transactions::what_is_dropped_leaves_nothing,
    transactions::a_cancelled_transaction_leaves_the_writer_usable,
    transactions::a_transaction_that_the_database_ended_leaves_the_writer_usable,
    transactions::a_failed_statement_is_never_committed_silently,
    transactions::destruction_waits_for_commits,
    transactions::another_process_can_write_beside,
    transactions::ids_are_given_out_once,
    rows::caches_are_found_by_name,
    rows::keys_and_revocations_are_kept,
    rows::a_pack_key_is_used_once,
    rows::nars_keep_their_segments_in_order,
    rows::paths_are_seen_by_their_cache_only,
    kept::uses_are_written_where_they_are_news,
    kept::what_is_pushed_again_is_kept_for_longer_and_never_shorter,
    kept::pins_keep_their_generations,
    pages::a_page_is_a_range_of_an_index,
    pages::pages_follow_one_another,
    pages::the_pins_of_paths_are_bounded,
    token_keys::a_retired_key_stays_in_the_list_and_verifies_nothing,
    token_keys::tokens_that_depend_on_a_key_are_counted,
    replicas::what_is_stored_is_summed_up,
    index::chunks_are_found_by_name_and_id,
    index::the_first_row_of_a_name_stays,
    index::domains_do_not_see_each_other,
    damage::a_retired_chunk_is_missing_by_name_and_comes_again,
    damage::paths_are_withdrawn_with_their_nar_and_cleared_by_a_push,
    damage::rows_are_set_right_only_as_they_were_found,
    damage::what_check_and_repair_ask_has_answers,
    index::lists_may_be_longer_than_the_engines_allow,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_holds_on_postgresql() {
    let server = postgres::Server::start();
    for (name, case) in CASES {
        println!("case {name}");
        let config = server.config(name).await;
        case(FreshDatabase::open(config).await).await;
    }
}

fn name(number: u64) -> ChunkName {
    ChunkName::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn nar_hash(number: u64) -> NarHash {
    NarHash::from(Sha256::of(&number.to_le_bytes()))
}

async fn add_cache(tx: &mut Tx, cache: &str, domain: DomainId) -> Cache {
    let new = NewCache {
        name: cache.parse::<CacheName>().unwrap(),
        domain,
        public: true,
        store_dir: StoreDir::default(),
        priority: 41,
        compression_level: 3,
        created: 1_000,
    };
    super::caches::add(tx.exec(), &new).await.unwrap()
}

fn pack(id: i64, cache: &Cache) -> NewPack {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&id.to_le_bytes());
    NewPack {
        id: PackId(id),
        domain: cache.domain,
        cache: cache.id,
        key: PackKey::from_bytes(key),
        bytes: 1 << 20,
        chunk_count: 3,
        created: 1_000,
    }
}

fn nar(id: i64, domain: DomainId, segments: &[EncodedSegment]) -> NewNar<'_> {
    NewNar {
        id: NarId(id),
        domain,
        nar_hash: nar_hash(id.unsigned_abs()),
        nar_size: 5_000_000_000,
        file_hash: FileHash::from(Sha256::of(b"file")),
        file_size: 1_000_000_000,
        content_digest: ContentDigest::from_bytes([7; 32]),
        chunk_count: 40_000,
        segments,
        cut_id: 3,
        created: 1_000,
    }
}
