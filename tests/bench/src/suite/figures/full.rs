//! Whether it matters how much is stored already.

use anyhow::Result;
use snowbank_harness::{Server, craft};

use super::narinfo::{Asked, misses};
use crate::suite::{
    Suite,
    report::{Target, number},
    series::{Series, float},
    work::{self, database_bytes, in_turns, megabytes},
};

/// Pushes of (c).
pub(crate) fn push(suite: &Suite) -> Result<()> {
    let (store, paths) = suite.corpus.tiny()?;
    let full = suite.full()?;
    let rate = |server: &Server| {
        float(paths.paths.len() as u64) / work::push(server, store, &paths.paths).wall
    };
    let (mut ours, mut empty) = (Series::default(), Series::default());
    let mut database = 0;
    in_turns(
        suite.runs,
        || {
            let copy = full.start();
            database = database_bytes(&copy.server);
            ours.push(rate(&copy.server));
            Ok(())
        },
        || {
            empty.push(rate(&Server::start()));
            Ok(())
        },
    )?;
    let what = format!(
        "push (c) with {} chunks and {} paths stored, by the empty cache: rate",
        suite.scale.full_chunks, suite.scale.full_paths
    );
    suite.report.compared(&what, &ours, &empty, "paths/s", Target::AtLeast(0.9));
    suite
        .report
        .detail(format!("the database: {} MB before the push", number(megabytes(database))));
    Ok(())
}

/// Narinfos of (c), which both caches hold, and of paths that neither holds.
pub(crate) fn narinfo(suite: &Suite) -> Result<()> {
    let (store, paths) = suite.corpus.tiny()?;
    let (many, small) = (suite.many()?, Server::start());
    let copy = many.start();
    let full = &copy.server;
    for server in [full, &small] {
        let _ = work::push(server, store, &paths.paths);
    }
    let hits: Vec<String> = paths.paths.iter().map(|path| craft::narinfo("main", path)).collect();
    let report = &suite.report;
    for (what, targets, status) in [("hit", hits, 200), ("miss", misses(paths.paths.len()), 404)] {
        let (mut ours, mut peer) = (Asked::default(), Asked::default());
        in_turns(
            suite.runs,
            || ours.ask(suite, full.address(), &targets, status),
            || peer.ask(suite, small.address(), &targets, status),
        )?;
        let name = format!(
            "narinfo {what} with {} paths stored, by an empty cache: rate",
            suite.scale.many_paths
        );
        report.compared(&name, &ours.rate, &peer.rate, "requests/s", Target::AtLeast(0.9));
        report.detail(format!(
            "{what}: 99th percentile {} ms and {} ms",
            number(ours.p99.median()),
            number(peer.p99.median())
        ));
    }
    let all: Vec<String> = many.hashes.iter().map(|hash| format!("/main/{hash}.narinfo")).collect();
    let mut spread = Asked::default();
    for _ in 0..suite.runs {
        spread.ask(suite, full.address(), &all, 200)?;
    }
    report.detail(format!(
        "hits spread over all paths, each asked for once or never: {} requests/s, 99th percentile \
         {} ms, the database: {} MB",
        number(spread.rate.median()),
        number(spread.p99.median()),
        number(megabytes(database_bytes(full)))
    ));
    Ok(())
}
