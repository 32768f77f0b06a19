//! A manifest that is accepted has no other form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snowbank_core::manifest::{Segment, WireManifest};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = WireManifest::decode(bytes) {
        assert_eq!(manifest.encode(), bytes);
    }
    if let Ok(segment) = Segment::decode(bytes) {
        assert_eq!(segment.encode(), bytes);
    }
});
