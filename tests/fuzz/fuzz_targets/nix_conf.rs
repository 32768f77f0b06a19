//! A nix.conf with a block of ours has its substituter and its key in effect, writing the block
//! again changes nothing, and taking it out leaves the text as it was.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use snowbank_client::{
    fuzzing::{nix_conf_substituters, nix_conf_with_block, nix_conf_without_block},
    nix::NixSettings,
};

const URL: &str = "https://h/main";
const KEY: &str = "h-main-1:AAAA";

fuzz_target!(|text: &str| {
    // Files of this machine are no part of the input.
    if text.contains("include") {
        return;
    }
    let mut settings = NixSettings::default();
    settings.add_text(text, Path::new("/nowhere")).expect("nothing is included");
    let _ = settings.substituters();
    let Some(new) = nix_conf_with_block(text, URL, KEY) else { return };
    assert_eq!(nix_conf_with_block(&new, URL, KEY).as_ref(), Some(&new));
    assert!(nix_conf_substituters(&new).contains(&URL));
    if nix_conf_substituters(text).is_empty() {
        let mut settings = NixSettings::default();
        settings.add_text(&new, Path::new("/nowhere")).expect("nothing is included");
        assert!(settings.has_substituter(URL) && settings.trusted_keys().contains(&KEY.to_owned()));
    }
    if !nix_conf_substituters(text).contains(&URL) {
        // A block of settings without its end is a matter for a person.
        let Some(left) = nix_conf_without_block(&new, URL) else { return };
        // A last line gets its end, and the block of settings goes with the last block.
        assert!(
            left.trim_end_matches('\n') == text.trim_end_matches('\n') || left.len() < text.len()
        );
    }
});
