//! Masking: where a stream has the store directory, a slash and 32 nix32 characters, those
//! characters are a *slot*. Masking turns them into `0`s. The hash that they spell joins the
//! stream's slot values, from left to right. The scan goes on behind each slot.
//!
//! [`Masker`] works in place over a growing buffer, and looks at each byte once, but for the few at
//! the end that may yet become a slot. The result does not depend on how the bytes arrive.
//!
//! ```
//! use snowbank_core::mask::Masker;
//! use snowbank_core::store_path::StoreDir;
//!
//! let mut bytes = b"in /nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-hello".to_vec();
//! let mut slots = Vec::new();
//! let masker = Masker::new(&StoreDir::default());
//! masker.mask(&mut bytes, 0, true, |at, value| slots.push((at, value.to_string())));
//! assert_eq!(bytes, b"in /nix/store/00000000000000000000000000000000-hello");
//! assert_eq!(slots, [(14, "1b9p07z77phvv2hf6gm9f28syp39f1ag".to_owned())]);
//! ```
//!
//! Cutting is left to [`crate::cut`].

use memchr::memmem::Finder;

use crate::store_path::{StoreDir, StorePathHash};

/// Bytes of a slot.
pub const SLOT_LEN: usize = 32;

/// What a slot's bytes are in a masked stream.
pub const MASK: [u8; SLOT_LEN] = [b'0'; SLOT_LEN];

/// Finds and masks the slots of one stream.
#[derive(Debug)]
pub struct Masker {
    /// Finds the store directory with its slash.
    finder: Finder<'static>,
}

impl Masker {
    /// A masker for streams of `store_dir`.
    #[must_use]
    pub fn new(store_dir: &StoreDir) -> Self {
        let prefix = format!("{}/", store_dir.as_str().trim_end_matches('/'));
        Self { finder: Finder::new(&prefix).into_owned() }
    }

    /// Most bytes at a buffer's end that may be undecided, and one more.
    pub(crate) fn lookahead(&self) -> usize {
        self.finder.needle().len() + SLOT_LEN
    }

    /// Masks the slots in `buffer[from..]` and calls `on_slot` with the offset in `buffer` and the
    /// value of each.
    ///
    /// Gives the offset up to which the bytes are decided: masked where they had to be, whatever
    /// follows. It is the next call's `from`, and the end of `buffer` when this is the stream's
    /// `last` piece.
    pub fn mask(
        &self,
        buffer: &mut [u8],
        mut from: usize,
        last: bool,
        mut on_slot: impl FnMut(usize, StorePathHash),
    ) -> usize {
        let prefix_len = self.finder.needle().len();
        while let Some(found) = self.finder.find(&buffer[from..]) {
            let start = from + found;
            let slot = start + prefix_len;
            match buffer.get_mut(slot..slot + SLOT_LEN) {
                Some(chars) => match StorePathHash::from_chars(chars) {
                    Some(value) => {
                        chars.copy_from_slice(&MASK);
                        on_slot(slot, value);
                        from = slot + SLOT_LEN;
                    }
                    // The next occurrence may begin within this one: it shares at least the slash.
                    None => from = start + 1,
                },
                None if last => from = start + 1,
                None => return start,
            }
        }
        if last {
            return buffer.len();
        }
        // Fewer bytes than the prefix has may be its beginning.
        from.max((buffer.len() + 1).saturating_sub(prefix_len))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &[u8; SLOT_LEN] = b"0123456789abcdfghijklmnpqrsvwxyz";

    fn mask_whole(bytes: &[u8]) -> (Vec<u8>, Vec<usize>) {
        let mut buffer = bytes.to_vec();
        let mut slots = Vec::new();
        let end = Masker::new(&StoreDir::default()).mask(&mut buffer, 0, true, |slot, value| {
            assert_eq!(value.to_chars(), bytes[slot..slot + SLOT_LEN]);
            slots.push(slot);
        });
        assert_eq!(end, bytes.len());
        (buffer, slots)
    }

    /// The definition, byte by byte.
    fn by_definition(bytes: &[u8]) -> Vec<usize> {
        let prefix = b"/nix/store/";
        let (mut at, mut slots) = (0, Vec::new());
        while at < bytes.len() {
            let slot = at + prefix.len();
            let chars = bytes.get(slot..slot + SLOT_LEN);
            if bytes[at..].starts_with(prefix)
                && chars
                    .is_some_and(|chars| chars.iter().all(|&c| crate::store_path::is_nix32_char(c)))
            {
                slots.push(slot);
                at = slot + SLOT_LEN;
            } else {
                at += 1;
            }
        }
        slots
    }

    #[test]
    fn a_hash_after_the_store_directory_is_masked() {
        let text = [b"x/nix/store/", &HASH[..], b"-name/nix/store/", &HASH[..]].concat();
        let (masked, slots) = mask_whole(&text);
        assert_eq!(slots, [12, 60]);
        assert_eq!(masked, [b"x/nix/store/", &MASK[..], b"-name/nix/store/", &MASK[..]].concat());
    }

    #[test]
    fn a_hash_of_zeros_is_a_slot_too() {
        let text = [b"/nix/store/", &MASK[..]].concat();
        assert_eq!(mask_whole(&text), (text.clone(), vec![11]));
    }

    #[test]
    fn what_is_one_character_short_or_wrong_stays() {
        let short = [b"/nix/store/", &HASH[..31]].concat();
        assert_eq!(mask_whole(&short), (short.clone(), vec![]));
        let wrong = [b"/nix/store/", &HASH[..31], b"e-"].concat();
        assert_eq!(mask_whole(&wrong), (wrong.clone(), vec![]));
    }

    #[test]
    fn occurrences_that_share_a_slash_are_found() {
        let text = [b"/nix/store/nix/store/", &HASH[..]].concat();
        assert_eq!(mask_whole(&text).1, [21]);
    }

    #[test]
    fn another_store_directory_has_its_own_slots() {
        let masker = Masker::new(&StoreDir::new("/gnu/store").unwrap());
        let mut text = [b"/nix/store/", &HASH[..], b"/gnu/store/", &HASH[..]].concat();
        let mut slots = Vec::new();
        masker.mask(&mut text, 0, true, |slot, _| slots.push(slot));
        assert_eq!(slots, [54]);
    }

    proptest! {
        #[test]
        fn masking_is_its_definition(pieces in proptest::collection::vec(piece(), 0..40)) {
            let bytes = pieces.concat();
            prop_assert_eq!(mask_whole(&bytes).1, by_definition(&bytes));
        }

        #[test]
        fn growing_buffers_give_the_same(
            pieces in proptest::collection::vec(piece(), 0..40),
            steps in proptest::collection::vec(1_usize..60, 1..40),
        ) {
            let bytes = pieces.concat();
            let masker = Masker::new(&StoreDir::default());
            let (mut buffer, mut from, mut slots) = (Vec::new(), 0, Vec::new());
            let mut rest = &bytes[..];
            for step in steps.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*step));
                buffer.extend_from_slice(now);
                rest = later;
                let on_slot = |slot, _| slots.push(slot);
                let decided = masker.mask(&mut buffer, from, rest.is_empty(), on_slot);
                prop_assert!(decided >= from && buffer.len() - decided < 11 + SLOT_LEN);
                from = decided;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!((buffer, slots), mask_whole(&bytes));
        }
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(b"/nix/store/".to_vec()),
            Just(b"/nix/store".to_vec()),
            Just(HASH.to_vec()),
            Just(HASH[..31].to_vec()),
            Just(MASK.to_vec()),
            Just(b"-name-1.0/bin".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..40),
        ]
    }
}
