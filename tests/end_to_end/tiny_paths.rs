//! Thousands of tiny paths in one push: few requests, and time that grows with their number only.

use snowbank_harness::{Client, Nginx, NixStore, Server, count, oracle, oracle::Oracle, trees};

#[test]
fn thousands_of_tiny_paths_take_few_requests_and_linear_time() {
    let (server, store) = (Server::start(), NixStore::new());
    let witness = Nginx::before(&server, Some("0"));
    let client = Client::at(&witness.url(), &server.root_token(), &store);
    let many = count(1_000, 10_000);

    let tenth = client.push(&trees::add_tiny(&store, many / 10, "first")).success();
    let before = witness.requests().len();
    let paths = trees::add_tiny(&store, many, "tiny");
    let push = client.push(&paths).success();
    let requests = witness.requests().len() - before;

    eprintln!(
        "{} paths: {requests} requests, {:?}; a tenth: {:?}",
        many, push.output.elapsed, tenth.output.elapsed
    );
    assert_eq!(push.uploaded(), many);
    assert!(requests <= many / 4 + 50, "{requests} requests for {many} paths");
    let linear = tenth.output.elapsed * 10 * 2 + std::time::Duration::from_secs(5);
    assert!(
        push.output.elapsed < linear,
        "{:?} for {many}, {:?} for a tenth",
        push.output.elapsed,
        tenth.output.elapsed
    );

    let oracle = Oracle::main(&server);
    paths.iter().step_by(many / 100).for_each(|path| drop(oracle.assert_whole(path)));
    oracle::assert_check_is_clean(&server);
}
