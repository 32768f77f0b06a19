//! A message that parses is written so that it parses to the same.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use snowbank_core::{
    receipt::ReceiptLine,
    wire::{
        CacheInfo, CommitLine, CommitRequest, ErrorBody, ManifestSource, MissingChunksResponse, MissingPathsRequest,
        MissingPathsResponse, WhoAmI,
    },
};

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<T>(bytes) {
        let text = serde_json::to_vec(&message).expect("messages are JSON");
        assert_eq!(serde_json::from_slice::<T>(&text).expect("what was written parses"), message);
    }
}

fuzz_target!(|bytes: &[u8]| {
    round_trip::<CacheInfo>(bytes);
    round_trip::<WhoAmI>(bytes);
    round_trip::<MissingPathsRequest>(bytes);
    round_trip::<MissingPathsResponse>(bytes);
    round_trip::<MissingChunksResponse>(bytes);
    round_trip::<CommitRequest>(bytes);
    round_trip::<CommitLine>(bytes);
    round_trip::<ErrorBody>(bytes);
    round_trip::<ReceiptLine>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = ManifestSource::decode_inline(text);
    }
});
