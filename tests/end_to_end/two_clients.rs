//! Two clients push the same closure at the same moment.

use snowbank_harness::{Client, NixStore, Random, Server, database, oracle, oracle::Oracle, trees};

#[test]
fn two_clients_at_once_both_succeed_and_one_copy_is_stored() {
    let store = NixStore::new();
    let mut closure = trees::build_graph(&store, 40, 64, "twice");
    closure.push(trees::add_noise(&store, &mut Random::fixed(11), "noise", 12 << 20));

    let alone = Server::start();
    let _ = Client::of(&alone, &store).push(&closure).success();

    let server = Server::start();
    let clients = [Client::of(&server, &store), Client::of(&server, &store)];
    let pushes = clients.each_ref().map(|client| client.start_push("main", &closure, &[]));
    for push in pushes.map(|push| push.wait().success()) {
        assert_eq!(push.receipts().len(), closure.len(), "{}", push.output);
    }

    assert_eq!(database::chunks(&server), database::chunks(&alone), "a chunk has one row");
    assert_eq!(database::paths(&server), i64::try_from(closure.len()).unwrap());
    let (together, single) = (server.stored_bytes(), alone.stored_bytes());
    // Replicas do not tell each other what is under way: a chunk that reaches two of them at once
    // may lie in two packs, and one of the two copies waits for compaction.
    let copies = if server.shared().is_some() { 2 } else { 1 };
    assert!(
        together < copies * single + single / 10,
        "{together} bytes are stored; one client's push takes {single}"
    );

    let oracle = Oracle::main(&server);
    oracle.assert_mirrors(&store, &closure);
    oracle::assert_check_is_clean(&server);
}
