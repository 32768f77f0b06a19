//! A push over a slow link: nothing but the new bytes should take time.

use std::time::Duration;

use anyhow::Result;
use snowbank_harness::Server;

use crate::suite::{
    Suite,
    corpus::Paths,
    report::{Target, number},
    series::{Series, float},
    slow_link::SlowLink,
    work::{megabytes, push_through},
};

/// Each way.
const DELAY: Duration = Duration::from_millis(20);

/// 100 Mbit/s, and 10 Mbit/s with less to push and once.
pub(crate) fn run(suite: &Suite) -> Result<()> {
    let trees = suite.corpus.trees()?;
    one(suite, 100, trees, suite.runs, Target::AtMost(1.1))?;
    one(suite, 10, &trees.beginning(suite.scale.slow_bytes), 1, Target::None)
}

fn one(suite: &Suite, megabits: u32, paths: &Paths, runs: usize, target: Target) -> Result<()> {
    let bits_per_second = megabits * 1_000_000;
    let (mut wall, mut needed, mut stored, mut wire) =
        (Series::default(), Series::default(), Series::default(), Series::default());
    for _ in 0..runs {
        let server = Server::start();
        let link = SlowLink::before(server.address(), bits_per_second, DELAY)?;
        wall.push(push_through(&link.url(), &server, suite.corpus.store(), &paths.paths).wall);
        let new = server.stored_bytes();
        needed.push(float(new) * 8.0 / f64::from(bits_per_second));
        stored.push(megabytes(new));
        wire.push(megabytes(link.bytes().0));
    }
    let what =
        format!("push over {megabits} Mbit/s, 20 ms: wall, by what the new bytes need on it");
    suite.report.compared(&what, &wall, &needed, "s", target);
    suite.report.detail(format!(
        "{megabits} Mbit/s, 20 ms each way: {} paths, {} MB of NAR, {} MB stored, {} MB sent over \
         the link in all",
        paths.paths.len(),
        number(megabytes(paths.nar_bytes())),
        number(stored.median()),
        number(wire.median())
    ));
    // One second's worth.
    let seconds = SlowLink::plain_stream((bits_per_second / 8) as usize, bits_per_second, DELAY)?
        .as_secs_f64();
    let alone = number(seconds);
    suite.report.detail(format!(
        "{megabits} Mbit/s: one plain stream takes {alone} s for what needs 1 s, both delays \
         included"
    ));
    Ok(())
}
