//! What a collection does to the objects in the storage, and when.

use std::fs;

use snowbank_core::pack::PackKey;
use snowbank_harness::{
    Api, Gc, Pusher, Random, Server, Site,
    ageing::{DAY, HOUR, age_everything},
    collection,
    craft::Deposit,
    database, oracle,
    site::Kind,
    storage_faults::Faults,
};

use super::{assert_served, missing_chunks, path};

fn delete(server: &Server, paths: &[&Deposit]) {
    let mut args = vec!["delete", "main", "--yes"];
    args.extend(paths.iter().map(|path| path.store_path.as_str()));
    server.command(&args).succeeds();
}

#[test]
fn what_was_sent_a_day_ago_is_there_for_the_push_that_goes_on() {
    let (server, mut random) = (Server::start(), Random::fixed(661));
    let api = Api::root(&server);
    let started = path(&mut random, "started", 600);
    assert!(api.send_bundle(started.bundle()).status.is_success());
    age_everything(&server, 23 * HOUR);
    let done = Gc::new().run(&api);
    assert_eq!((done.chunks(), done.packs(), missing_chunks(&api, &started)), (0, 0, 0));
    age_everything(&server, 2 * HOUR);
    let done = Gc::new().run(&api);
    assert_eq!(missing_chunks(&api, &started), started.encoded.len(), "a day later it is not");
    assert_eq!((done.chunks(), done.packs()), (started.encoded.len() as u64, 1));
    // The object goes an hour after its rows: a reader may have looked them up just before.
    assert_eq!((collection::objects(&server), collection::packs(&server)), (1, [0, 1]));
    age_everything(&server, 2 * HOUR);
    assert_eq!(Gc::new().run(&api).objects(), 1);
    assert_eq!((collection::objects(&server), collection::packs(&server)), (0, [0, 0]));
    // It is pushed as though it had never been there.
    let pushed = Pusher::new(&api, "main").push(&[&started]);
    assert_eq!((pushed.uploaded(), pushed.chunks_sent), (1, started.encoded.len()));
    assert_served(&server, &[&started]);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn what_a_deleted_path_leaves_is_taken_up_again_for_a_day() {
    let (server, mut random) = (Server::start(), Random::fixed(673));
    let (api, path) = (Api::root(&server), path(&mut random, "deleted", 600));
    let pusher = Pusher::new(&api, "main");
    let _ = pusher.push(&[&path]);
    age_everything(&server, 10 * DAY);
    delete(&server, &[&path]);
    let first = Gc::new().run(&api);
    assert_eq!(
        (first.nars(), first.chunks()),
        (0, 0),
        "its NAR has been without a path for no time"
    );
    age_everything(&server, 23 * HOUR);
    assert_eq!(Gc::new().run(&api).nars(), 0);
    let pushed = pusher.push(&[&path]);
    assert_eq!((pushed.uploaded(), pushed.chunks_sent), (1, 0), "nothing had to travel");
    age_everything(&server, 10 * DAY);
    assert_eq!(Gc::new().run(&api).nars(), 0, "it is needed again");
    assert_served(&server, &[&path]);

    delete(&server, &[&path]);
    let _ = Gc::new().run(&api);
    age_everything(&server, 2 * DAY);
    let done = Gc::new().run(&api);
    assert_eq!((done.nars(), done.chunks(), done.packs()), (1, path.encoded.len() as u64, 1));
    assert_eq!((database::nars(&server), database::chunks(&server)), (0, 0));
    oracle::assert_check_is_clean(&server);
}

#[test]
fn an_object_that_no_row_names_goes_after_the_grace_period() {
    let (server, mut random) = (Server::start(), Random::fixed(677));
    let api = Api::root(&server);
    let kept = path(&mut random, "kept", 300);
    let _ = Pusher::new(&api, "main").push(&[&kept]);
    let key = PackKey::from_bytes(random.bytes(16).try_into().unwrap()).to_string();
    let folder = server.objects().join("packs").join(&key[..2]);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(&key), random.bytes(5_000)).unwrap();

    let first = Gc::new().run(&api);
    assert_eq!((first.unnamed_objects(), first.objects()), (1, 0));
    age_everything(&server, 23 * HOUR);
    assert_eq!(Gc::new().run(&api).objects(), 0);
    assert!(folder.join(&key).is_file(), "whoever wrote it has a day to name it");
    age_everything(&server, 2 * HOUR);
    let planned = Gc::new().dry_run().run(&api);
    assert!(folder.join(&key).is_file(), "a dry run removes nothing: {planned}");
    assert_eq!(Gc::new().run(&api).objects(), 1);
    assert!(!folder.join(&key).exists());
    assert_eq!(collection::objects(&server), 1, "what is named stays");
    assert_eq!(Gc::new().run(&api).unnamed_objects(), 0);
    assert_served(&server, &[&kept]);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn objects_that_cannot_be_removed_are_tried_again_and_never_forgotten() {
    let mut random = Random::fixed(683);
    let site = Site::with_faults(random.clone());
    let server = Server::options().on(&site).storage("retry-for", "\"3s\"").start();
    let api = Api::root(&server);
    let pusher = Pusher::new(&api, "main");
    let paths: Vec<Deposit> =
        (0..5).map(|number| path(&mut random, &format!("p{number}"), 300)).collect();
    for path in &paths {
        let _ = pusher.push(&[path]);
    }
    delete(&server, &paths[1..].iter().collect::<Vec<_>>());
    site.faults().set(Faults { no_deletes: true, ..Faults::default() });
    for _ in 0..3 {
        let done = Gc::without_grace().without_compaction().run(&api);
        assert_eq!(done.objects(), 0, "{done}");
    }
    let refused = Gc::without_grace().without_compaction().run(&api);
    assert_eq!((refused.failed_objects(), collection::objects(&server)), (4, 5), "{refused}");
    oracle::assert_check_is_clean(&server);

    site.faults().set(Faults::default());
    let done = Gc::without_grace().without_compaction().run(&api);
    assert_eq!((done.objects(), done.failed_objects()), (4, 0), "{done}");
    assert_eq!((collection::objects(&server), collection::packs(&server)), (1, [1, 0]));
    assert_served(&server, &[&paths[0]]);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn many_objects_are_removed_by_few_requests() {
    let (site, mut random) = (Site::of(Kind::Strict), Random::fixed(691));
    let server = Server::options().on(&site).replicas(1).start();
    let api = Api::root(&server);
    let pusher = Pusher::new(&api, "main");
    let paths: Vec<Deposit> =
        (0..40).map(|number| path(&mut random, &format!("p{number}"), 64)).collect();
    for path in &paths {
        let _ = pusher.push(&[path]);
    }
    assert_eq!(collection::objects(&server), 40);
    delete(&server, &paths.iter().collect::<Vec<_>>());
    let count = |operation: &str| site.s3().counts().get(operation).copied().unwrap_or(0);
    let before = ["delete", "delete-many"].map(count);
    let _ = collection::collect_all(&api);
    assert_eq!(collection::objects(&server), 0);
    let after = ["delete", "delete-many"].map(count);
    assert_eq!(after[0], before[0], "one by one");
    assert!((1..=2).contains(&(after[1] - before[1])), "{before:?} before, {after:?} after");
    assert!(site.s3().refused().is_empty(), "{:?}", site.s3().refused());
}
