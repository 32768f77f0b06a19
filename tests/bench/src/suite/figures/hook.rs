//! How long a build waits for the hook that queues its outputs, while the server is away, and how
//! fast the queue is pushed once the server is back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use snowbank_harness::{
    Client, NixStore, Server,
    process::{self, Running},
    trees,
};

use crate::suite::{
    Suite,
    report::Target,
    series::{Series, float},
};

/// Nix waits for the hook after each build.
const MAX_DELAY: Target = Target::AtMost(10.0);

/// A hook for each path, one after the other, beside `queue run`.
pub(crate) fn run(suite: &Suite) -> Result<()> {
    let mut server = Server::start();
    let store = NixStore::new();
    let client = Client::of(&server, &store);
    let queue = client.home().join("queue");
    let paths = trees::add_tiny(&store, suite.scale.hooks, "hook");
    ensure!(server.terminate().success(), "the server ended badly: {}", server.log());
    let mut command = client.command(&["queue", "run"]);
    command.env("SNOWBANK_QUEUE", &queue);
    let running = Running::start(command, &[]);

    let mut times = Series::default();
    for path in &paths {
        let mut hook = client.command(&["hook", "main", "--strict"]);
        hook.env("SNOWBANK_QUEUE", &queue).env("OUT_PATHS", path);
        let began = Instant::now();
        let _ = process::run(hook).success();
        times.push(milliseconds(began.elapsed()));
    }
    suite.report.measured("a hook, the server away", &times, "ms", MAX_DELAY);
    suite.report.measured("the slowest hook", &Series::once(times.greatest()), "ms", Target::None);

    server.start_again();
    let began = Instant::now();
    let mut wait = client.command(&["queue", "wait", "--timeout", "10m"]);
    wait.env("SNOWBANK_QUEUE", &queue);
    let _ = process::run(wait).success();
    let seconds = began.elapsed().as_secs_f64();
    let rate = float(paths.len() as u64) / seconds;
    suite.report.measured("the queue, pushed", &Series::once(rate), "paths/s", Target::None);
    suite.report.detail(format!("{} hooks, one path each, in {seconds:.1} s", paths.len()));
    running.signal(rustix::process::Signal::TERM);
    let _ = running.wait();
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
