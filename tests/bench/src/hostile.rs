//! Hostile clients beside honest ones: what the server holds in memory, and how honest clients
//! fare.
//!
//! Each load runs on a server of its own with default settings, which holds some thousand paths,
//! and ends by itself. Honest clients are measured for some seconds before it and all through it;
//! they come from other addresses than the attackers. With `--cgroup` one server with a limit of
//! memory has all loads in turn, and must not be killed.
//!
//! The attackers run in this process, and so on the processors of the server.

mod limited;
mod loads;

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use snowbank_harness::{
    Scratch, Server,
    honest::{Experience, HonestClients},
    hostile::{Attack, Ground, GroundSize},
    process,
};

use self::loads::{ALL, Load};
use crate::suite::{
    report::{Report, Target},
    series::{Series, float},
};

/// How long honest clients are measured without an attack.
const CALM: Duration = Duration::from_secs(5);
/// How often the server's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the server may take after an attack to be as it was.
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);

const MAX_MEMORY: Target = Target::AtMost(192.0);
const MAX_SLOWDOWN: Target = Target::AtMost(10.0);
const NONE_FAILS: Target = Target::AtMost(0.0);

/// Options of `hostile`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run these loads only
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Seconds that each load lasts
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u64,
    /// Addresses that the attackers of a load come from
    #[arg(long, value_name = "N", default_value_t = 16)]
    addresses: u16,
    /// End a load when the server holds so many MiB
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    stop_at: u64,
    /// All loads in turn on one server that may hold no more memory than --limit
    #[arg(long)]
    cgroup: bool,
    /// MiB that the server may hold with --cgroup
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    limit: u64,
    /// List the loads and do nothing
    #[arg(long)]
    list: bool,
}

impl Args {
    fn chosen(&self) -> Result<Vec<&'static Load>> {
        if let Some(unknown) =
            self.only.iter().find(|name| !ALL.iter().any(|load| load.id == **name))
        {
            bail!("there is no load `{unknown}`; --list shows them");
        }
        let is_wanted =
            |load: &&Load| self.only.is_empty() || self.only.iter().any(|name| name == load.id);
        Ok(ALL.iter().filter(is_wanted).collect())
    }

    /// Keeps up an attack until `is_over`, given the time since its beginning, says so; says why if
    /// the server has ended or holds too much before.
    fn keep_up(&self, server: &mut Server, is_over: impl Fn(Duration) -> bool) -> Option<String> {
        let began = Instant::now();
        while !is_over(began.elapsed()) {
            if !is_alive(server) {
                return Some("the server has ended".to_owned());
            }
            // Noted as well: nobody can tell any more once the server has ended.
            let _ = server.peak_rss_bytes();
            let held = server.rss_bytes() >> 20;
            if held > self.stop_at {
                let seconds = began.elapsed().as_secs_f64();
                return Some(format!(
                    "stopped after {seconds:.1} s, when the server held {held} MiB"
                ));
            }
            sleep(LOOK_EVERY);
        }
        None
    }

    /// As [`Self::keep_up`], for as long as a load lasts.
    fn keep_up_long(&self, server: &mut Server) -> Option<String> {
        self.keep_up(server, |elapsed| elapsed >= Duration::from_secs(self.seconds))
    }
}

fn is_alive(server: &Server) -> bool {
    server.replicas().iter().all(|replica| replica.id().is_some_and(process::is_alive))
}

/// A data folder that has been prepared, and what is in it.
struct Prepared {
    ground: Ground,
    folder: Scratch,
}

impl Prepared {
    fn make() -> Result<Self> {
        eprintln!("preparing a server with {} paths", GroundSize::REAL.paths);
        let folder = Scratch::new("hostile");
        let mut server = Server::options().data_dir(&folder.join("data")).start();
        let ground = Ground::prepare(&server, GroundSize::REAL);
        ensure!(server.terminate().success(), "snowbankd did not end well: {}", server.log());
        Ok(Self { ground, folder })
    }

    fn start(&self) -> Server {
        Server::options().data_dir(&self.folder.join("data")).start()
    }
}

/// Runs the benchmark; fails when a target was missed.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.list {
        for load in ALL {
            println!("{:<18} {}", load.id, load.about);
        }
        return Ok(());
    }
    process::allow_many_files();
    let (loads, report, prepared) = (args.chosen()?, Report::default(), Prepared::make()?);
    if args.cgroup {
        limited::run(args, &loads, &prepared, &report)?;
    } else {
        for load in loads {
            measure(args, load, &prepared, &report);
        }
    }
    let (met, all) = report.met();
    println!("\n{}\n{met} of {all} targets met", report.table());
    ensure!(met == all, "{} targets were missed", all - met);
    Ok(())
}

fn measure(args: &Args, load: &Load, prepared: &Prepared, report: &Report) {
    report.begin(load.id, load.about);
    let mut server = prepared.start();
    let address = server.address();
    let honest = HonestClients::begin(address, &prepared.ground);
    sleep(CALM);
    let calm = honest.finish();

    let attack = Attack::on(address, args.addresses);
    (load.begin)(&attack, &prepared.ground);
    let honest = HonestClients::begin(address, &prepared.ground);
    let stopped = args.keep_up_long(&mut server);
    honest.ask_to_end();
    let stopped = stopped.or_else(|| args.keep_up(&mut server, |_| honest.is_done()));
    report.detail(format!("attackers: {}", attack.tally()));
    if let Some(why) = stopped {
        report.detail(why);
    }
    drop(attack);
    let experience = honest.finish();
    let peak = Series::once(float(server.peak_rss_bytes() >> 20));
    report.measured(&format!("{}: peak memory of the server", load.id), &peak, "MiB", MAX_MEMORY);
    judge(load, &calm, &experience, report);
    let began = Instant::now();
    while is_alive(&server) && !server.replicas()[0].is_ready() && began.elapsed() < RECOVERY_LIMIT
    {
        sleep(LOOK_EVERY);
    }
    report.detail(format!("ready again {:.1} s after the attack", began.elapsed().as_secs_f64()));
}

/// Reports what honest clients met with, beside what they had met with before.
fn judge(load: &Load, calm: &Experience, experience: &Experience, report: &Report) {
    let id = load.id;
    let p99 = |of: &Experience| Series::once(of.narinfo.percentile(99).as_secs_f64() * 1000.0);
    report.compared(
        &format!("{id}: narinfo p99"),
        &p99(experience),
        &p99(calm),
        "ms",
        MAX_SLOWDOWN,
    );
    let failed = |what: &str, count: usize| {
        report.measured(
            &format!("{id}: {what} that failed"),
            &Series::once(float(count as u64)),
            "",
            NONE_FAILS,
        );
    };
    failed("narinfos", experience.narinfo.failed);
    failed("health checks", experience.readyz.failed);
    failed("pushes by others", experience.pushes.failed);
    failed("downloads of 20 MB", experience.downloads.failed);
    for (what, before, then) in [
        ("narinfos", &calm.narinfo, &experience.narinfo),
        ("/readyz", &calm.readyz, &experience.readyz),
        ("pushes", &calm.pushes, &experience.pushes),
        ("downloads", &calm.downloads, &experience.downloads),
    ] {
        report.detail(format!("{what}: {then}; without the attack: {before}"));
    }
}
