//! What a server costs that nobody asks anything.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use snowbank_harness::{Server, process};

use crate::suite::{
    Suite,
    report::{Target, number},
    series::Series,
    work::{mebibytes, push},
};

const MAX_MEMORY: Target = Target::AtMost(24.0);
/// How long a start may take before it counts as failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// Memory, start-up, size.
pub(crate) fn run(suite: &Suite) -> Result<()> {
    memory(suite)?;
    start_up(suite)?;
    let size =
        |name| fs::metadata(process::binary(name)).map(|meta| Series::once(mebibytes(meta.len())));
    suite.report.measured(
        "release binary, snowbankd",
        &size("snowbankd")?,
        "MiB",
        Target::AtMost(30.0),
    );
    suite.report.measured("release binary, snowbank", &size("snowbank")?, "MiB", Target::None);
    Ok(())
}

fn memory(suite: &Suite) -> Result<()> {
    let (mut empty, mut many) = (Series::default(), Series::default());
    for _ in 0..suite.few_runs() {
        let (server, copy) = (Server::start(), suite.many()?.start());
        sleep(suite.scale.idle);
        empty.push(mebibytes(server.rss_bytes()));
        many.push(mebibytes(copy.server.rss_bytes()));
    }
    suite.report.measured("idle memory, empty", &empty, "MiB", MAX_MEMORY);
    let what = format!("idle memory, {} paths stored", suite.scale.many_paths);
    suite.report.measured(&what, &many, "MiB", MAX_MEMORY);

    let (store, paths) = suite.corpus.tiny()?;
    let server = Server::start();
    let _ = push(&server, store, &paths.paths);
    sleep(suite.scale.idle);
    let after = number(mebibytes(server.rss_bytes()));
    suite
        .report
        .detail(format!("{} s after a push of (c): {after} MiB", suite.scale.idle.as_secs()));
    Ok(())
}

fn start_up(suite: &Suite) -> Result<()> {
    let mut copy = suite.many()?.start();
    let mut times = Series::default();
    for _ in 0..suite.runs {
        let ended = copy.server.terminate();
        ensure!(ended.success(), "snowbankd ended with {ended}: {}", copy.server.log());
        let address = copy.server.address();
        let began = Instant::now();
        copy.server.replica(0).spawn();
        while !is_healthy(address) {
            ensure!(began.elapsed() < PATIENCE, "snowbankd did not start: {}", copy.server.log());
            sleep(Duration::from_millis(1));
        }
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    let what = format!("start-up with {} paths stored", suite.scale.many_paths);
    suite.report.measured(&what, &times, "ms", Target::AtMost(200.0));
    suite.report.detail("start-up: from exec to the first good answer of /healthz");
    Ok(())
}

fn is_healthy(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: snowbank\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok::<bool, std::io::Error>(answer.starts_with(b"HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}
