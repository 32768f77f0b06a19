//! Numbers for Prometheus. Whatever counts something says so with the macros of the crate `metrics`, which cost next to
//! nothing as long as no recorder is installed.

use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Seconds, from a look-up in memory to a large body over a slow line.
const BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The installed recorder.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

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
    let handle = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
    COUNTING.store(true, Ordering::Relaxed);
    describe();
    gauge!("snowbank_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(Metrics(handle))
}

impl Metrics {
    /// All numbers in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        if let Some(bytes) = resident_bytes() {
            gauge!("process_resident_memory_bytes").set(bytes);
        }
        self.0.run_upkeep();
        self.0.render()
    }

    /// Folds what was measured since into buckets; without it, and with nobody who asks, measurements would pile up.
    pub fn fold(&self) {
        self.0.run_upkeep();
    }
}

fn describe() {
    describe_gauge!("snowbank_build_info", "The version that runs");
    describe_gauge!("process_resident_memory_bytes", Unit::Bytes, "Memory that the process holds");
    describe_counter!("snowbank_http_requests_total", "Requests answered, by route, method and status");
    describe_histogram!(
        "snowbank_http_request_seconds",
        Unit::Seconds,
        "Time until an answer's head was ready, by route"
    );
    describe_counter!("snowbank_nar_sent_bytes_total", Unit::Bytes, "Bytes of NARs that went out, as they travel");
    describe_counter!("snowbank_received_chunks_total", "Chunks that were verified and stored");
    describe_counter!("snowbank_received_chunk_bytes_total", Unit::Bytes, "Bytes of their frames");
    describe_counter!("snowbank_committed_paths_total", "Paths that became visible");
    describe_counter!("snowbank_committed_nar_bytes_total", Unit::Bytes, "Bytes of their NARs");
    describe_counter!("snowbank_damaged_chunks_total", "Chunks that were found damaged or gone, and retired");
    describe_counter!(
        "snowbank_withdrawn_paths_total",
        "Paths that were taken out of sight since their chunks are damaged"
    );
    describe_gauge!("snowbank_damaged_chunks", "Retired chunks that are still there; `snowbankd repair` settles them");
    describe_gauge!("snowbank_withdrawn_paths", "Paths that are out of sight until they are pushed again");
    describe_counter!("snowbank_listing_rows_total", "Rows of paths and pins that were looked at for listings");
    describe_counter!(
        "snowbank_refused_listings_total",
        "Listings that were refused, by limit: anonymous-listings, places (none came free) or requests (too many wait)"
    );
    describe_counter!(
        "snowbank_audit_refusals_total",
        "Refused requests that the audit log is for, by how: written as they are, or counted in a row a minute"
    );
    describe_counter!("snowbank_audit_lost_total", "Entries of the audit log that could not be written in time");
    describe_counter!(
        "snowbank_database_transactions_total",
        "Transactions begun, by kind: commit (adds), exclusive (destroys, or sets up) or upkeep (what the server notes down)"
    );
    describe_counter!(
        "snowbank_storage_requests_total",
        "Requests to the object storage, each attempt, by operation and outcome: ok, retried, refused or failed"
    );
    describe_histogram!("snowbank_storage_request_seconds", Unit::Seconds, "Time of an attempt, by operation");
    describe_counter!("snowbank_storage_sent_bytes_total", Unit::Bytes, "Bytes of objects stored");
    describe_counter!("snowbank_storage_received_bytes_total", Unit::Bytes, "Bytes of objects read");
    describe_gauge!(
        "snowbank_disk_free_bytes",
        Unit::Bytes,
        "Room on the disks that packs and a SQLite database lie on"
    );
    describe_gauge!("snowbank_storage_is_own", "1 while the storage is known to be this server's database's, else 0");
    describe_gauge!(
        "snowbank_storage_up",
        "1 while the storage answers who reads its marker every few seconds, else 0"
    );
    describe_gauge!(
        "snowbank_storage_circuit_open",
        "1 while requests of this direction (read or write) wait since the storage does not answer, else 0"
    );
}

/// The resident set, from procfs; nothing where there is none.
fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u32 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(f64::from(kib) * 1024.0)
}
