//! What is read of a derivation is its outputs: nothing behind them counts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snowbank_client::fuzzing::has_unnamed_output;

fuzz_target!(|text: &str| {
    let found = has_unnamed_output(text);
    if let Some(end) = text.find(']') {
        let is_closed = text.find('[').is_some_and(|start| start < end);
        assert!(!is_closed || found == has_unnamed_output(&text[..=end]));
    }
    assert!(!found || text.starts_with("Derive") || text.starts_with("DrvWithVersion("));
    assert!(has_unnamed_output(&format!("Derive([(\"out\",\"\",\"\",\"\")],{text}")));
});
