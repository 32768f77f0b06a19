//! What a server does of its own accord, and what it does not.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;
use snowbank_harness::{Client, NixStore, Random, Server, oracle, oracle::Oracle, trees};

use super::stage::{Fetched, Stage, change};

fn flip_in_second_chunk(stage: &Stage, path: &snowbank_harness::craft::Deposit) {
    let chunk = stage.chunks(path)[1].clone();
    let middle = usize::try_from(chunk.offset + chunk.len / 2).unwrap();
    change(&stage.file(path), |bytes| bytes[middle] ^= 1);
}

#[test]
fn a_storage_without_its_marker_withdraws_nothing() {
    let mut stage = Stage::new(613);
    let path = stage.deposit("kept");
    stage.server.restart_without_packs();
    let marker = stage.server.objects().join("snowbank-instance");
    let aside = stage.server.objects().parent().unwrap().join("marker-aside");
    flip_in_second_chunk(&stage, &path);
    fs::rename(&marker, &aside).unwrap();
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        assert_eq!(stage.fetch(&path), Fetched::Refused, "it is visible, and not served");
        std::thread::sleep(Duration::from_millis(100));
    }
    let said = stage.server.command(&["repair", "--yes"]);
    assert!(!said.status.success() && said.stderr.contains("marker"), "{said}");
    assert_eq!(stage.check(&[]).code(), Some(2), "such a storage proves nothing");
    fs::rename(&aside, &marker).unwrap();
    assert_eq!(stage.fetch(&path), Fetched::Refused);
    stage.wait_absent(&path);
}

#[test]
fn a_read_that_failed_for_a_moment_withdraws_nothing() {
    let mut stage = Stage::new(617);
    let path = stage.deposit("kept");
    stage.server.restart_without_packs();
    let file = stage.file(&path);
    let whole = fs::read(&file).unwrap();
    flip_in_second_chunk(&stage, &path);
    assert_eq!(stage.fetch(&path), Fetched::Refused);
    // Before it is read twice.
    fs::write(&file, &whole).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(stage.fetch(&path), Fetched::Whole);
    oracle::assert_check_is_clean(&stage.server);
}

#[test]
fn a_push_that_meets_a_damaged_chunk_sends_it_again_and_succeeds() {
    let (mut server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let mut random = Random::fixed(619);
    let noise = random.bytes(3 << 20);
    let first = trees::add_files(&store, "first", &[("noise", noise.clone())]);
    let second =
        trees::add_files(&store, "second", &[("noise", noise), ("text", b"and more".to_vec())]);
    let _ = client.push(&[&first]).success();
    server.restart_without_packs();
    for file in files(&server.objects().join("packs")) {
        change(&file, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
    }
    let push = client.push(&[&second]).success();
    assert_eq!(push.uploaded(), 1);
    let oracle = Oracle::main(&server);
    oracle.assert_mirrors(&store, std::slice::from_ref(&second));
    // The other path that needs that chunk is found and withdrawn too.
    let limit = Instant::now() + Duration::from_secs(20);
    while oracle.visible(&first) {
        assert!(Instant::now() < limit, "{first} is still visible");
        std::thread::sleep(Duration::from_millis(50));
    }
    let again = client.push(&[&first]).success();
    assert_eq!((again.uploaded(), again.stats().chunks_sent), (1, 0), "the chunk is there again");
    let _ = server.command(&["repair", "--yes", "--read-data"]).success();
    oracle.assert_mirrors(&store, &[first, second]);
    oracle::assert_check_is_clean(&server);
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn withdrawn_paths_are_listed_until_they_are_pushed_again_or_forgotten() {
    let mut stage = Stage::new(631);
    let (lost, kept) = (stage.deposit("lost"), stage.deposit("kept"));
    // One that refers to a path that will be lost.
    let mut referrer = kept.commit();
    referrer.store_path = format!("/nix/store/{}-referrer", "r".repeat(32));
    referrer.references = vec![lost.store_path["/nix/store/".len()..].to_owned()];
    assert_eq!(stage.api.commit(vec![referrer]).commit_lines().len(), 1);
    stage.server.restart_without_packs();
    flip_in_second_chunk(&stage, &lost);
    stage.repair("*");
    assert_eq!(stage.fetch(&lost), Fetched::Absent);

    let base_name = &lost.store_path["/nix/store/".len()..];
    let listed = stage.server.command(&["path", "withdrawn", "main"]).success().stdout;
    assert!(listed.contains(base_name) && listed.contains("damaged"), "{listed}");
    let answer: Value = stage.api.get("/api/v1/caches/main/withdrawn").json();
    assert_eq!(answer["paths"][0]["path"], base_name, "{answer}");

    let report = stage.check(&["--json"]);
    assert_eq!(report.code(), Some(1), "{report}");
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(
        (&report["finished"], &report["found"]),
        (&Value::from(true), &Value::from(1)),
        "{report}"
    );
    assert_eq!(report["stats"]["withdrawn_paths"], 1, "{report}");
    assert_eq!(report["findings"][0]["invariant"], "damage", "{report}");
    let notes = report["notes"].to_string();
    assert!(
        notes.contains("referrer") && notes.contains("withdrawn"),
        "what refers to it is told of: {notes}"
    );

    assert_eq!(stage.push_again(&lost), 1, "the chunk that was damaged travels, and no other");
    let listed = stage.server.command(&["path", "withdrawn", "main"]).success().stdout;
    assert!(!listed.contains(base_name), "{listed}");
    stage.server.restart_without_packs();
    flip_in_second_chunk(&stage, &lost);
    stage.repair("*");
    stage.server.command(&["repair", "--yes", "--forget-withdrawn"]).succeeds();
    oracle::assert_check_is_clean(&stage.server);
    assert_eq!(stage.fetch(&lost), Fetched::Absent);
}

#[test]
fn a_check_reads_a_sample_keeps_to_a_rate_and_goes_on_where_it_was() {
    let mut stage = Stage::new(641);
    for _ in 0..4 {
        let _ = stage.deposit("sampled");
    }
    let said = stage.check(&["--read-data=50%", "--seed", "3"]).success();
    assert!(said.stdout.contains("--seed 3"), "{said}");
    let drawn = stage.check(&["--read-data=0.01%"]).success();
    assert!(drawn.stdout.contains("--seed "), "the seed that was drawn is said: {drawn}");
    let began = Instant::now();
    let _ = stage.check(&["--read-data", "--rate", "500kB"]).success();
    assert!(
        began.elapsed() > Duration::from_secs(2),
        "1.6 MB at 500 kB a second took {:?}",
        began.elapsed()
    );
    let place = stage.server.data_dir().join("place.json");
    let place = place.to_str().unwrap();
    let _ = stage.check(&["--read-data", "--resume", place]).success();
    assert!(!fs::exists(place).unwrap(), "a check that is finished leaves nothing");
    fs::write(place, "{}").unwrap();
    assert_eq!(stage.check(&["--resume", place]).code(), Some(2));
}
