//! Bytes at rest, beside the classic design on the same NARs. Nothing of it varies from run to run,
//! so that there is one.

use anyhow::Result;
use snowbank_harness::{NixStore, Server};

use crate::{
    blind::BlindStore,
    suite::{
        Suite,
        report::{Target, number},
        series::Series,
        work::{database_bytes, megabytes, push},
    },
};

/// First (a) with the first releases of (b) in it, then the next ones, then their rebuilds.
pub(crate) fn run(suite: &Suite) -> Result<()> {
    let store = suite.corpus.store();
    let (trees, later) = (suite.corpus.trees()?, suite.corpus.later()?);
    let (server, mut blind) = (Server::start(), BlindStore::new()?);
    let report = &suite.report;
    for (what, paths, most) in [
        ("first version of (a) and (b)", trees, 0.98),
        ("next version of (b)", &later.next, 1.0),
        ("rebuild of (b)", &later.rebuild, 0.02),
    ] {
        let (before, database) = (server.stored_bytes(), database_bytes(&server));
        let _ = push(&server, store, &paths.paths);
        let ours = Series::once(megabytes(server.stored_bytes() - before));
        let peer = Series::once(megabytes(add_to(&mut blind, store, &paths.paths)?));
        report.compared(
            &format!("stored, {what}, by the blind design"),
            &ours,
            &peer,
            "MB",
            Target::AtMost(most),
        );
        report.detail(format!(
            "{what}: {} MB of NAR, the database grew by {} MB",
            number(megabytes(paths.nar_bytes())),
            number(megabytes(database_bytes(&server).saturating_sub(database)))
        ));
    }
    report.detail("ours is whole pack objects with headers and tables, blind's is frames alone");
    Ok(())
}

fn add_to(blind: &mut BlindStore, store: &NixStore, paths: &[String]) -> Result<u64> {
    paths.iter().map(|path| blind.add(&store.dump(path))).sum()
}
