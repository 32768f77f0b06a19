//! NAR, the archive that Nix hashes, signs and ships. It holds one file, symlink or directory tree,
//! and nothing that could differ between two machines with the same tree.
//!
//! ```text
//! str(s)  = u64 LE length of s | s | zeros up to a multiple of 8
//! nar     = str("nix-archive-1") node
//! node    = str("(") str("type") body str(")")
//! body    = str("regular") [str("executable") str("")] str("contents") str(bytes)
//!         | str("symlink") str("target") str(bytes)
//!         | str("directory") { entry }
//! entry   = str("entry") str("(") str("name") str(bytes) str("node") node str(")")
//! ```
//!
//! Entries are sorted by the bytes of their names, and each name stands once. [`encode`] writes the
//! tokens. [`decode`] reads them back, and refuses everything that Nix would not have written.
//!
//! ```
//! use snowbank_core::nar::decode::{Decoder, Event};
//! use snowbank_core::nar::encode;
//!
//! let mut nar = Vec::new();
//! encode::magic(&mut nar);
//! encode::regular_start(&mut nar, true, 2);
//! nar.extend_from_slice(b"hi");
//! encode::regular_end(&mut nar, 2);
//! assert_eq!(nar.len() as u64, encode::MAGIC_LEN + encode::regular_len(true, 2));
//!
//! let mut contents = Vec::new();
//! let mut decoder = Decoder::new();
//! decoder.feed(&nar, &mut |event: Event<'_>| {
//!     if let Event::Data(bytes) = event {
//!         contents.extend_from_slice(bytes);
//!     }
//! })?;
//! decoder.finish()?;
//! assert_eq!(contents, b"hi");
//! # Ok::<(), snowbank_core::nar::decode::NarError>(())
//! ```
//!
//! File systems are left out.
//!
//! Source: Nix, `libutil/archive.cc` (`dump`, `parse`).

pub mod decode;
mod directories;
pub mod encode;
mod error;

/// The first token of every NAR.
const MAGIC: &str = "nix-archive-1";

/// Longest name of a directory entry, in bytes: that of every file system that Nix runs on.
pub const MAX_NAME_LEN: usize = 255;
/// Longest target of a symlink, in bytes: Linux's `PATH_MAX` less its NUL.
pub const MAX_TARGET_LEN: usize = 4_095;
/// Most directories inside each other: any path below Linux's `PATH_MAX` has fewer.
pub const MAX_DEPTH: usize = 2_048;
/// Largest file, in bytes: the largest that a file offset reaches.
pub const MAX_FILE_SIZE: u64 = i64::MAX as u64;

/// Zero bytes that follow a string of this length.
const fn padding(len: u64) -> usize {
    // The remainder of a division by 8 fits anything.
    (len.wrapping_neg() % 8) as usize
}
