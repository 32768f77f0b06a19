//! A database that is older than the storage: yesterday's backup. Rows are rebuilt from the packs'
//! own tables, and everything that was pushed since is whole again once it is pushed again, for
//! which no chunk has to travel.

use std::{fs, path::PathBuf};

use snowbank_harness::{Api, Server, oracle};

use super::stage::{Fetched, Stage};

/// The files of a SQLite database.
fn database(server: &Server) -> PathBuf {
    server.data_dir().join("snowbank.db")
}

/// Puts the server's database aside, or puts back what was aside.
fn backup(stage: &Stage) -> Vec<u8> {
    fs::read(database(&stage.server)).unwrap()
}

fn restore(stage: &Stage, backup: &[u8]) {
    for suffix in ["-wal", "-shm"] {
        let _ =
            fs::remove_file(database(&stage.server).with_file_name(format!("snowbank.db{suffix}")));
    }
    fs::write(database(&stage.server), backup).unwrap();
}

#[test]
fn what_was_pushed_since_the_backup_is_taken_from_the_packs() {
    let mut stage = Stage::new(643);
    if stage.server.shared().is_some() {
        // A site's database is PostgreSQL's to back up; what `repair` does is the same.
        return;
    }
    let before = stage.deposit("before");
    assert!(stage.server.terminate().success());
    let aside = backup(&stage);
    stage.server.start_again();
    let since = [stage.deposit("since"), stage.deposit("since-too")];
    assert!(stage.server.terminate().success());
    restore(&stage, &aside);
    // An older state of the database may not have the storage before it is said which one counts.
    let _ = stage.server.command(&["restore", "--in-place"]).success();
    stage.server.start_again();
    stage.api = Api::root(&stage.server);

    // A server that does not wait for the repair gives ids that the lost rows had.
    let meanwhile = stage.deposit("meanwhile");
    let said = stage.check(&[]).success();
    assert!(said.stdout.contains("2 objects without rows"), "{said}");
    let done = stage.repair("*");
    assert!(done.stdout.contains("2 packs"), "{done}");
    for path in [&before, &meanwhile] {
        assert_eq!(stage.fetch(path), Fetched::Whole);
    }
    for path in &since {
        assert_eq!(stage.fetch(path), Fetched::Absent);
        assert_eq!(stage.push_again(path), 0, "no chunk travels");
        assert_eq!(stage.fetch(path), Fetched::Whole);
    }
    // Whatever ids the running server had reserved, pushes go on.
    let mut pushed = Vec::new();
    for number in 0..3 {
        pushed.push(stage.deposit(&format!("later-{number}")));
    }
    for path in &pushed {
        assert_eq!(stage.fetch(path), Fetched::Whole);
    }
    let said = stage.check(&["--read-data", "--paths", "*"]).success();
    assert!(said.stdout.contains("0 objects without rows"), "{said}");
    oracle::assert_check_is_clean(&stage.server);
}

#[test]
fn an_object_that_is_no_pack_is_never_touched() {
    let mut stage = Stage::new(647);
    let path = stage.deposit("whole");
    let odd = stage.server.objects().join("packs/ab/abababababababababababababababab");
    fs::create_dir_all(odd.parent().unwrap()).unwrap();
    fs::write(&odd, "what is this").unwrap();
    let _ = stage.check(&["--read-data"]).success();
    let said = stage.server.command(&["repair", "--yes"]).success();
    assert!(said.stdout.contains("not touched") && said.stdout.contains("abababab"), "{said}");
    assert_eq!(fs::read(&odd).unwrap(), b"what is this");
    assert_eq!(stage.fetch(&path), Fetched::Whole);
    fs::remove_file(odd).unwrap();
}
