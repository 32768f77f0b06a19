//! `migrate-database`: one database starts at every moment, also after a crash, and the other one
//! says where to.

use std::fs;

use snowbank_harness::{
    Client, NixStore, Replica, Scratch, Server, collection, oracle,
    oracle::Oracle,
    postgres::{PASSWORD, Postgres},
    trees,
};

use super::LIMIT;

/// The variable that says which database a server uses.
const DATABASE: &str = "SNOWBANKD_DATABASE_URL";

/// Runs `migrate-database` up to a step, and kills it there.
fn kill_at(replica: &Replica, args: &[&str], step: &str) {
    let mut running =
        replica.start_command(args, &[(collection::PAUSE, &format!("{step}:60000:1"))]);
    assert!(
        collection::comes_to(step, &mut running),
        "it did not come to {step}: {}",
        running.wait()
    );
    running.kill();
    let _ = running.wait();
}

#[test]
fn a_move_that_is_cut_off_anywhere_leaves_one_database_that_starts() {
    let (store, scratch, postgres) = (NixStore::new(), Scratch::new("moved"), Postgres::start());
    let mut server = Server::start();
    let paths = trees::build_graph(&store, 4, 50, "moved");
    let _ = Client::of(&server, &store).push(&paths).success();
    assert!(server.terminate().success());
    let (url, data) = (postgres.create_database("moved"), server.data_dir().to_path_buf());
    let file = scratch.join("database-url");
    fs::write(&file, &url).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let from = format!("sqlite:{}", data.join("snowbank.db").display());
    let there = ["migrate-database", "--from", &from, "--to-file", file.to_str().unwrap()];
    let back = ["migrate-database", "--from-file", file.to_str().unwrap(), "--to", &from];
    // The same data folder and storage, with the other database.
    let new = || Server::options().data_dir(&data).env(DATABASE, &url);
    let assert_old_refuses = |server: &Server, because: &str| {
        let refused = server.replicas()[0].start_in_vain(LIMIT);
        assert!(!refused.status.success() && refused.stderr.contains(because), "{refused}");
        assert!(!refused.said().contains(PASSWORD), "{refused}");
    };
    let assert_new_refuses = || {
        let refused = new().start_in_vain(LIMIT);
        assert!(
            !refused.status.success() && refused.stderr.contains("migrate-database"),
            "{refused}"
        );
    };
    let assert_new_starts = || {
        let mut server = new().start();
        Oracle::main(&server).assert_mirrors(&store, &paths);
        assert!(server.terminate().success());
    };

    // Before the storage changes hands the old one starts, and goes on.
    kill_at(&server.replicas()[0], &there, "migrate-before-marker");
    assert_new_refuses();
    server.start_again();
    Oracle::main(&server).assert_mirrors(&store, &paths);
    assert!(server.terminate().success());
    assert_new_refuses();

    // After it the new one.
    kill_at(&server.replicas()[0], &there, "migrate-after-marker");
    assert_old_refuses(&server, "taken over");
    assert_new_starts();
    server.command(&there).succeeds();
    assert_old_refuses(&server, "was moved to the PostgreSQL database `moved`");
    let gc = server.command(&["gc", "--grace", "0s", "--yes"]);
    assert!(
        !gc.status.success() && gc.stderr.contains("was moved to") && !gc.said().contains(PASSWORD),
        "{gc}"
    );
    assert_new_starts();

    // And back, cut off at the last step.
    kill_at(&server.replicas()[0], &back, "migrate-after-moved");
    let refused = new().start_in_vain(LIMIT);
    assert!(!refused.status.success() && refused.stderr.contains("was moved to"), "{refused}");
    server.start_again();
    let more = trees::add_files(&store, "more", &[("a", b"a".to_vec())]);
    let _ = Client::of(&server, &store).push(&[&more]).success();
    server.command(&["gc", "--grace", "0s", "--yes"]).succeeds();
    Oracle::main(&server).assert_mirrors(&store, &[paths.clone(), vec![more]].concat());
    oracle::assert_check_is_clean(&server);
}

#[test]
fn the_old_database_counts_again_when_that_is_said_by_force() {
    let (store, postgres) = (NixStore::new(), Postgres::start());
    let mut server = Server::start();
    let paths = trees::build_graph(&store, 3, 50, "lost");
    let _ = Client::of(&server, &store).push(&paths).success();
    assert!(server.terminate().success());
    let from = format!("sqlite:{}", server.data_dir().join("snowbank.db").display());
    server
        .command(&["migrate-database", "--from", &from, "--to", &postgres.create_database("lost")])
        .succeeds();
    drop(postgres);
    let refused = server.command(&["restore", "--in-place"]);
    assert!(!refused.status.success() && refused.stderr.contains("--force"), "{refused}");
    server.command(&["restore", "--in-place", "--force", "--yes"]).succeeds();
    server.command(&["repair", "--yes"]).succeeds();
    server.start_again();
    Oracle::main(&server).assert_mirrors(&store, &paths);
    oracle::assert_check_is_clean(&server);
}
