//! A message of attic that parses is written so that it parses to the same; an upload's info gives a narinfo that every reader
//! understands, and a claim never gives a right that it does not name.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use snowbank_core::{
    attic::{Access, CacheConfig, ErrorAnswer, MissingPathsAnswer, MissingPathsQuestion, NewCache, UploadInfo},
    narinfo::NarInfo,
    store_path::StoreDir,
};

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let message = serde_json::from_slice::<T>(bytes).ok()?;
    let text = serde_json::to_vec(&message).expect("messages are JSON");
    assert_eq!(serde_json::from_slice::<T>(&text).expect("what was written parses"), message);
    Some(message)
}

fuzz_target!(|bytes: &[u8]| {
    round_trip::<CacheConfig>(bytes);
    round_trip::<NewCache>(bytes);
    round_trip::<MissingPathsQuestion>(bytes);
    round_trip::<MissingPathsAnswer>(bytes);
    round_trip::<ErrorAnswer>(bytes);
    if let Some(info) = round_trip::<UploadInfo>(bytes) {
        let store_dir = StoreDir::default();
        if let Ok(narinfo) = info.to_narinfo(&store_dir, "nar/x.nar".to_owned()) {
            let text = narinfo.render(&store_dir);
            assert_eq!(NarInfo::parse(&store_dir, &text).expect("what was written parses"), narinfo);
        }
    }
    if let Ok(access) = serde_json::from_slice::<Access>(bytes) {
        let text = String::from_utf8_lossy(bytes);
        for (_, rights) in access.entries() {
            assert!(rights.is_sorted());
            // Escapes may write a name in another way.
            assert!(text.contains('\\') || rights.iter().all(|right| text.contains(right.as_str())));
        }
    }
});
