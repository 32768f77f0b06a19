//! A narinfo that parses is written so that it parses to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snowbank_core::{narinfo::NarInfo, store_path::StoreDir};

fuzz_target!(|bytes: &[u8]| {
    let store_dir = StoreDir::default();
    if let Ok(narinfo) = NarInfo::parse_bytes(&store_dir, bytes) {
        let again = NarInfo::parse(&store_dir, &narinfo.render(&store_dir)).expect("what was written parses");
        assert_eq!(again.render(&store_dir), narinfo.render(&store_dir));
    }
});
