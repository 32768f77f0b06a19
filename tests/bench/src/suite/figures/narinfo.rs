//! Narinfos, there and not there, beside nginx with the same ones in files.

use std::net::SocketAddr;

use anyhow::Result;
use snowbank_harness::{Random, Server};

use crate::suite::{
    Suite,
    load::{self, Load},
    report::{Target, number},
    series::Series,
    work::{Mirror, in_turns, push, seconds_from},
};

/// Connections that ask at the same time.
const CONNECTIONS: usize = 64;

/// Rates and 99th percentiles.
pub(crate) fn run(suite: &Suite) -> Result<()> {
    let (store, paths) = suite.corpus.tiny()?;
    let server = Server::start();
    let _ = push(&server, store, &paths.paths);
    let mirror = Mirror::of(&server, &paths.paths)?;
    for (what, targets, status) in
        [("hit", mirror.narinfos.clone(), 200), ("miss", misses(paths.paths.len()), 404)]
    {
        let (mut ours, mut peer) = (Asked::default(), Asked::default());
        in_turns(
            suite.runs,
            || {
                let before = server.cpu_time();
                ours.ask(suite, server.address(), &targets, status)?;
                ours.cpu.push(seconds_from(before, server.cpu_time()));
                Ok(())
            },
            || {
                let before = mirror.nginx.cpu_time();
                peer.ask(suite, mirror.nginx.address(), &targets, status)?;
                peer.cpu.push(seconds_from(before, mirror.nginx.cpu_time()));
                Ok(())
            },
        )?;
        let report = &suite.report;
        let name = format!("narinfo {what}, {CONNECTIONS} connections");
        report.compared(
            &format!("{name}: rate"),
            &ours.rate,
            &peer.rate,
            "requests/s",
            Target::AtLeast(0.8),
        );
        report.compared(
            &format!("{name}: 99th percentile"),
            &ours.p99,
            &peer.p99,
            "ms",
            Target::AtMost(1.5),
        );
        report.detail(format!(
            "{name}: median latency {} ms, nginx's {} ms, CPU seconds per second of load {} and \
             nginx's {}",
            number(ours.p50.median()),
            number(peer.p50.median()),
            number(ours.cpu.median() / seconds(suite)),
            number(peer.cpu.median() / seconds(suite)),
        ));
    }
    suite
        .report
        .detail("the requests come from one thread, which shares the cores with the server");
    Ok(())
}

/// What a load takes, its unmeasured beginning included.
fn seconds(suite: &Suite) -> f64 {
    suite.scale.load.as_secs_f64() * 1.1
}

/// Addresses of paths that no cache has.
pub(crate) fn misses(count: usize) -> Vec<String> {
    let mut random = Random::fixed(6);
    (0..count).map(|_| format!("/main/{}.narinfo", random.hash_chars())).collect()
}

/// What loads came to, run by run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) rate: Series,
    pub(crate) p50: Series,
    pub(crate) p99: Series,
    cpu: Series,
}

impl Asked {
    /// Asks for narinfos once more.
    pub(crate) fn ask(
        &mut self,
        suite: &Suite,
        address: SocketAddr,
        targets: &[String],
        status: u16,
    ) -> Result<()> {
        let Load { rate, p50, p99 } =
            load::requests(address, targets, status, CONNECTIONS, suite.scale.load)?;
        self.rate.push(rate);
        self.p50.push(p50);
        self.p99.push(p99);
        Ok(())
    }
}
