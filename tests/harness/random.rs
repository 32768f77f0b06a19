//! Random numbers that can be had again: every generator prints its seed, and `SNOWBANK_TEST_SEED`
//! sets it.
//!
//! The generator is `SplitMix64` (Steele, Lea, Flood 2014): fast, and good enough to choose moments
//! and fill files.

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator from `SNOWBANK_TEST_SEED`, else from the system; says on standard error which,
    /// so that a failed run can be repeated.
    #[must_use]
    pub fn announced(what: &str) -> Self {
        let seed = std::env::var("SNOWBANK_TEST_SEED").map_or_else(
            |_| {
                getrandom::u64()
                    .unwrap_or_else(|e| panic!("the system gives no random number: {e}"))
            },
            |text| text.parse().unwrap_or_else(|e| panic!("SNOWBANK_TEST_SEED={text}: {e}")),
        );
        eprintln!("{what}: SNOWBANK_TEST_SEED={seed}");
        Self(seed)
    }

    /// A generator that always gives the same numbers.
    #[must_use]
    pub const fn fixed(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// `len` bytes that do not compress.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// 32 characters of Nix's base 32: a store path's hash.
    pub fn hash_chars(&mut self) -> String {
        const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
        (0..32).map(|_| char::from(ALPHABET[(self.next() >> 59) as usize])).collect()
    }

    /// Text in words that compresses as text does, of about `len` bytes.
    pub fn text(&mut self, len: usize) -> Vec<u8> {
        const WORDS: [&str; 16] = [
            "snow", "bank", "deposit", "receipt", "store", "path", "chunk", "pack", "manifest",
            "closure", "narinfo", "token", "cache", "frame", "slot", "\n",
        ];
        let mut text = Vec::with_capacity(len + 24);
        while text.len() < len {
            let number = self.next();
            text.extend_from_slice(WORDS[(number >> 60) as usize].as_bytes());
            if number.is_multiple_of(8) {
                text.extend_from_slice(format!(" {:x}", number >> 32 & 0xffff).as_bytes());
            }
            text.push(b' ');
        }
        text.truncate(len);
        text
    }
}
