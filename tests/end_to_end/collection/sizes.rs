//! The accounting: logical, stored and own size of each cache, exactly.

use snowbank_harness::{
    Api, Gc, Pusher, Random, Server, collection, craft::Deposit, database, oracle,
};

use super::path;

/// Bytes at rest of the chunks that these paths have, by the database.
fn stored(server: &Server, paths: &[&Deposit]) -> u64 {
    let names: Vec<String> = paths
        .iter()
        .flat_map(|path| &path.encoded)
        .map(|chunk| chunk.header.name.to_string())
        .collect();
    // A literal that both engines have for bytes is none, so the names are compared as text.
    let hex = if server.shared().is_some() { "encode(name, 'hex')" } else { "lower(hex(name))" };
    let list = names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let query = format!(
        "SELECT CAST(coalesce(sum(record_len), 0) AS BIGINT) FROM chunks WHERE domain_id = 1 AND \
         {hex} IN ({list})"
    );
    u64::try_from(database::number(server, &query)).unwrap()
}

fn logical(paths: &[&Deposit]) -> u64 {
    paths.iter().map(|path| path.nar.len() as u64).sum()
}

#[test]
fn sizes_of_caches_are_exact_and_add_up() {
    let (server, mut random) = (Server::start(), Random::fixed(701));
    let api = Api::root(&server);
    server.command(&["cache", "create", "other"]).succeeds();
    server.command(&["cache", "create", "vault", "--isolated"]).succeeds();
    let [own, shared, others, secret] =
        ["own", "shared", "others", "secret"].map(|name| path(&mut random, name, 700));
    // The same contents under another name: one NAR, counted once where it is stored.
    let twin = Deposit::at(format!("/nix/store/{}-twin", random.hash_chars()), own.nar.clone());
    let _ = Pusher::new(&api, "main").push(&[&own, &twin, &shared]);
    let _ = Pusher::new(&api, "other").push(&[&shared, &others]);
    let _ = Pusher::new(&api, "vault").push(&[&secret, &shared]);

    let report = Gc::new().dry_run().run(&api);
    let [in_own, in_shared, in_others] =
        [&own, &shared, &others].map(|path| stored(&server, &[path]));
    assert!(in_own > 700 << 10 && in_shared > 700 << 10, "{in_own} {in_shared}");
    assert_eq!(
        report.sizes("main"),
        [logical(&[&own, &twin, &shared]), in_own + in_shared, in_own]
    );
    assert_eq!(
        report.sizes("other"),
        [logical(&[&shared, &others]), in_others + in_shared, in_others]
    );
    let [in_vault, stored_there, own_there] = report.sizes("vault");
    assert_eq!(in_vault, logical(&[&secret, &shared]));
    assert_eq!(stored_there, own_there, "an isolated cache shares nothing");
    let all = u64::try_from(database::record_bytes(&server)).unwrap();
    assert_eq!(in_own + in_shared + in_others + stored_there, all);
    assert_eq!(report.stored_bytes(), server.stored_bytes(), "packs have a table besides");

    server
        .command(&["delete", "other", &shared.store_path, &others.store_path, "--yes"])
        .succeeds();
    let report = Gc::new().dry_run().run(&api);
    assert_eq!(report.sizes("other"), [0; 3]);
    assert_eq!(report.sizes("main")[1..], [in_own + in_shared; 2], "nobody else needs it any more");
    let _ = collection::collect_all(&api);
    let all = u64::try_from(database::record_bytes(&server)).unwrap();
    assert_eq!(in_own + in_shared + stored_there, all);
    oracle::assert_check_is_clean(&server);
}
