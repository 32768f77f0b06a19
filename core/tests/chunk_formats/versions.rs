//! Messages between two versions: what a later one adds is passed over, and what an earlier one
//! does not send has a default.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use snowbank_core::receipt::{Receipt, ReceiptLine};
use snowbank_core::wire::{
    CacheInfo, CommitLine, CommitRequest, ErrorBody, MissingChunksResponse, MissingPathsRequest,
    MissingPathsResponse, StoredChunks, WhoAmI,
};

const STORE_PATH: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello-2.12.1";

/// Adds a field that nobody knows to every object of named fields. (A manifest's place is a choice
/// of one, and a token's caches are a table with names of the operator's.)
fn add_unknown(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (_, value) in
                fields.iter_mut().filter(|(key, _)| !matches!(key.as_str(), "manifest" | "caches"))
            {
                add_unknown(value);
            }
            fields.insert("added-later".to_owned(), json!({"a": [1, null]}));
        }
        Value::Array(items) => items.iter_mut().for_each(add_unknown),
        _ => {}
    }
}

/// Checks one message: `first` is what the first version sends, with none of the fields that have a
/// default.
fn holds<T: Serialize + DeserializeOwned + PartialEq + Debug>(first: Value) {
    let parsed: T =
        serde_json::from_value(first.clone()).unwrap_or_else(|error| panic!("{first}: {error}"));
    let sent = serde_json::to_value(&parsed).unwrap();
    // A reader of the first version finds all that it needs in what is sent now.
    for (key, value) in first.as_object().unwrap() {
        assert!(
            sent[key] == *value || value.is_object() || value.is_array(),
            "{key} is now {}",
            sent[key]
        );
    }
    for mut message in [first, sent] {
        add_unknown(&mut message);
        assert_eq!(serde_json::from_value::<T>(message).unwrap(), parsed);
    }
}

fn receipt() -> Value {
    json!({
        "status": "present", "store_path": STORE_PATH, "nar_hash": nar_hash(), "nar_size": 5,
        "cache": "main", "time": 7,
    })
}

fn nar_hash() -> Value {
    serde_json::to_value(snowbank_core::hash::NarHash::from_bytes([1; 32])).unwrap()
}

#[test]
fn what_servers_say_is_read_by_clients_of_other_versions() {
    holds::<CacheInfo>(json!({
        "name": "main", "public": true, "store_dir": "/nix/store", "public_keys": ["a:b"],
        "priority": 41,
        "cut": {"id": 1, "min": 64, "avg": 256, "max": 1024}, "compression_level": 3,
        "limits": {"bundle_bytes": 1, "bundle_entries": 2, "names_per_request": 3,
                   "paths_per_request": 4, "paths_per_query": 5, "manifest_bytes": 6},
        "server_version": "0.1.0",
    }));
    holds::<WhoAmI>(json!({
        "subject": "ci", "token_id": "1", "admin": false, "caches": {"main": ["push"]},
        "server_version": "0.1.0",
    }));
    holds::<MissingPathsResponse>(json!({
        "missing": [STORE_PATH], "present": [receipt()], "different": [{"store_path": STORE_PATH}],
    }));
    holds::<MissingChunksResponse>(json!({"missing": [1, 2]}));
    holds::<StoredChunks>(json!({"stored": 1, "known": 2, "stored_bytes": 3}));
    holds::<ErrorBody>(json!({"error": {"code": "busy", "message": "wait"}}));
    holds::<Receipt>(receipt());
}

#[test]
fn lines_are_read_by_clients_of_other_versions() {
    let mut line = receipt();
    line["type"] = json!("receipt");
    for line in [
        line,
        json!({"type": "chunks_missing", "store_path": STORE_PATH, "missing": ["00".repeat(32)]}),
        json!({"type": "different", "store_path": STORE_PATH}),
        json!({"type": "error", "store_path": STORE_PATH, "code": "busy", "message": "wait"}),
        json!({"type": "heartbeat"}),
        json!({"type": "end", "paths": 3}),
    ] {
        holds::<CommitLine>(line);
    }
    holds::<ReceiptLine>(receipt());
}

#[test]
fn what_clients_ask_is_read_by_servers_of_other_versions() {
    holds::<MissingPathsRequest>(
        json!({"paths": [{"store_path": STORE_PATH, "nar_hash": nar_hash()}]}),
    );
    for manifest in [json!({"inline": "AAAA"}), json!({"chunks": ["00".repeat(32)]})] {
        holds::<CommitRequest>(json!({"paths": [{
            "store_path": STORE_PATH, "nar_hash": nar_hash(), "nar_size": 5, "references": [],
            "manifest": manifest,
        }]}));
    }
}

#[test]
fn a_cut_id_is_optional_and_bounded() {
    let with = |cut: Value| {
        let mut path = json!({
            "store_path": STORE_PATH, "nar_hash": nar_hash(), "nar_size": 5, "references": [],
            "manifest": {"inline": ""},
        });
        path["cut"] = cut;
        serde_json::from_value::<CommitRequest>(json!({"paths": [path]}))
            .map(|request| request.paths[0].cut)
    };
    assert_eq!(with(Value::Null).unwrap(), None);
    assert_eq!(with(json!(3)).unwrap(), Some(3));
    assert!(with(json!(1_u64 << 32)).is_err());
    assert!(with(json!(-1)).is_err());
}
