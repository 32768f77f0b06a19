//! A netrc file is read alike whatever the case of the host. The first entry of ours that is put
//! into it counts, is found again, and leaves no trace when it is taken out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snowbank_client::{
    fuzzing::{Netrc, netrc_with_entry, netrc_without_entry},
    nix::netrc::{entry, lines_in_macros, password},
};

const HOST: &str = "cache.h";
const TOKEN: &str = "t0ken";

fuzz_target!(|text: &str| {
    assert_eq!(entry(text, HOST), entry(text, "Cache.H"));
    assert_eq!(lines_in_macros(text, HOST).len(), text.split_terminator('\n').count());
    match netrc_with_entry(text, HOST, TOKEN) {
        Netrc::Text(new) => {
            let found = password(&new, HOST).expect("what was written is read");
            assert_eq!(found.as_ref().map(|found| found.as_str()), Some(TOKEN));
            // Entries of ours that were there may hide one another, in macros for example, and so
            // may somebody else's with the same token.
            if netrc_without_entry(text, HOST) == text && !text.contains(TOKEN) {
                assert_eq!(netrc_with_entry(&new, HOST, TOKEN), Netrc::Same);
                let left = netrc_without_entry(&new, HOST);
                assert_eq!(left.trim_end_matches('\n'), text.trim_end_matches('\n'));
            }
        }
        Netrc::Same => {
            let found = password(text, HOST).expect("what needs no change is read");
            assert_eq!(found.as_ref().map(|found| found.as_str()), Some(TOKEN));
        }
        Netrc::Foreign => {
            let others = netrc_without_entry(text, HOST);
            assert!(entry(&others, HOST).is_ok_and(|entry| entry.is_some_and(|one| one.is_own)));
        }
        Netrc::Refused => {}
    }
});
