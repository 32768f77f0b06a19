//! `nix copy --to` a cache, beside `nix copy --to` a folder with the same compression.

use std::time::Duration;

use anyhow::Result;
use snowbank_harness::{NixStore, Server, process};

use crate::suite::{
    Suite,
    report::{Target, number},
    series::Series,
    work::{copy_to_folder, gigabytes, in_turns, mebibytes, settle},
};

/// (a): time, and the processor time and memory of the server.
pub(crate) fn run(suite: &Suite) -> Result<()> {
    let (store, paths) = (suite.corpus.store(), suite.corpus.trees()?);
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    in_turns(
        suite.runs,
        || {
            let mut server = Server::start();
            let before = server.cpu_time();
            let wall = copy_to_server(&server, store, &paths.paths);
            ours.push((wall, server.cpu_time().saturating_sub(before), server.peak_rss_bytes()));
            Ok(())
        },
        || {
            peer.push(copy_to_folder(store, &paths.paths).wall);
            Ok(())
        },
    )?;
    let (mut wall, mut cpu, mut peak) = (Series::default(), Series::default(), Series::default());
    for (seconds, server_cpu, server_peak) in ours {
        wall.push(seconds.as_secs_f64());
        cpu.push(server_cpu.as_secs_f64() / gigabytes(paths.nar_bytes()));
        peak.push(mebibytes(server_peak));
    }
    let mut peer_wall = Series::default();
    for wall in peer {
        peer_wall.push(wall);
    }
    suite.report.compared(
        "nix copy --to the cache (a): wall",
        &wall,
        &peer_wall,
        "s",
        Target::AtMost(1.1),
    );
    suite.report.detail(format!(
        "CPU seconds of the server per GB of NAR: {}, peak memory {} MiB",
        number(cpu.median()),
        number(peak.median())
    ));
    Ok(())
}

fn copy_to_server(server: &Server, store: &NixStore, paths: &[String]) -> Duration {
    settle();
    let netrc = store.root().with_file_name("netrc");
    let token = server.token("nix", &["*"], &["*"]);
    let machine = server.address().ip();
    process::write(&netrc, format!("machine {machine} login nix password {token}\n"));
    let mut command = store.command("nix");
    let url = format!("{}/main?compression=zstd", server.url());
    command.args(["copy", "--to", &url, "--option", "netrc-file"]).arg(&netrc).args(paths);
    process::Running::start(command, &[]).wait_for(Duration::from_mins(30)).success().elapsed
}
