//! `snowbank verify-receipts`: signatures, and that the cache still serves what they say.

use std::fs;

use snowbank_harness::{Client, NixStore, Server, trees};

#[test]
fn receipts_hold_until_somebody_changes_them() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let paths = trees::add_tiny(&store, 4, "receipt");
    let file = client.push(&paths).success().receipts_file;
    let file_text = file.to_str().unwrap();
    let _ = client.run(&["verify-receipts", file_text]).success();

    let honest = fs::read_to_string(&file).unwrap();
    let size = honest.split("\"nar_size\":").nth(1).unwrap().split(',').next().unwrap();
    let bent = [
        honest.replacen("\"status\":\"uploaded\"", "\"status\":\"present\"", 1),
        honest.replacen(&format!("\"nar_size\":{size}"), "\"nar_size\":1", 1),
        honest.replacen("\"cache\":\"main\"", "\"cache\":\"other\"", 1),
        honest.replacen("-receipt-0", "-receipt-9", 1).replacen("-receipt-1", "-receipt-9", 1),
    ];
    for text in bent {
        assert_ne!(text, honest);
        fs::write(&file, text).unwrap();
        let output = client.run(&["verify-receipts", file_text]);
        assert!(matches!(output.code(), Some(11 | 14)), "{output}");
    }
    fs::write(&file, "this is no receipt\n").unwrap();
    assert!(!client.run(&["verify-receipts", file_text]).status.success());
}

#[test]
fn a_receipt_for_what_is_not_served_any_more_does_not_hold() {
    let store = NixStore::new();
    let paths = trees::add_tiny(&store, 2, "lost");
    let (server, other) = (Server::start(), Server::start());
    let client = Client::of(&server, &store);
    let file = client.push(&paths).success().receipts_file;
    let key = snowbank_harness::Api::anonymous(&server).cache_info("main").public_keys.remove(0);
    // Another server, which never saw them, asked with the first one's key.
    let elsewhere = Client::of(&other, &store);
    let output = elsewhere.run(&["verify-receipts", file.to_str().unwrap(), "--public-key", &key]);
    assert_eq!(output.code(), Some(14), "{output}");
    assert!(output.said().contains(&paths[0]), "{output}");
    // And with its own keys: not signed by it.
    assert_eq!(elsewhere.run(&["verify-receipts", file.to_str().unwrap()]).code(), Some(14));
}
