//! Packs and records, whole or from any place on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snowbank_core::pack::{FOOTER_LEN, Footer, PackIndex, Record};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(index) = PackIndex::parse(bytes) {
        for entry in index.entries {
            assert!(entry.span.end() <= bytes.len() as u64);
        }
    }
    if let Some(footer) = bytes.first_chunk::<FOOTER_LEN>() {
        let _ = Footer::parse(footer);
    }
    if let Ok((record, consumed)) = Record::parse_prefix(bytes) {
        assert_eq!(&bytes[record.frame_range], record.frame);
        assert_eq!(Record::parse(&bytes[..consumed]).map(|again| again.id), Ok(record.id));
    }
});
