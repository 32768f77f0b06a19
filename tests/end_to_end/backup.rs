//! Backups: a database is lost, or the whole host, and comes back; what a backup does not know is
//! found again.

use std::{fs, path::Path, process::Command, time::Duration};

use snowbank_harness::{
    Api, Client, NixStore, Output, Random, Scratch, Server, Site, database, oracle, oracle::Oracle,
    postgres::PASSWORD, process, trees,
};

/// `snowbankd --data-dir FOLDER ARGS`, where no server has run yet.
fn on_a_new_host(data_dir: &Path, args: &[&str]) -> Output {
    let home = data_dir.parent().unwrap();
    let mut command = process::command(process::binary("snowbankd"), home);
    command.arg("--data-dir").arg(data_dir).args(args);
    process::run(command)
}

fn lose_the_database(server: &mut Server) {
    server.kill9();
    // The log beside it stays, as it does where a person deletes one file.
    fs::remove_file(server.data_dir().join("snowbank.db")).unwrap();
}

#[test]
fn a_backup_is_made_beside_a_server_at_work_and_restored_where_the_database_was() {
    let (mut server, store, scratch) = (Server::start(), NixStore::new(), Scratch::new("backup"));
    let client = Client::of(&server, &store);
    let paths = trees::build_graph(&store, 6, 100, "kept");
    let _ = client.push(&paths).success();
    let noise = trees::add_noise(&store, &mut Random::fixed(601), "noise", 24 << 20);
    let file = scratch.join("snowbank.backup");
    let name = file.to_str().unwrap();
    // A backup in the middle of a push is as good as any.
    let mut push = client.start_push("main", &[&noise], &[]);
    let made = server.command(&["backup", name]).success();
    while !push.is_done() {
        server.command(&["backup", name, "--force"]).succeeds();
    }
    let _ = push.wait().success();
    for part in
        ["server-key", "root-token", &server.data_dir().join("storage").display().to_string()]
    {
        assert!(made.stdout.contains(part), "what else is needed is listed: {made}");
    }
    let again = server.command(&["backup", name]);
    assert!(!again.status.success() && again.stderr.contains("--force"), "{again}");
    let in_use = server.command(&["restore", name, "--force", "--yes"]);
    assert!(
        !in_use.status.success() && in_use.stderr.contains("another snowbankd is serving"),
        "{in_use}"
    );

    lose_the_database(&mut server);
    let restored = server.command(&["restore", name]).success();
    assert!(
        restored.stdout.contains("snowbankd repair") && restored.stdout.contains("epoch 2"),
        "{restored}"
    );
    server.start_again();
    Oracle::main(&server).assert_mirrors(&store, &paths);
    let refused = server.command(&["gc"]);
    assert!(!refused.status.success() && refused.stderr.contains("snowbankd repair"), "{refused}");
    let refused = client.run(&["gc"]).ended_with(16);
    assert!(refused.stderr.contains("snowbankd repair"), "{refused}");
    // New chunks get ids that no pack has.
    let after = trees::add_noise(&store, &mut Random::fixed(602), "after", 1 << 20);
    let _ = client.push(&[&after]).success();
    assert!(database::number(&server, "SELECT max(id) FROM chunks") > 1 << 32);
    oracle::assert_check_is_clean(&server);
    let audit = server.command(&["audit", "--action", "database.*"]).success().stdout;
    assert!(audit.contains("database.backup") && audit.contains("database.restore"), "{audit}");
}

#[test]
fn drill_the_database_is_lost_and_what_was_pushed_since_the_backup_needs_no_bytes() {
    let (mut server, store, scratch) = (Server::start(), NixStore::new(), Scratch::new("backup"));
    let client = Client::of(&server, &store);
    let before = trees::build_graph(&store, 6, 100, "before");
    let _ = client.push(&before).success();
    let file = scratch.join("snowbank.backup");
    server.command(&["backup", file.to_str().unwrap()]).succeeds();
    let mut since = trees::build_graph(&store, 4, 100, "since");
    since.push(trees::add_noise(&store, &mut Random::fixed(603), "noise", 12 << 20));
    let _ = client.push(&since).success();

    lose_the_database(&mut server);
    server.command(&["restore", file.to_str().unwrap()]).succeeds();
    let _ = server.command(&["check"]);
    server.command(&["repair", "--yes"]).succeeds();
    server.start_again();
    let oracle = Oracle::main(&server);
    oracle.assert_mirrors(&store, &before);
    assert!(since.iter().all(|path| !oracle.visible(path)), "the backup does not know of them");
    let push = client.push(&since).success();
    assert_eq!(
        (push.uploaded(), push.stats().chunks_sent),
        (since.len(), 0),
        "their chunks are found in the packs"
    );
    oracle.assert_mirrors(&store, &since);
    server.command(&["gc"]).succeeds();
    oracle.assert_mirrors(&store, &[before, since].concat());
    oracle::assert_check_is_clean(&server);
}

#[test]
fn drill_a_new_host_has_the_same_keys_tokens_and_paths() {
    let (server, store, scratch) = (Server::start(), NixStore::new(), Scratch::new("backup"));
    server.command(&["cache", "create", "team", "--private"]).succeeds();
    let token = server.token("ci", &["*"], &["*"]);
    let paths = trees::build_graph(&store, 5, 100, "moved");
    let _ = Client::at(&server.url(), &token, &store).push_to("team", &paths, &[]).success();
    let keys = Oracle::new(&server, "team", Api::root(&server)).public_key();
    let file = scratch.join("snowbank.backup");
    let made = server.command(&["backup", file.to_str().unwrap(), "--with-secrets"]).success();
    assert!(made.stdout.contains("In it"), "{made}");

    let data = scratch.folder("new").join("data");
    fs::create_dir(&data).unwrap();
    trees::copy_with_modes(&server.objects(), &data.join("storage"));
    let old_root_token = server.root_token();
    drop(server);
    let restored = on_a_new_host(&data, &["restore", file.to_str().unwrap()]).success();
    assert!(restored.stdout.contains("server-key"), "{restored}");
    on_a_new_host(&data, &["check", "--read-data"]).succeeds();
    let server = Server::options().data_dir(&data).start();
    assert_eq!(server.root_token(), old_root_token);
    let oracle = Oracle::new(&server, "team", Api::new(&server.url(), Some(&token)));
    assert_eq!(oracle.public_key(), keys);
    oracle.assert_mirrors(&store, &paths);
    let more = trees::add_files(&store, "more", &[("a", b"a".to_vec())]);
    let _ = Client::at(&server.url(), &token, &store).push_to("team", &[&more], &[]).success();
    oracle::assert_check_is_clean(&server);
}

#[test]
fn without_the_secrets_a_new_host_is_told_what_is_missing() {
    let (server, scratch) = (Server::start(), Scratch::new("backup"));
    let file = scratch.join("snowbank.backup");
    server.command(&["backup", file.to_str().unwrap()]).succeeds();
    let data = scratch.folder("new").join("data");
    let restored = on_a_new_host(&data, &["restore", file.to_str().unwrap()]).success();
    assert!(
        restored.stdout.contains("server key") && restored.stderr.contains("storage is not there"),
        "{restored}"
    );
    // With the key and the packs the server starts, and marks the storage then.
    fs::copy(server.data_dir().join("server-key"), data.join("server-key")).unwrap();
    trees::copy_with_modes(&server.objects(), &data.join("storage"));
    let marker = data.join("storage/snowbank-instance");
    assert!(fs::read_to_string(&marker).unwrap().contains("\"epoch\":1"));
    drop(server);
    let server = Server::options().data_dir(&data).start();
    assert!(fs::read_to_string(&marker).unwrap().contains("\"epoch\":2"));
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_postgresql_database_is_backed_up_by_its_own_programs() {
    let (site, store, scratch) = (Site::start(), NixStore::new(), Scratch::new("backup"));
    let mut old = Server::options().on(&site).replicas(1).start();
    let client = Client::of(&old, &store);
    let paths = trees::build_graph(&store, 4, 50, "postgres");
    let _ = client.push(&paths).success();
    let file = scratch.join("snowbank.backup");
    let said = old.command(&["backup", file.to_str().unwrap()]).ended_with(2);
    assert!(!said.said().contains(PASSWORD) && !file.exists(), "{said}");
    let line = |program: &str| {
        let found = said.stdout.lines().find(|line| line.trim_start().starts_with(program));
        found.unwrap_or_else(|| panic!("no {program} in: {said}")).trim().to_owned()
    };
    let run = |line: &str| {
        let mut shell: Command = process::command("sh", scratch.path());
        shell.args(["-c", line]).env("PGPASSWORD", PASSWORD);
        process::run(shell).succeeds();
    };
    run(&line("pg_dump"));
    let after = trees::add_files(&store, "after", &[("a", b"a".to_vec())]);
    let _ = client.push(&[&after]).success();
    assert!(old.terminate().success());

    // The harness makes each database that it is told of: an empty one, which is no business of
    // this storage.
    let options = || Server::options().on(&site).replicas(1).database("restored");
    let foreign = options().start_in_vain(Duration::from_secs(30));
    assert!(foreign.stderr.contains("belongs to Snowbank instance"), "{foreign}");
    site.postgres().execute("DROP DATABASE restored WITH (FORCE)");
    let _ = site.postgres().create_database("restored");
    run(&line("pg_restore").replace("--dbname=snowbank", "--dbname=restored"));
    let mut new = options().start();
    assert!(new.terminate().success());
    let marked = new.command(&["restore", "--in-place"]).success();
    assert!(marked.stdout.contains("epoch 2"), "{marked}");
    new.start_again();
    // Its own first start was over a database that had a token already.
    std::fs::write(new.data_dir().join("root-token"), old.root_token()).unwrap();
    let oracle = Oracle::main(&new);
    oracle.assert_mirrors(&store, &paths);
    assert!(!oracle.visible(&after));
    // The other one is shut out from then on.
    let refused = Server::options().on(&site).start_in_vain(Duration::from_secs(30));
    assert!(!refused.status.success() && refused.stderr.contains("epoch 2"), "{refused}");
}
