//! Every number that a server shows, but for those about its process: name, kind, what it is, and
//! which labels it has.

use metrics::Label;

/// What a number does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Durations, in buckets.
    Histogram,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// When series of a number begin to be there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Series {
    /// At the start: one for each combination of these labels' values.
    AtStart(&'static [(&'static str, &'static [&'static str])]),
    /// Once they are counted or measured.
    Later,
}

/// A number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    series: Series,
}

impl Metric {
    /// The labels of the series that are there from the start.
    pub(super) fn known_labels(&self) -> Vec<Vec<Label>> {
        let Series::AtStart(labels) = self.series else { return Vec::new() };
        let mut known: Vec<Vec<Label>> = vec![Vec::new()];
        for &(label, values) in labels {
            let mut longer = Vec::new();
            for before in &known {
                for &value in values {
                    longer.push([&before[..], &[Label::from_static_parts(label, value)]].concat());
                }
            }
            known = longer;
        }
        known
    }

    /// The line that tells Prometheus the kind.
    pub(super) fn type_line(&self) -> String {
        format!("# TYPE {} {}", self.name, self.kind.name())
    }
}

const fn counter(name: &'static str, series: Series, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, help, series }
}

const fn gauge(name: &'static str, series: Series, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, help, series }
}

const fn histogram(name: &'static str, series: Series, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, help, series }
}

const ONE: Series = Series::AtStart(&[]);
const LATER: Series = Series::Later;
const OPERATIONS: &[&str] = &["put", "get", "marker", "head", "list", "delete"];
const POOLS: &[&str] = &["bodies", "manifests", "packs", "answers"];
const PLACES: &[&str] = &["download", "answer"];

/// All of them.
pub(super) const METRICS: &[Metric] = &[
    gauge("snowbank_build_info", LATER, "The version that runs"),
    // Requests.
    counter(
        "snowbank_http_requests_total",
        LATER,
        "Requests answered, by route, method and status",
    ),
    histogram(
        "snowbank_http_request_seconds",
        LATER,
        "Time until an answer's head was ready, by route",
    ),
    counter("snowbank_nar_sent_bytes_total", ONE, "Bytes of NARs that went out, as they travel"),
    counter(
        "snowbank_push_sessions_total",
        Series::AtStart(&[("kind", &["begun", "renewed"])]),
        "Tokens of push sessions that were handed out",
    ),
    counter(
        "snowbank_ignored_tokens_total",
        Series::AtStart(&[(
            "reason",
            &[
                "malformed",
                "unknown-key",
                "bad-signature",
                "expired",
                "not-yet-valid",
                "revoked",
                "issuer-unavailable",
                "not-let-in",
            ],
        )]),
        "Reads of public caches that came with a token of no use, by what is wrong with it",
    ),
    // Pushes.
    counter("snowbank_received_chunks_total", ONE, "Chunks that were verified and stored"),
    counter("snowbank_received_chunk_bytes_total", ONE, "Bytes of their frames"),
    counter(
        "snowbank_reencoded_chunks_total",
        ONE,
        "Chunks that the server stored in a frame of its own, which is smaller",
    ),
    counter("snowbank_committed_paths_total", ONE, "Paths that became visible"),
    counter("snowbank_committed_nar_bytes_total", ONE, "Bytes of their NARs"),
    // What is stored.
    gauge("snowbank_stored_packs", LATER, "Packs, counted once a minute"),
    gauge("snowbank_stored_bytes", LATER, "Bytes of packs, counted once a minute"),
    gauge("snowbank_stored_chunks", LATER, "Chunks, counted once a minute"),
    gauge("snowbank_stored_nars", LATER, "NARs, counted once a minute"),
    gauge("snowbank_stored_paths", LATER, "Paths, counted once a minute"),
    gauge(
        "snowbank_disk_free_bytes",
        LATER,
        "Room on the disks that packs and a SQLite database lie on",
    ),
    // Collection.
    counter("snowbank_collected_paths_total", ONE, "Paths that collections of this server removed"),
    gauge("snowbank_collection_seconds", LATER, "How long the last collection of this server took"),
    gauge(
        "snowbank_waiting_bytes",
        LATER,
        "Bytes that nothing needed after it and that were still there",
    ),
    // Damage.
    counter(
        "snowbank_damaged_chunks_total",
        ONE,
        "Chunks that were found damaged or gone, and retired",
    ),
    counter(
        "snowbank_withdrawn_paths_total",
        ONE,
        "Paths that were taken out of sight since their chunks are damaged",
    ),
    gauge(
        "snowbank_damaged_chunks",
        LATER,
        "Retired chunks that are still there; `snowbankd repair` settles them",
    ),
    gauge(
        "snowbank_withdrawn_paths",
        LATER,
        "Paths that are out of sight until they are pushed again",
    ),
    // Storage.
    gauge(
        "snowbank_storage_is_own",
        LATER,
        "1 while the storage is known to be this server's database's, else 0",
    ),
    gauge(
        "snowbank_storage_up",
        LATER,
        "1 while the storage answers when its marker is read every few seconds, else 0",
    ),
    gauge(
        "snowbank_storage_circuit_open",
        LATER,
        "1 while requests of this direction (read or write) wait since the bucket does not answer, \
         else 0",
    ),
    counter(
        "snowbank_storage_requests_total",
        Series::AtStart(&[
            ("operation", OPERATIONS),
            ("outcome", &["ok", "retried", "refused", "failed"]),
        ]),
        "Requests to the bucket, each attempt, by operation and outcome: ok, retried, refused or \
         failed",
    ),
    histogram(
        "snowbank_storage_request_seconds",
        Series::AtStart(&[("operation", OPERATIONS)]),
        "Time of an attempt, by operation",
    ),
    counter("snowbank_storage_sent_bytes_total", ONE, "Bytes of objects stored in the bucket"),
    counter("snowbank_storage_received_bytes_total", ONE, "Bytes of objects read from the bucket"),
    counter(
        "snowbank_storage_cache_requests_total",
        Series::AtStart(&[("outcome", &["hit", "miss", "damaged"])]),
        "Blocks of packs that were looked for in the read cache on disk, by outcome",
    ),
    gauge("snowbank_storage_cache_bytes", LATER, "Bytes that the read cache on disk takes"),
    // Database.
    counter(
        "snowbank_database_transactions_total",
        Series::AtStart(&[("kind", &["commit", "exclusive", "upkeep"])]),
        "Transactions begun, by kind: commit (adds), exclusive (destroys, or sets up) or upkeep \
         (what the server notes down)",
    ),
    // Listings and the audit log.
    counter(
        "snowbank_listing_rows_total",
        ONE,
        "Rows of paths and pins that were looked at for listings",
    ),
    counter(
        "snowbank_refused_listings_total",
        Series::AtStart(&[("limit", &["anonymous-listings", "places", "requests"])]),
        "Listings that were refused, by limit: anonymous-listings, places (none came free) or \
         requests (too many wait)",
    ),
    counter(
        "snowbank_audit_refusals_total",
        Series::AtStart(&[("how", &["written", "counted"])]),
        "Refused requests that the audit log is for, by how: written as they are, or counted in a \
         row a minute",
    ),
    counter(
        "snowbank_audit_lost_total",
        ONE,
        "Entries of the audit log that could not be written in time",
    ),
    // Limits.
    gauge("snowbank_connections", LATER, "Connections that are open"),
    counter(
        "snowbank_connections_closed_total",
        Series::AtStart(&[("reason", &["write-timeout", "silent", "idle", "place-needed"])]),
        "Connections that the server has closed, by reason",
    ),
    counter(
        "snowbank_connections_refused_total",
        Series::AtStart(&[("reason", &["address", "all"])]),
        "Connections that found no place, by limit: that of their address, or that of all",
    ),
    counter(
        "snowbank_tls_handshakes_total",
        Series::AtStart(&[(
            "result",
            &[
                "ok",
                "plain-http",
                "client-certificate",
                "refused-by-client",
                "protocol",
                "closed",
                "unfinished",
            ],
        )]),
        "TLS handshakes, by how they ended",
    ),
    counter(
        "snowbank_tls_reloads_total",
        Series::AtStart(&[("result", &["ok", "failed"])]),
        "How often the files of [tls] have changed and were read again",
    ),
    counter(
        "snowbank_requests_refused_total",
        ONE,
        "Requests that found no place (`[limits] requests`)",
    ),
    counter(
        "snowbank_places_refused_total",
        Series::AtStart(&[("kind", PLACES)]),
        "Downloads and listings that found no place in time, by kind",
    ),
    counter(
        "snowbank_responses_ended_total",
        Series::AtStart(&[("kind", PLACES)]),
        "Downloads and listings that were broken off since their clients did not read and others \
         waited, by kind",
    ),
    gauge(
        "snowbank_memory_held_bytes",
        Series::AtStart(&[("pool", POOLS)]),
        "Memory for pushes that requests hold, by pool",
    ),
    counter(
        "snowbank_limit_hits_total",
        Series::AtStart(&[(
            "limit",
            &[
                "answer-timeout",
                "answers",
                "bodies",
                "body-deadline",
                "body-timeout",
                "closures",
                "commits-per-token",
                "json-values",
                "large-uploads",
                "manifests",
                "max-nar-size",
                "memory-taken-back",
                "min-body-rate",
                "packs",
                "uploads",
            ],
        )]),
        "Requests that ran into a limit, by limit",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::AuthError;

    #[test]
    fn each_is_named_once_and_described() {
        for (number, metric) in METRICS.iter().enumerate() {
            assert!(
                METRICS[..number].iter().all(|other| other.name != metric.name),
                "{}",
                metric.name
            );
            assert!(
                metric.name.starts_with("snowbank_")
                    && !metric.help.is_empty()
                    && !metric.help.contains('\n')
            );
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn labels_are_combined() {
        let requests =
            METRICS.iter().find(|metric| metric.name == "snowbank_storage_requests_total").unwrap();
        assert_eq!(requests.known_labels().len(), 24);
        let bytes =
            METRICS.iter().find(|metric| metric.name == "snowbank_nar_sent_bytes_total").unwrap();
        assert_eq!(bytes.known_labels(), vec![Vec::new()]);
    }

    #[test]
    fn every_reason_for_which_a_token_is_ignored_is_there_from_the_start() {
        let ignored =
            METRICS.iter().find(|metric| metric.name == "snowbank_ignored_tokens_total").unwrap();
        let known = ignored.known_labels();
        let reasons: Vec<&str> = known.iter().map(|labels| labels[0].value()).collect();
        assert_eq!(reasons, AuthError::REASONS);
    }
}
