//! A NAR is accepted or refused alike by decoder and validator, however it is fed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snowbank_core::nar::decode::{Decoder, Event, Validator};

fn validate(bytes: &[u8], step: usize) -> bool {
    let mut validator = Validator::new();
    bytes.chunks(step).all(|piece| validator.feed(piece).is_ok()) && validator.finish().is_ok()
}

fuzz_target!(|bytes: &[u8]| {
    let mut decoder = Decoder::new();
    let decoded = decoder.feed(bytes, &mut |_: Event<'_>| {}).is_ok() && decoder.finish().is_ok();
    for step in [1, 7, bytes.len().max(1)] {
        assert_eq!(validate(bytes, step), decoded);
    }
});
