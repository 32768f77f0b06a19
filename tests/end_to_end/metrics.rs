//! The numbers for Prometheus are those of `docs/metrics.md`, from the start; and the log tells of
//! pushes, refusals and collections.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use snowbank_harness::{Api, Client, NixStore, Server, process, trees};

/// A number, as the page for operators has it.
#[derive(Debug)]
struct Documented {
    kind: String,
    /// By label; no values where they are open.
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// The texts in backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn documented() -> BTreeMap<String, Documented> {
    let page =
        PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../docs/metrics.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [names, kind @ ("counter" | "gauge" | "histogram"), labels, meaning] = cells[..] else {
            continue;
        };
        assert!(!meaning.is_empty(), "{line}");
        for name in quoted(names) {
            // `a`, `b` are labels; `a`: `x`, `y` is a label with its values.
            let label = |part: &str| match part.split_once(':') {
                Some((label, values)) => {
                    vec![(quoted(label).remove(0), quoted(values).into_iter().collect())]
                }
                None => quoted(part).into_iter().map(|label| (label, BTreeSet::new())).collect(),
            };
            let labels = labels.split(';').flat_map(label).collect();
            let before = found.insert(name.clone(), Documented { kind: kind.to_owned(), labels });
            assert!(before.is_none(), "`{name}` stands there twice");
        }
    }
    assert!(found.len() > 45, "{} numbers", found.len());
    found
}

/// A series without what a histogram adds: its name and labels.
fn parse(series: &str, histograms: &BTreeSet<&str>) -> (String, BTreeMap<String, String>) {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let label = |text: &str| {
        let (label, value) = text.split_once('=').unwrap();
        (label.to_owned(), value.trim_matches('"').to_owned())
    };
    let mut labels: BTreeMap<String, String> = labels
        .trim_end_matches('}')
        .split("\",")
        .filter(|text| !text.is_empty())
        .map(label)
        .collect();
    let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    if let Some(base) = base.filter(|base| histograms.contains(base)) {
        labels.remove("le");
        return (base.to_owned(), labels);
    }
    (name.to_owned(), labels)
}

/// Asserts that a server says what the page says, and nothing else.
#[track_caller]
fn assert_as_documented(server: &Server, documented: &BTreeMap<String, Documented>) {
    let text = server.replicas()[0].metrics_page();
    let words = |mark: &str| -> BTreeMap<String, String> {
        let after = text.lines().filter_map(|line| line.strip_prefix(mark));
        let mut found = BTreeMap::new();
        for (name, rest) in after.filter_map(|line| line.split_once(' ')) {
            let before = found.insert(name.to_owned(), rest.to_owned());
            assert!(before.is_none(), "{mark}{name} is there twice");
        }
        found
    };
    let (help, types) = (words("# HELP "), words("# TYPE "));
    let names: Vec<&String> = documented.keys().collect();
    assert_eq!(
        types.keys().collect::<Vec<_>>(),
        names,
        "the page and the server have the same numbers"
    );
    assert_eq!(help.keys().collect::<Vec<_>>(), names, "each is described");
    for (name, kind) in &types {
        assert_eq!(*kind, documented[name].kind, "{name}");
    }
    let histograms = types
        .iter()
        .filter(|(_, kind)| *kind == "histogram")
        .map(|(name, _)| name.as_str())
        .collect();
    for series in server.replicas()[0].metrics().keys() {
        let (name, labels) = parse(series, &histograms);
        let known = &documented
            .get(&name)
            .unwrap_or_else(|| panic!("{series} is of no documented number"))
            .labels;
        assert_eq!(labels.keys().collect::<Vec<_>>(), known.keys().collect::<Vec<_>>(), "{series}");
        for (label, value) in labels {
            assert!(
                known[&label].is_empty() || known[&label].contains(&value),
                "{series}: {label} has a new value"
            );
        }
    }
}

/// Every combination of labels' values.
fn combinations(labels: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<(&str, &str)>> {
    labels.iter().fold(vec![Vec::new()], |all, (label, values)| {
        let with =
            |before: &Vec<_>, value| [before.clone(), vec![(label.as_str(), value)]].concat();
        all.iter()
            .flat_map(|before| values.iter().map(|value| with(before, value.as_str())))
            .collect()
    })
}

#[test]
fn every_number_is_on_the_page_and_counters_are_there_from_the_start() {
    let documented = documented();
    let (server, store) = (Server::options().metrics().start(), NixStore::new());
    assert_as_documented(&server, &documented);
    let replica = &server.replicas()[0];
    let series = replica.metrics();
    for (name, Documented { kind, labels }) in &documented {
        let is_open = labels.values().any(BTreeSet::is_empty);
        for labels in combinations(labels) {
            let carries = |series: &str| {
                series.split('{').next() == Some(name.as_str())
                    && labels
                        .iter()
                        .all(|(label, value)| series.contains(&format!("{label}=\"{value}\"")))
            };
            let is_there = series.keys().any(|series| carries(series));
            assert!(
                is_there || is_open || kind != "counter",
                "{name} {labels:?} is not there from the start"
            );
        }
    }
    for absent in ["snowbank_collection_seconds", "snowbank_waiting_bytes"] {
        assert!(!series.contains_key(absent), "{absent} was not measured yet");
    }
    for uncounted in ["snowbank_committed_paths_total", "snowbank_nar_sent_bytes_total"] {
        assert_eq!(series[uncounted].to_bits(), 0, "{uncounted}");
    }
    assert!(series["process_open_fds"] > 5.0 && series["process_start_time_seconds"] > 1.7e9);
    assert!(series["process_resident_memory_bytes"] > 1e6 && series["process_max_fds"] > 100.0);

    let paths = trees::add_tiny(&store, 3, "counted");
    let _ = Client::of(&server, &store).push(&paths).success();
    let _ = Client::of(&server, &store).run(&["path", "list", "main"]).success();
    let anonymous = Api::anonymous(&server);
    anonymous.post_json("/api/v1/gc", &serde_json::json!({})).refused(401, "unauthenticated");
    assert_eq!(anonymous.get("/nowhere").status.as_u16(), 404);
    let collected = Api::root(&server).post_json("/api/v1/gc", &serde_json::json!({}));
    assert!(collected.text().contains("\"report\""), "{}", collected.text());
    assert_as_documented(&server, &documented);
    let counted = |name| server.counted(name, &[]);
    assert!(
        counted("snowbank_committed_paths_total") >= 3.0
            && counted("snowbank_received_chunks_total") >= 1.0
    );
    assert!(
        counted("snowbank_audit_refusals_total") >= 1.0
            && counted("snowbank_collection_seconds") > 0.0
    );
    assert!(counted("process_cpu_seconds_total") > 0.0);
}

#[test]
fn the_log_has_a_line_for_each_push_refusal_and_collection() {
    let (mut server, store) =
        (Server::options().config("[log]\nformat = \"json\"\n").start(), NixStore::new());
    let (old, new) = (trees::add_tiny(&store, 2, "old"), trees::add_tiny(&store, 3, "new"));
    let token = server.token("ci-blog", &["main"], &["main"]);
    let client = Client::at(&server.url(), &token, &store);
    let _ = client.push(&old).success();
    let _ = client.push(&[old, new].concat()).success();
    for _ in 0..20 {
        Api::new(&server.url(), Some(&token))
            .post_json("/api/v1/gc", &serde_json::json!({}))
            .refused(403, "forbidden");
    }
    server.command(&["token", "list"]).succeeds();
    let collected = Api::root(&server).post_json("/api/v1/gc", &serde_json::json!({}));
    assert!(collected.text().contains("\"report\""), "{}", collected.text());
    // A push is over when nothing more came of it for a while, or when the server ends.
    assert!(server.terminate().success());

    let lines = |message: &str| -> Vec<serde_json::Value> {
        let all = server.replicas().iter().flat_map(|replica| {
            let log = replica.log();
            log.lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect::<Vec<serde_json::Value>>()
        });
        all.filter(|line| line["message"] == message && line["level"] == "INFO").collect()
    };
    let pushed = lines("pushed");
    let sum = |field: &str| pushed.iter().map(|line| line[field].as_u64().unwrap()).sum::<u64>();
    assert!(
        pushed.iter().all(|line| line["subject"] == "ci-blog" && line["cache"] == "main"),
        "{pushed:?}"
    );
    assert!(
        !pushed.is_empty() && pushed.len() <= server.replicas().len(),
        "one push, as far as a server can tell"
    );
    assert_eq!((sum("uploaded"), sum("present"), sum("failed")), (5, 2, 0), "{pushed:?}");
    assert!(sum("new_bytes") > 0 && sum("nar_bytes") > 0);
    assert!(
        pushed
            .iter()
            .all(|line| line["from"].as_str().is_some() && line["seconds"].as_f64().is_some())
    );

    let refused = lines("refused");
    let of_gc: Vec<_> = refused.iter().filter(|line| line["action"] == "gc.run").collect();
    assert!(
        (1..=2 * server.replicas().len()).contains(&of_gc.len()),
        "20 refusals are not 20 lines: {refused:?}"
    );
    assert!(
        of_gc.iter().all(|line| line["subject"] == "ci-blog" && line["outcome"] == "forbidden"),
        "{refused:?}"
    );
    let collections = lines("collected");
    assert_eq!(collections.len(), 1, "{collections:?}");
    assert!(collections[0]["stored_bytes"].as_u64().unwrap() > 0);
    for replica in server.replicas() {
        assert!(!replica.log().contains(&token), "no secret is in the log");
    }
}

#[test]
fn a_push_that_is_over_is_told_while_the_server_goes_on() {
    let (server, store) = (Server::start(), NixStore::new());
    let paths = trees::add_tiny(&store, 1, "told");
    let _ = Client::of(&server, &store).push(&paths).success();
    process::wait_until("the push is in the log", Duration::from_mins(1), || {
        server.replicas().iter().any(|replica| {
            let log = replica.log();
            log.lines().any(|line| {
                line.contains("pushed") && line.contains("uploaded=1") && line.contains("\"root\"")
            })
        })
    });
}
