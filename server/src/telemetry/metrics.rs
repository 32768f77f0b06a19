//! Numbers for Prometheus. Whatever counts something says so with the macros of the crate
//! `metrics`, which cost next to nothing as long as no recorder is installed.
//!
//! [`table`] names every number. Those whose labels are known beforehand are there from the start,
//! as 0, so that a rate over them has a beginning. What is measured now and then (room on disks,
//! what is stored) is absent until it was measured. `docs/metrics.md` is for operators, and a test
//! compares it with what a server says.

mod process;
mod table;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use process::Process;
use table::{Kind, METRICS};

/// Seconds, from a look-up in memory to a large body over a slow line.
const BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The installed recorder.
#[derive(Clone)]
pub struct Metrics {
    recorder: PrometheusHandle,
    process: Process,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics(…)")
    }
}

static COUNTING: AtomicBool = AtomicBool::new(false);

/// Whether anything is counted, for what would cost something only to be thrown away.
#[must_use]
pub fn is_counting() -> bool {
    COUNTING.load(Ordering::Relaxed)
}

/// Starts counting, once per process.
///
/// # Errors
/// When counting was started before.
pub fn install_metrics() -> anyhow::Result<Metrics> {
    let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
    COUNTING.store(true, Ordering::Relaxed);
    begin();
    gauge!("snowbank_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(Metrics { recorder, process: Process::started_now() })
}

/// Describes all numbers, and begins those at 0 that are known.
fn begin() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, metric.help),
        }
        for labels in metric.known_labels() {
            match metric.kind {
                Kind::Counter => counter!(metric.name, labels).increment(0),
                Kind::Gauge => gauge!(metric.name, labels).set(0.0),
                Kind::Histogram => drop(histogram!(metric.name, labels)),
            }
        }
    }
}

impl Metrics {
    /// All numbers in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.recorder.run_upkeep();
        let mut page = self.recorder.render();
        // What has no value yet is described all the same.
        for metric in
            METRICS.iter().filter(|metric| !page.contains(&metric.type_line())).collect::<Vec<_>>()
        {
            // Writing to a String cannot fail.
            let _ =
                writeln!(page, "# HELP {} {}\n{}\n", metric.name, metric.help, metric.type_line());
        }
        self.process.render(&mut page);
        page
    }

    /// Folds what was measured since into buckets; without it, and with nobody who asks,
    /// measurements would pile up.
    pub fn fold(&self) {
        self.recorder.run_upkeep();
    }
}
