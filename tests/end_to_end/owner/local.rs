//! SQLite and a folder: data folders that were copied, and files that were put back.

use std::{fs, path::Path, process::Command, time::Duration};

use snowbank_harness::{
    Api, Client, Gc, NixStore, Pusher, Random, Scratch, Server, oracle, oracle::Oracle, process,
    trees,
};

use super::{ADVICE, LIMIT, deposit, freeze_and_wake, objects, pauses, wait_red_because};

/// `cp -a` of a data folder without its objects.
fn copy_data(server: &Server, to: &Path) {
    let mut command: Command = process::command("cp", to.parent().unwrap());
    command.arg("-a").arg(server.data_dir()).arg(to);
    process::run(command).succeeds();
    fs::remove_dir_all(to.join("storage")).unwrap();
}

/// Settings of a copy that uses the server's storage.
fn storage_of(server: &Server) -> String {
    format!("[storage]\npath = \"{}\"\n", server.objects().display())
}

#[test]
fn a_copied_data_folder_takes_nothing_from_the_server_that_is_at_work() {
    let (mut server, scratch) = (Server::start(), Scratch::new("copy"));
    let (api, mut random) = (Api::root(&server), Random::fixed(901));
    let [before, since, after] =
        ["before", "since", "after"].map(|name| deposit(&mut random, name));
    let pusher = Pusher::new(&api, "main");
    let _ = pusher.push(&[&before]);
    let copy = scratch.join("copy");
    copy_data(&server, &copy);
    let _ = pusher.push(&[&since]);

    // Neither a command nor a server gets to it.
    let options = || Server::options().data_dir(&copy).config(&storage_of(&server));
    let args = Gc::without_grace().args();
    let gc = options().command(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!gc.status.success() && gc.stderr.contains(ADVICE), "{gc}");
    let refused = options().start_in_vain(LIMIT);
    assert!(!refused.status.success() && refused.stderr.contains(ADVICE), "{refused}");
    let _ = pusher.push(&[&after]);
    assert!(server.replicas()[0].is_ready());

    // The same once the original has been started anew, and after both stood still: the first to
    // start has it.
    server.restart();
    let options = || Server::options().data_dir(&copy).config(&storage_of(&server));
    let refused = options().start_in_vain(LIMIT);
    assert!(!refused.status.success() && refused.stderr.contains(ADVICE), "{refused}");
    assert!(server.terminate().success());
    let options = Server::options().data_dir(&copy).config(&storage_of(&server));
    let refused = options.start_in_vain(LIMIT);
    assert!(!refused.status.success() && refused.stderr.contains(ADVICE), "{refused}");
    server.start_again();
    let oracle = Oracle::main(&server);
    for path in [&before, &since, &after] {
        let _ = oracle.assert_whole(&path.store_path);
    }
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_data_folder_that_was_moved_or_copied_with_its_storage_works() {
    let (scratch, store) = (Scratch::new("pair"), NixStore::new());
    let data = scratch.join("data");
    let mut server = Server::options().data_dir(&data).start();
    let paths = trees::build_graph(&store, 4, 50, "pair");
    let _ = Client::of(&server, &store).push(&paths).success();
    let copy = scratch.join("copy");
    let mut command: Command = process::command("cp", scratch.path());
    command.arg("-a").arg(&data).arg(&copy);
    process::run(command).succeeds();
    let other = Server::options().data_dir(&copy).start();
    Oracle::main(&other).assert_mirrors(&store, &paths);
    oracle::assert_check_is_clean(&other);
    oracle::assert_check_is_clean(&server);

    assert!(server.terminate().success());
    let moved = scratch.join("moved");
    fs::rename(&data, &moved).unwrap();
    let server = Server::options().data_dir(&moved).start();
    Oracle::main(&server).assert_mirrors(&store, &paths);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn an_older_database_is_refused_until_it_is_told_that_it_counts() {
    let (mut server, scratch, store) = (Server::start(), Scratch::new("older"), NixStore::new());
    let client = Client::of(&server, &store);
    let before = trees::add_files(&store, "before", &[("a", b"a".to_vec())]);
    let _ = client.push(&[&before]).success();
    assert!(server.terminate().success());
    let (database, older) = (server.data_dir().join("snowbank.db"), scratch.join("older.db"));
    fs::copy(&database, &older).unwrap();
    server.start_again();
    let since = trees::add_noise(&store, &mut Random::fixed(907), "since", 2 << 20);
    let _ = client.push(&[&since]).success();
    assert!(server.terminate().success());

    fs::copy(&older, &database).unwrap();
    let refused = server.replicas()[0].start_in_vain(LIMIT);
    assert!(!refused.status.success() && refused.stderr.contains(ADVICE), "{refused}");
    for args in [&["gc", "--grace", "0s", "--yes"][..], &["repair", "--yes"], &["check"]] {
        let refused = server.command(args);
        assert!(
            !refused.status.success() && refused.stderr.contains(ADVICE),
            "{args:?}: {refused}"
        );
    }
    let told = server.command(&["restore", "--in-place"]).success();
    assert!(told.stdout.contains("epoch 2") && told.stdout.contains("snowbankd repair"), "{told}");
    server.command(&["repair", "--yes"]).succeeds();
    server.start_again();
    let push = client.push(&[&before, &since]).success();
    assert_eq!(
        (push.uploaded(), push.stats().chunks_sent),
        (1, 0),
        "what the older one did not know is in the packs"
    );
    server.command(&["gc", "--grace", "0s", "--yes"]).succeeds();
    Oracle::main(&server).assert_mirrors(&store, &[before, since]);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_frozen_server_that_wakes_up_does_nothing_more() {
    let (scratch, mut random) = (Scratch::new("frozen"), Random::fixed(911));
    let server = Server::options().env(snowbank_harness::collection::PAUSE, &pauses()).start();
    let copy = scratch.join("copy");
    let (mut other, mut kept) = (None, None);
    let woken = freeze_and_wake(&server, &mut random, || {
        copy_data(&server, &copy);
        let options = || Server::options().data_dir(&copy).config(&storage_of(&server));
        options().command(&["restore", "--in-place"]).succeeds();
        other = Some(options().start());
        kept = Some(objects(&server.objects()));
    });
    woken.assert_nothing_was_done();
    assert_eq!(objects(&server.objects()), kept.unwrap(), "no object went, and none came");
    let why = wait_red_because(&server, "taken over", Duration::from_secs(10));
    assert!(!why.contains(&server.objects().display().to_string()), "{why}");
    let (api, other) = (Api::root(&server), other.unwrap());
    let refused = Pusher::new(&api, "main").try_push(&[&deposit(&mut random, "refused")]);
    assert!(refused.is_err_and(|failed| failed.to_string().contains("taken over")));
    assert!(other.replicas()[0].is_ready());
    let _ = Pusher::new(&Api::root(&other), "main").push(&[&deposit(&mut random, "taken")]);
}

#[test]
fn a_server_that_is_killed_between_the_steps_of_a_link_starts_again() {
    let mut server = Server::start();
    assert!(server.terminate().success());
    for step in ["chain-before-marker", "chain-after-marker", "chain-before-marker"] {
        server.replicas()[0].kill_at(step);
        server.command(&["check"]).succeeds();
        server.start_again();
        server.kill9();
    }
    for step in ["chain-before-marker", "chain-after-marker"] {
        server.replicas()[0].kill_at(step);
        server.replicas()[0].kill_at(step);
    }
    server.start_again();
    oracle::assert_check_is_clean(&server);
}
