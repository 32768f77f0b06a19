//! The hash in a store path, and nix32 for its 20 bytes.
//!
//! nix32 reads the bytes as one little-endian number and writes it from the most significant digit
//! on, so that each eight characters are five bytes, last group first; 160 bits are exactly 32
//! digits, hence every text of 32 such characters is a hash and no two are the same. Masking reads
//! and writes many of them, hence the tables. Other lengths are left to [`crate::hash`].
//!
//! Source: Nix, `libutil/hash.cc`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use super::StorePathError;
use crate::hash::{excerpt, serde_as_text};

/// Length of a store path's hash in characters.
pub const HASH_CHARS: usize = 32;
/// Length of a store path's hash in bytes.
pub const HASH_BYTES: usize = 20;

/// The digits of nix32, ascending; `e`, `o`, `t` and `u` are not among them.
const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
/// Value of a byte that is no digit. Its top bits are set in no digit's value.
const NO_DIGIT: u8 = 0xff;
const DIGITS: [u8; 256] = digit_values();

const fn digit_values() -> [u8; 256] {
    let mut table = [NO_DIGIT; 256];
    let mut value = 0_u8;
    while value < 32 {
        table[ALPHABET[value as usize] as usize] = value;
        value += 1;
    }
    table
}

/// Whether `byte` is a character of nix32.
#[must_use]
pub const fn is_nix32_char(byte: u8) -> bool {
    DIGITS[byte as usize] != NO_DIGIT
}

/// The hash in a store path: 20 bytes, written as 32 nix32 characters. Its order is that of the
/// text, not of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StorePathHash([u8; HASH_BYTES]);

impl StorePathHash {
    /// Takes the 20 bytes of a hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; HASH_BYTES]) -> Self {
        Self(bytes)
    }

    /// The 20 bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }

    /// Reads exactly 32 nix32 characters; `None` for anything else. Every such text is the text of
    /// exactly one hash.
    #[must_use]
    #[inline]
    pub fn from_chars(chars: &[u8]) -> Option<Self> {
        let chars: &[u8; HASH_CHARS] = chars.try_into().ok()?;
        let mut bytes = [0; HASH_BYTES];
        let mut seen = 0;
        let (groups, _) = chars.as_chunks::<8>();
        let (fives, _) = bytes.as_chunks_mut::<5>();
        for (group, five) in groups.iter().rev().zip(fives) {
            let mut number = 0_u64;
            for &char in group {
                let digit = DIGITS[usize::from(char)];
                seen |= digit;
                number = number << 5 | u64::from(digit & 31);
            }
            five.copy_from_slice(&number.to_le_bytes()[..5]);
        }
        (seen < 32).then_some(Self(bytes))
    }

    /// The hash as 32 nix32 characters.
    #[must_use]
    #[inline]
    pub fn to_chars(&self) -> [u8; HASH_CHARS] {
        let mut chars = [0; HASH_CHARS];
        let (groups, _) = chars.as_chunks_mut::<8>();
        let (fives, _) = self.0.as_chunks::<5>();
        for (group, five) in groups.iter_mut().rev().zip(fives) {
            let mut number = [0; 8];
            number[..5].copy_from_slice(five);
            let mut number = u64::from_le_bytes(number);
            for char in group.iter_mut().rev() {
                *char = ALPHABET[(number & 31) as usize];
                number >>= 5;
            }
        }
        chars
    }
}

impl Ord for StorePathHash {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl PartialOrd for StorePathHash {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for StorePathHash {
    type Err = StorePathError;

    fn from_str(text: &str) -> Result<Self, StorePathError> {
        Self::from_chars(text.as_bytes()).ok_or_else(|| StorePathError::BadHash(excerpt(text)))
    }
}

impl fmt::Display for StorePathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chars = self.to_chars();
        f.write_str(std::str::from_utf8(&chars).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for StorePathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text! {
    StorePathHash: "a store hash of 32 nix32 characters",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_32_characters_of_the_alphabet_are_a_hash() {
        let text = b"0q43idch209zsdngl8yl79x0y79aajib";
        assert!(StorePathHash::from_chars(text).is_some());
        assert_eq!(StorePathHash::from_chars(&text[1..]), None);
        assert_eq!(StorePathHash::from_chars(&[text, b"0" as &[u8]].concat()), None);
        assert_eq!((0..=255).filter(|&byte| is_nix32_char(byte)).collect::<Vec<u8>>(), ALPHABET);
    }
}
