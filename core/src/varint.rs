//! LEB128 variable-length integers, the shortest form only, so that every value has exactly one
//! encoding.
//!
//! Source: the unsigned LEB128 of DWARF 5, section 7.6. Signed values are mapped by zigzag first.

/// Most bytes that one integer takes.
pub(crate) const MAX_LEN: usize = 10;

/// Why no integer could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VarintError {
    /// The input ends inside the integer.
    Truncated,
    /// It is over 64 bits, or not in its shortest form.
    NotCanonical,
}

/// Appends `value`.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.push(low_byte(value));
}

/// Bytes that [`put`] appends for `value`.
pub(crate) const fn len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Takes an integer off the front of `input`, which is left as it was on an error.
pub(crate) fn take(input: &mut &[u8]) -> Result<u64, VarintError> {
    let mut value = 0_u64;
    for (index, &byte) in input.iter().take(MAX_LEN).enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte holds the 64th bit alone.
        if index == MAX_LEN - 1 && byte > 1 {
            return Err(VarintError::NotCanonical);
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return Err(VarintError::NotCanonical);
            }
            *input = &input[index + 1..];
            return Ok(value);
        }
    }
    Err(VarintError::Truncated)
}

/// Maps a signed to an unsigned integer, small magnitudes to small values.
pub(crate) const fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_encodings() {
        for (value, bytes) in [(0, &[0][..]), (127, &[0x7f]), (128, &[0x80, 1]), (300, &[0xac, 2])]
        {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn long_forms_and_oversized_values_are_refused() {
        for bytes in [
            &[0x80, 0][..],
            &[0xff, 0x80, 0],
            &[0xff; 10],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2],
        ] {
            assert_eq!(take(&mut &*bytes), Err(VarintError::NotCanonical));
        }
        for bytes in [&[][..], &[0x80], &[0xff; 9]] {
            assert_eq!(take(&mut &*bytes), Err(VarintError::Truncated));
        }
    }

    proptest! {
        #[test]
        fn round_trip(value: u64, signed: i64, shift in 0_u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            let mut input = &*out;
            prop_assert_eq!(take(&mut input), Ok(value));
            prop_assert!(input.is_empty());
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        }

        #[test]
        fn what_is_accepted_is_canonical(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut input = &*bytes;
            if let Ok(value) = take(&mut input) {
                let mut out = Vec::new();
                put(&mut out, value);
                prop_assert_eq!(&out[..], &bytes[..bytes.len() - input.len()]);
            }
        }
    }
}
