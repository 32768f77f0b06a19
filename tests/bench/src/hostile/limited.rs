//! All loads in turn on one server whose memory the system limits.

use anyhow::Result;
use snowbank_harness::{hostile::Attack, memory_limit::MemoryLimit};

use super::{Args, NONE_FAILS, Prepared, is_alive, loads::Load};
use crate::suite::{
    report::{Report, Target},
    series::{Series, float},
};

/// Runs them until the server has been killed, or has come through.
pub(super) fn run(
    args: &Args,
    loads: &[&Load],
    prepared: &Prepared,
    report: &Report,
) -> Result<()> {
    let limit = MemoryLimit::new(args.limit << 20);
    report.begin("limited", "all loads in turn on one server with a limit of memory");
    report.detail(format!("{} MiB, {}", args.limit, limit.kind()));
    // Ended before its limit is taken away.
    let mut server = prepared.start();
    for replica in server.replicas() {
        if let Some(id) = replica.id() {
            limit.take_in(id)?;
        }
    }
    let (mut passed, mut ends) = (0_u64, 0_u64);
    for load in loads {
        let attack = Attack::on(server.address(), args.addresses);
        (load.begin)(&attack, &prepared.ground);
        if let Some(why) = args.keep_up_long(&mut server) {
            report.detail(format!("{}: {why}", load.id));
        }
        report.detail(format!(
            "{}: {} MiB so far; {}",
            load.id,
            server.peak_rss_bytes() >> 20,
            attack.tally()
        ));
        if !is_alive(&server) {
            ends += 1;
            break;
        }
        passed += 1;
    }
    ends = ends.max(limit.kills().unwrap_or(0));
    let what = format!("all loads within {} MiB", args.limit);
    report.measured(
        &format!("{what}: times that the server was killed"),
        &Series::once(float(ends)),
        "",
        NONE_FAILS,
    );
    let all = Target::AtLeast(float(loads.len() as u64));
    report.measured(
        &format!("{what}: loads that it came through"),
        &Series::once(float(passed)),
        "",
        all,
    );
    Ok(())
}
