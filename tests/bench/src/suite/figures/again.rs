//! A push of what is there already.

use anyhow::Result;
use snowbank_harness::{Client, Nginx, NixStore, Server};

use crate::suite::{
    Suite,
    report::{Target, number},
    series::{Series, float},
    work::push,
};

/// Both corpora: time directly, requests past a witness.
pub(crate) fn run(suite: &Suite) -> Result<()> {
    one(suite, "(a)", suite.corpus.store(), &suite.corpus.trees()?.paths);
    let (store, paths) = suite.corpus.tiny()?;
    one(suite, "(c)", store, &paths.paths);
    Ok(())
}

fn one(suite: &Suite, name: &str, store: &NixStore, paths: &[String]) {
    let server = Server::start();
    let first = push(&server, store, paths);
    let (mut wall, mut cpu) = (Series::default(), Series::default());
    for _ in 0..suite.runs {
        // A client that knows nothing of the first push.
        let pushed = push(&server, store, paths);
        wall.push(pushed.wall * 1000.0);
        cpu.push((pushed.client_cpu + pushed.server_cpu) * 1000.0);
    }
    let witness = Nginx::before(&server, Some("0"));
    let client = Client::at(&witness.url(), &server.root_token(), store);
    let before = witness.requests().len();
    let _ = client.start_push("main", paths, &[]).wait().success();
    let requests = &witness.requests()[before..];
    let thousands = paths.len().div_ceil(1_000);
    let per_thousand = float(requests.len() as u64) / float(thousands as u64);

    let report = &suite.report;
    let target = if name == "(a)" { Target::AtMost(150.0) } else { Target::None };
    report.measured(&format!("push {name} again: wall"), &wall, "ms", target);
    let what = format!("push {name} again: requests per 1,000 paths or fewer");
    report.measured(&what, &Series::once(per_thousand), "", Target::AtMost(5.0));
    report.detail(format!(
        "{name}: {} paths, first push {} s, both ends' CPU {} ms, requests: {}",
        paths.len(),
        number(first.wall),
        number(cpu.median()),
        requests
            .iter()
            .map(|one| format!("{} {}", one.method, one.path))
            .collect::<Vec<_>>()
            .join(", ")
    ));
}
