//! The pipeline against a server in memory that verifies everything that it gets.

mod fake;
mod runner;
mod stops;
mod tree;

use snowbank_core::wire::{PushPin, code};

use self::fake::{FakeServer, Faults};
use self::runner::{push, push_pinned, push_with_limits};
use self::tree::Tree;
use super::limits::PipelineLimits;
use crate::exit::Exit;
use crate::push::MAX_ROUNDS;
use crate::push::bundle_builders::BundleLimits;
use crate::store::PathInfo;

#[tokio::test]
async fn what_was_pushed_is_there_byte_for_byte_references_first() {
    let (server, mut tree) = (FakeServer::start(Faults::default()).await, Tree::new());
    let a = tree.add("a", &[], 3_000_000);
    let b = tree.add("b", &[&a], 10);
    let c = tree.add("c", &[&a, &b], 700_000);
    let infos = vec![a, b, c];
    let outcome = push(&server, infos.clone(), &tree).await.success();
    assert_eq!(outcome.uploaded().len(), 3);
    assert_eq!(outcome.unreleased_bytes, 0, "all memory is given back");
    server.assert_holds(&infos, &tree);

    let requests = server.requests().len();
    let again = push(&server, infos, &tree).await.success();
    assert_eq!((again.summary.present, again.summary.uploaded), (3, 0));
    assert_eq!(
        server.requests().len() - requests,
        2,
        "the cache, and one question: {:?}",
        server.requests()
    );
}

#[tokio::test]
async fn a_rebuild_sends_nothing_but_commits() {
    let (server, mut tree) = (FakeServer::start(Faults::default()).await, Tree::new());
    let old = tree.add("old", &[], 10);
    let new = tree.add("new", &[], 20);
    let built = tree.add("built", &[&old], 2_000_000);
    let rebuilt = tree.rebuild(&built, &old, &new);
    push(&server, vec![old, new, built], &tree).await.success();
    let outcome = push(&server, vec![rebuilt.clone()], &tree).await.success();
    assert_eq!((outcome.summary.uploaded, outcome.summary.chunks_sent), (1, 0));
    server.assert_holds(&[rebuilt], &tree);
}

#[tokio::test]
async fn bundles_shrink_until_they_pass_and_stay_small() {
    let faults = Faults { body_limit: Some(1 << 20), ..Faults::default() };
    let (server, mut tree) = (FakeServer::start(faults).await, Tree::new());
    let infos = vec![tree.add("noise", &[], 30_000_000)];
    push(&server, infos.clone(), &tree).await.success();
    server.assert_holds(&infos, &tree);
    let bundles: Vec<_> =
        server.requests().into_iter().filter(|request| request.endpoint == "chunks").collect();
    let refused = bundles.iter().filter(|request| request.status == 413).count();
    assert!((3..=8).contains(&refused), "{refused} of {}", bundles.len());
    let last_refused = bundles.iter().rposition(|request| request.status == 413).unwrap();
    assert!(last_refused < 16, "it learns: {last_refused} of {}", bundles.len());
    assert!(bundles.len() < 60, "no smaller than need be: {}", bundles.len());
}

#[tokio::test]
async fn chunks_that_the_server_lost_are_sent_again() {
    let faults = Faults { lose_chunks: 3, ..Faults::default() };
    let (server, mut tree) = (FakeServer::start(faults).await, Tree::new());
    let a = tree.add("a", &[], 2_000_000);
    let b = tree.add("b", &[&a], 1_000_000);
    let infos = vec![a, b];
    let outcome = push(&server, infos.clone(), &tree).await.success();
    assert_eq!(outcome.uploaded().len(), 2);
    server.assert_holds(&infos, &tree);
}

#[tokio::test]
async fn a_server_that_loses_chunks_for_ever_is_given_up() {
    let faults = Faults { lose_chunks: usize::MAX, ..Faults::default() };
    let (server, mut tree) = (FakeServer::start(faults).await, Tree::new());
    let a = tree.add("a", &[], 100_000);
    let b = tree.add("b", &[&a], 10);
    let outcome = push(&server, vec![a, b], &tree).await;
    assert_eq!((outcome.failed().len(), outcome.exit), (2, Exit::Server), "{:?}", outcome.lines);
    assert!(server.requests().len() < 40, "{}", server.requests().len());
}

#[tokio::test]
async fn a_damaged_path_and_what_refers_to_it_fail_and_the_rest_is_pushed() {
    let (server, mut tree) = (FakeServer::start(Faults::default()).await, Tree::new());
    let bad = tree.add("bad", &[], 500_000);
    let referrer = tree.add("referrer", &[&bad], 10);
    let above = tree.add("above", &[&referrer], 10);
    let lost = tree.add("lost", &[], 10);
    let good = tree.add("good", &[], 500_000);
    tree.damage(&bad);
    tree.lose(&lost);
    let outcome =
        push(&server, vec![bad.clone(), referrer, above, lost, good.clone()], &tree).await;
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.exit, Exit::Damaged);
    assert_eq!(outcome.uploaded(), [tree::full(&good.path)]);
    let failed = outcome.failed();
    assert_eq!(failed.len(), 4, "{failed:?}");
    let (_, reason) = failed.iter().find(|(path, _)| *path == tree::full(&bad.path)).unwrap();
    for word in
        [bad.nar_hash.to_string(), format!("nix-store --repair-path {}", tree::full(&bad.path))]
    {
        assert!(reason.contains(&word), "{reason}");
    }
    assert_eq!(failed.iter().filter(|(_, reason)| reason.contains("refers to")).count(), 2);
    server.assert_holds(&[good], &tree);
}

#[tokio::test]
async fn a_refused_path_takes_its_referrers_with_it_and_a_different_one_does_not() {
    let (refused, different) = (Tree::name("refused"), Tree::name("different"));
    let faults = Faults {
        refuse: vec![(refused, code::NARINFO_INVALID)],
        different: vec![different],
        ..Faults::default()
    };
    let (server, mut tree) = (FakeServer::start(faults).await, Tree::new());
    let refused = tree.add("refused", &[], 10);
    let above_refused = tree.add("above-refused", &[&refused], 10);
    let different = tree.add("different", &[], 10);
    let above_different = tree.add("above-different", &[&different], 10);
    let infos = vec![refused, above_refused, different, above_different.clone()];
    let outcome = push(&server, infos, &tree).await;
    assert_eq!(outcome.uploaded(), [tree::full(&above_different.path)], "{:?}", outcome.lines);
    assert_eq!((outcome.failed().len(), outcome.summary.different), (2, 1));
    assert_eq!(outcome.exit, Exit::Refused);
}

#[tokio::test]
async fn thousands_of_tiny_paths_take_few_requests() {
    let (server, mut tree) = (FakeServer::start(Faults::default()).await, Tree::new());
    let mut infos: Vec<PathInfo> = Vec::new();
    for number in 0..3000 {
        let references: Vec<PathInfo> = infos.iter().rev().take(number % 4).cloned().collect();
        let references: Vec<&PathInfo> = references.iter().collect();
        infos.push(tree.add(&format!("tiny-{number}"), &references, 200));
    }
    let outcome = push(&server, infos.clone(), &tree).await.success();
    assert_eq!(outcome.uploaded().len(), infos.len());
    assert!(server.requests().len() < 60, "{:?}", server.requests());
}

#[tokio::test]
async fn identical_chunks_are_sent_once() {
    let (server, mut tree) = (FakeServer::start(Faults::default()).await, Tree::new());
    let zeros = tree.add_bytes("zeros", &vec![0; 40_000_000]);
    let more = tree.add_bytes("more", &vec![0; 40_000_001]);
    let outcome = push(&server, vec![zeros.clone(), more.clone()], &tree).await.success();
    assert!(outcome.summary.chunks_sent < 10, "{:?}", outcome.summary);
    server.assert_holds(&[zeros, more], &tree);
}

#[tokio::test]
async fn chunks_that_do_not_stay_open_are_closed() {
    let (server, mut tree) = (FakeServer::start(Faults::default()).await, Tree::new());
    let old = tree.add("old", &[], 10);
    let new = tree.add("new", &[], 20);
    let built = tree.add("built", &[&old], 1_000_000);
    let rebuilt = tree.rebuild(&built, &old, &new);
    let infos = vec![old, new, built, rebuilt];
    let never_open = |limits| PipelineLimits { never_open: true, ..limits };
    push_with_limits(&server, infos.clone(), &tree, never_open).await.success();
    server.assert_holds(&infos, &tree);
}

#[tokio::test]
async fn large_manifests_travel_as_chunks() {
    let faults = Faults { cut: Some((64, 256, 1024)), ..Faults::default() };
    let (server, mut tree) = (FakeServer::start(faults).await, Tree::new());
    let infos = vec![tree.add("many-chunks", &[], 6_000_000)];
    push(&server, infos.clone(), &tree).await.success();
    server.assert_holds(&infos, &tree);
    assert!(server.requests().iter().all(|request| request.bytes < 9 << 20));
    assert!(server.manifest_pieces() > 1);
}

#[tokio::test]
async fn a_push_with_hardly_any_memory_still_comes_to_its_end() {
    let (server, mut tree) = (FakeServer::start(Faults::default()).await, Tree::new());
    let mut infos: Vec<PathInfo> = Vec::new();
    for number in 0..60 {
        let references: Vec<PathInfo> = infos.iter().rev().step_by(7).take(3).cloned().collect();
        let references: Vec<&PathInfo> = references.iter().collect();
        let size = if number % 10 == 0 { 3_000_000 } else { 1000 * number };
        infos.push(tree.add(&format!("p-{number}"), &references, size));
    }
    let tight = |limits: PipelineLimits| PipelineLimits {
        budget_bytes: 2 << 20,
        open_weight: 6000,
        window_bytes: 256 << 10,
        window_names: 2,
        bundle: BundleLimits { bytes: 512 << 10, ..limits.bundle },
        ..limits
    };
    let outcome = push_with_limits(&server, infos.clone(), &tree, tight).await.success();
    assert_eq!(outcome.uploaded().len(), infos.len());
    server.assert_holds(&infos, &tree);
}

#[tokio::test]
async fn failures_that_pass_are_waited_for() {
    let faults =
        Faults { fail_requests: 4, cut_off_commits: 2, busy_paths: 2, ..Faults::default() };
    let (server, mut tree) = (FakeServer::start(faults).await, Tree::new());
    let a = tree.add("a", &[], 1_000_000);
    let infos = vec![a.clone(), tree.add("b", &[&a], 10), tree.add("c", &[], 10)];
    push(&server, infos.clone(), &tree).await.success();
    server.assert_holds(&infos, &tree);
}

#[tokio::test]
async fn a_commit_waits_for_the_storage_as_a_bundle_does() {
    let faults = Faults { delayed_paths: 5, ..Faults::default() };
    let (server, mut tree) = (FakeServer::start(faults).await, Tree::new());
    let infos = vec![tree.add("a", &[], 10)];
    push(&server, infos.clone(), &tree).await.success();
    server.assert_holds(&infos, &tree);
    let commits = server.requests().iter().filter(|request| request.endpoint == "paths").count();
    assert_eq!(commits, 6);
}

#[tokio::test]
async fn a_full_disk_stops_the_push_and_every_path_has_its_line() {
    let faults = Faults { full: true, ..Faults::default() };
    let (server, mut tree) = (FakeServer::start(faults).await, Tree::new());
    let infos: Vec<PathInfo> =
        (0..5).map(|number| tree.add(&format!("p-{number}"), &[], 1_000_000)).collect();
    let outcome = push(&server, infos, &tree).await;
    let error = outcome.result.as_ref().unwrap_err();
    assert_eq!(error.exit(), Exit::StorageFull);
    assert!(error.to_string().contains("full"), "{error}");
    assert_eq!((outcome.failed().len(), outcome.exit), (5, Exit::StorageFull));
}

#[tokio::test]
async fn a_receipt_that_does_not_hold_is_no_receipt() {
    let faults = Faults { forge_receipts: true, ..Faults::default() };
    let (server, mut tree) = (FakeServer::start(faults).await, Tree::new());
    let infos = vec![tree.add("a", &[], 10)];
    let outcome = push(&server, infos.clone(), &tree).await;
    assert_eq!(
        (outcome.exit, outcome.summary.uploaded, outcome.failed().len()),
        (Exit::Receipt, 0, 1)
    );
    let again = push(&server, infos, &tree).await;
    assert_eq!((again.exit, again.summary.present), (Exit::Receipt, 0));
}

#[tokio::test]
async fn paths_signed_by_upstream_are_left_out_and_named_to_the_server() {
    let (server, mut tree) = (FakeServer::start(Faults::default()).await, Tree::new());
    let mut theirs = tree.add("theirs", &[], 10);
    theirs.signatures = vec![tree::signature("upstream-1")];
    let ours = tree.add("ours", &[&theirs], 10);
    let outcome = push(&server, vec![theirs.clone(), ours.clone()], &tree).await.success();
    assert_eq!(
        (outcome.summary.skipped, outcome.uploaded()),
        (1, vec![tree::full(&ours.path).as_str()])
    );
    assert_eq!(server.upstream_named(), [theirs.path.base_name()]);
}

#[tokio::test]
async fn what_has_gone_from_the_cache_meanwhile_is_pushed_again() {
    let (server, mut tree) = (FakeServer::start(Faults::default()).await, Tree::new());
    let library = tree.add("library", &[], 300_000);
    let other = tree.add("other", &[], 10);
    push(&server, vec![library.clone(), other.clone()], &tree).await.success();
    let tool = tree.add("tool", &[&library], 10);
    let above = tree.add("above", &[&tool, &other], 10);
    server.lose_path_at_next_commit(&library);
    let infos = vec![library.clone(), other, tool, above];
    let outcome = push(&server, infos.clone(), &tree).await.success();
    assert_eq!(outcome.uploaded().len(), 3, "{:?}", outcome.lines);
    assert_eq!(
        (outcome.summary.uploaded, outcome.summary.present, outcome.summary.chunks_sent),
        (3, 1, 2)
    );
    server.assert_holds(&infos, &tree);
}

#[tokio::test]
async fn references_that_never_come_are_given_up() {
    let faults = Faults {
        refuse: vec![(Tree::name("tool"), code::REFERENCES_MISSING)],
        ..Faults::default()
    };
    let (server, mut tree) = (FakeServer::start(faults).await, Tree::new());
    let tool = tree.add("tool", &[], 10);
    let above = tree.add("above", &[&tool], 10);
    let outcome = push(&server, vec![tool, above], &tree).await;
    assert_eq!((outcome.failed().len(), outcome.exit), (2, Exit::Refused), "{:?}", outcome.lines);
    let questions =
        server.requests().iter().filter(|request| request.endpoint == "missing-paths").count();
    assert_eq!(questions, MAX_ROUNDS as usize);
}

#[tokio::test]
async fn a_pin_travels_with_the_commit_of_its_path() {
    for (cut_off_commits, is_known) in [(0, true), (1, false)] {
        let faults = Faults { cut_off_commits, ..Faults::default() };
        let (server, mut tree) = (FakeServer::start(faults).await, Tree::new());
        let root = tree.add("root", &[], 10);
        let name = "latest".parse().unwrap();
        let pin = PushPin { name, store_path: tree::full(&root.path), keep: Some(3) };
        let outcome = push_pinned(&server, vec![root], &tree, pin.clone()).await;
        assert_eq!(server.pins(), std::slice::from_ref(&pin), "asked for once, where its path is");
        assert_eq!(outcome.pinned.is_some(), is_known, "an answer that was lost is not made up");
    }
}
