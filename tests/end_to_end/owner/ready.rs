//! `/readyz` of a server whose storage goes, and comes back.

use std::{fs, time::Duration};

use snowbank_harness::{Api, Server, process};

use super::wait_red;

#[test]
fn a_storage_that_is_not_there_or_another_ones_is_seen_within_seconds() {
    let (server, other) = (Server::start(), Server::start());
    let (storage, aside) = (server.objects(), server.data_dir().join("aside"));
    let marker = storage.join("snowbank-instance");
    let assert_red = |because: &str| {
        let limit = Duration::from_secs(15);
        process::wait_until(&format!("/readyz says {because}"), limit, || {
            wait_red(&server, limit).contains(because)
        });
        let why = wait_red(&server, limit);
        assert!(!why.contains(&storage.display().to_string()), "{why}");
        assert_eq!(Api::anonymous(&server).get("/healthz").status.as_u16(), 200);
    };
    let assert_green = || {
        process::wait_until("/readyz is green again", Duration::from_secs(8), || {
            server.replicas()[0].is_ready()
        });
    };
    assert_green();

    // Not mounted: the folder is gone, or is an empty one.
    fs::rename(&storage, &aside).unwrap();
    assert_red("empty or not its own");
    fs::create_dir(&storage).unwrap();
    assert_red("empty or not its own");
    // The other server's.
    fs::copy(other.objects().join("snowbank-instance"), &marker).unwrap();
    assert_red("belongs to another");
    fs::remove_dir_all(&storage).unwrap();
    fs::rename(&aside, &storage).unwrap();
    assert_green();

    // There, and not to be read. A folder cannot be read as a file by any user.
    let marker_aside = server.data_dir().join("marker-aside");
    fs::rename(&marker, &marker_aside).unwrap();
    fs::create_dir(&marker).unwrap();
    assert_red("does not answer");
    fs::remove_dir(&marker).unwrap();
    fs::write(&marker, "no marker").unwrap();
    assert_red("damaged");
    fs::rename(&marker_aside, &marker).unwrap();
    assert_green();
    let log = server.log();
    assert!(log.contains("the storage is known to be this database's again"), "{log}");
}
