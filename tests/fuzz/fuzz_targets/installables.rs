//! The list on a push's standard input loses nothing but blanks, and a store path that parses is
//! written so that it parses to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snowbank_client::fuzzing::installables;
use snowbank_core::store_path::{StoreDir, StorePath};

fn without_blanks(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

fuzz_target!(|text: &str| {
    let store_dir = StoreDir::default();
    let all = installables(text, &store_dir);
    assert_eq!(without_blanks(&all.concat()), without_blanks(text));
    for one in all {
        assert!(!one.trim().is_empty());
        if let Ok(path) = StorePath::parse(&store_dir, one) {
            assert_eq!(path.full(&store_dir), one);
            assert_eq!(StorePath::from_base_name(&path.base_name()), Ok(path));
        }
    }
});
