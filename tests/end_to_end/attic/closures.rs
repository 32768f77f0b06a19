//! Closures of a real Nix store, as attic's client uploads them, and what comes after them.

use std::sync::atomic::{AtomicUsize, Ordering};

use snowbank_harness::{
    Api, Client, NixStore, Random, Server, craft::Deposit, oracle, oracle::Oracle, trees,
};

use super::{ALL, api, missing, server, upload_deposit};

/// A path of a store as attic's client describes it.
fn deposit(store: &NixStore, path: &str) -> Deposit {
    let mut deposit = Deposit::at(path.to_owned(), store.dump(path));
    let references = store.run("nix-store", &["--query", "--references", path]).success().stdout;
    let base_name = |line: &str| line.rsplit('/').next().unwrap_or_default().to_owned();
    deposit.references = references.lines().map(base_name).collect();
    deposit
}

/// Uploads all of them, five at a time.
fn upload_all(server: &Server, deposits: &[Deposit]) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                let api = api(server, &[("main", &ALL)]);
                while let Some(deposit) = deposits.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let _ = upload_deposit(&api, deposit);
                }
            });
        }
    });
}

#[test]
fn a_closure_comes_in_any_order_and_is_substituted() {
    let ((server, _scratch), store) = (server(), NixStore::new());
    let mut random = Random::announced("the order of attic's uploads");
    let closure = store.closure(&trees::build_graph(&store, 12, 300, "attic"));
    let mut deposits: Vec<Deposit> = closure.iter().map(|path| deposit(&store, path)).collect();
    for at in (1..deposits.len()).rev() {
        let other = usize::try_from(random.below(at as u64 + 1)).unwrap();
        deposits.swap(at, other);
    }
    let own = api(&server, &[("main", &ALL)]);
    assert_eq!(missing(&own, &deposits.iter().collect::<Vec<_>>()).len(), closure.len());
    upload_all(&server, &deposits);
    assert!(missing(&own, &deposits.iter().collect::<Vec<_>>()).is_empty());
    let oracle = Oracle::main(&server);
    oracle.assert_mirrors(&store, &closure);
    let other = NixStore::new();
    let url = format!("{}/main", server.url());
    let _ = other.substitute(&url, &oracle.public_key(), &closure).success();
    other.verify();
    assert_eq!(other.hashes(&closure), store.hashes(&closure));

    // By the other doors, to this cache and to another: no chunk is new.
    let stored = server.stored_bytes();
    let pushed = Client::of(&server, &store).push(&closure).success();
    assert_eq!((pushed.uploaded(), pushed.present()), (0, closure.len()));
    let _ = server.command(&["cache", "create", "other"]).success();
    let pushed = Client::of(&server, &store).push_to("other", &closure, &["--no-logs"]).success();
    assert_eq!(pushed.stats().chunks_new, 0);
    for deposit in &deposits {
        let answer = upload_deposit(&own, deposit);
        assert_eq!(answer["kind"], "Deduplicated", "{answer}");
        assert_eq!(answer["frac_deduplicated"], 1.0, "{answer}");
    }
    assert_eq!(server.stored_bytes(), stored, "chunks were stored again");
    Oracle::new(&server, "other", Api::root(&server)).assert_mirrors(&store, &closure);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_path_that_waits_is_uploaded_and_missing_until_its_references_come() {
    let (server, _scratch) = server();
    let (own, oracle) = (api(&server, &[("main", &ALL)]), Oracle::main(&server));
    let mut random = Random::fixed(3);
    let make = |random: &mut Random, name: &str| {
        let contents = random.bytes(5_000);
        Deposit::of(random, name, &snowbank_harness::craft::Node::File(contents))
    };
    let a = make(&mut random, "a");
    let b = make(&mut random, "b").referring_to(&[&a]);
    let c = make(&mut random, "c").referring_to(&[&b, &a]);
    for waiting in [&c, &b] {
        assert_eq!(upload_deposit(&own, waiting)["kind"], "Uploaded");
        assert!(!oracle.visible(&waiting.store_path));
    }
    assert_eq!(missing(&own, &[&a, &b, &c]).len(), 3);
    let _ = upload_deposit(&own, &a);
    assert!(missing(&own, &[&a, &b, &c]).is_empty());
    for path in [&a, &b, &c] {
        let _ = oracle.assert_whole(&path.store_path);
    }
    oracle::assert_check_is_clean(&server);
}
