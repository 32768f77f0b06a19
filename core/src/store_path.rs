//! Store paths: `/nix/store/<hash>-<name>`, and their parts.
//!
//! A [`StorePath`] is a valid base name directly in a store directory. The [`StoreDir`] is a value
//! of its own. Store paths sort by their text, as in Nix, since signatures cover sorted references.
//!
//! ```
//! use snowbank_core::store_path::{StoreDir, StorePath};
//!
//! let store_dir = StoreDir::default();
//! let text = "/nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-hello-2.12.1";
//! let path = StorePath::parse(&store_dir, text)?;
//! assert_eq!(path.name(), "hello-2.12.1");
//! assert_eq!(path.hash().to_string(), "1b9p07z77phvv2hf6gm9f28syp39f1ag");
//! assert_eq!(path.full(&store_dir), text);
//! assert!(StorePath::parse(&store_dir, "/nix/store/hello").is_err());
//! # Ok::<(), snowbank_core::store_path::StorePathError>(())
//! ```
//!
//! Output names (`.drv^out`), paths below a store path, and the making of hashes from derivations
//! are left out.
//!
//! Source: Nix, `libstore/path.cc`.

use std::fmt;
use std::str::FromStr;

use crate::hash::{excerpt, serde_as_text};

mod hash;

pub use hash::{HASH_BYTES, HASH_CHARS, StorePathHash, is_nix32_char};

/// The longest name that Nix takes, in bytes.
pub const MAX_NAME_LEN: usize = 211;
/// The longest store directory that is taken, in bytes.
const MAX_STORE_DIR_LEN: usize = 1_024;

/// Why a text is not a store path, or not one of the expected store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorePathError {
    /// The text is not a usable store directory.
    #[error(
        "`{0}` is not a store directory: expected an absolute path such as `/nix/store`, without \
         `.`, `..`, `//`, a slash at its end, white space, `,` or `;`"
    )]
    BadStoreDir(String),
    /// The text is not directly in the store directory.
    #[error("`{path}` is not a path directly in the store directory `{store_dir}`")]
    NotInStore {
        /// The path, as given.
        path: String,
        /// The store directory in which it should be.
        store_dir: StoreDir,
    },
    /// What should be a hash is not 32 nix32 characters.
    #[error(
        "`{0}` does not begin with a store hash (32 characters of 0-9 and a-z without e, o, t and \
         u)"
    )]
    BadHash(String),
    /// There is no `-` behind the hash.
    #[error("`{0}` is not a store path: no `-` behind its hash")]
    NoName(String),
    /// The name is empty, too long, or has characters or a beginning that Nix refuses.
    #[error(
        "`{0}` is not a store path: its name must be 1 to 211 characters of 0-9, A-Z, a-z and \
         +-._?= and its first part neither `.` nor `..`"
    )]
    BadName(String),
}

/// The directory that a store's paths are in, `/nix/store` unless said otherwise; part of every
/// path's identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreDir(String);

impl StoreDir {
    /// Takes an absolute path in its plainest form. Characters that would be ambiguous in a narinfo
    /// or in the text that is signed (white space, control characters, `,`, `;`) are refused.
    ///
    /// # Errors
    /// [`StorePathError::BadStoreDir`].
    pub fn new(path: &str) -> Result<Self, StorePathError> {
        let ambiguous = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | ';');
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        let valid = path.len() <= MAX_STORE_DIR_LEN
            && !path.contains(ambiguous)
            && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain));
        if valid {
            Ok(Self(path.to_owned()))
        } else {
            Err(StorePathError::BadStoreDir(excerpt(path)))
        }
    }

    /// The directory's path, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for StoreDir {
    fn default() -> Self {
        Self("/nix/store".to_owned())
    }
}

impl FromStr for StoreDir {
    type Err = StorePathError;

    fn from_str(text: &str) -> Result<Self, StorePathError> {
        Self::new(text)
    }
}

impl fmt::Display for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path directly in a store directory, without the directory; its text is the base name
/// `<hash>-<name>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorePath {
    // In this order: a derived comparison is then that of the base name.
    hash: StorePathHash,
    name: Box<str>,
}

impl StorePath {
    /// Reads `<hash>-<name>`.
    ///
    /// # Errors
    /// [`StorePathError::BadHash`], [`StorePathError::NoName`] or [`StorePathError::BadName`].
    pub fn from_base_name(text: &str) -> Result<Self, StorePathError> {
        let hash = text
            .as_bytes()
            .get(..HASH_CHARS)
            .and_then(StorePathHash::from_chars)
            .ok_or_else(|| StorePathError::BadHash(excerpt(text)))?;
        // In range and at a character's boundary, since 32 ASCII characters stand before it.
        let name = text[HASH_CHARS..]
            .strip_prefix('-')
            .ok_or_else(|| StorePathError::NoName(excerpt(text)))?;
        if !is_valid_name(name) {
            return Err(StorePathError::BadName(excerpt(text)));
        }
        Ok(Self { hash, name: name.into() })
    }

    /// Reads the full path of something directly in `store_dir`.
    ///
    /// # Errors
    /// [`StorePathError::NotInStore`] for anything elsewhere or below a store path, else as
    /// [`Self::from_base_name`].
    pub fn parse(store_dir: &StoreDir, path: &str) -> Result<Self, StorePathError> {
        let base_name =
            path.strip_prefix(store_dir.as_str()).and_then(|rest| rest.strip_prefix('/'));
        match base_name {
            Some(base_name) if !base_name.contains('/') => Self::from_base_name(base_name),
            _ => Err(StorePathError::NotInStore {
                path: excerpt(path),
                store_dir: store_dir.clone(),
            }),
        }
    }

    /// The hash, by which a binary cache names the path.
    #[must_use]
    pub const fn hash(&self) -> StorePathHash {
        self.hash
    }

    /// What stands behind the hash and its `-`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `<hash>-<name>`.
    #[must_use]
    pub fn base_name(&self) -> String {
        self.to_string()
    }

    /// `<store dir>/<hash>-<name>`.
    #[must_use]
    pub fn full(&self, store_dir: &StoreDir) -> String {
        format!("{store_dir}/{self}")
    }
}

/// Nix's rule for names (`libstore/path.cc`, `checkName`).
fn is_valid_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte);
    let first_part = name.split('-').next().unwrap_or_default();
    (1..=MAX_NAME_LEN).contains(&name.len())
        && name.bytes().all(allowed)
        && !matches!(first_part, "." | "..")
}

impl FromStr for StorePath {
    type Err = StorePathError;

    fn from_str(text: &str) -> Result<Self, StorePathError> {
        Self::from_base_name(text)
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.hash, self.name)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text! {
    StoreDir: "a store directory such as `/nix/store`",
    StorePath: "a store path's base name `<hash>-<name>`",
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0q43idch209zsdngl8yl79x0y79aajib";

    fn path(name: &str) -> Result<StorePath, StorePathError> {
        StorePath::from_base_name(&format!("{HASH}-{name}"))
    }

    #[test]
    fn parts_of_a_path() {
        let store_dir = StoreDir::default();
        let path = StorePath::parse(&store_dir, &format!("/nix/store/{HASH}-nix-2.8.1")).unwrap();
        assert_eq!(path.name(), "nix-2.8.1");
        assert_eq!(path.hash().to_string(), HASH);
        assert_eq!(path.base_name(), format!("{HASH}-nix-2.8.1"));
        assert_eq!(path.full(&store_dir), format!("/nix/store/{HASH}-nix-2.8.1"));
    }

    #[test]
    fn names_follow_the_rule_of_nix() {
        for name in ["a", "-", ".a", "..a", "...", "...-", "a.", "-.", "+-._?=", &"x".repeat(211)] {
            assert_eq!(path(name).map(|path| path.name().to_owned()), Ok(name.to_owned()));
        }
        for name in [
            "",
            ".",
            "..",
            ".-a",
            "..-",
            "a b",
            "a/b",
            "a\n",
            "ä",
            "a~",
            "a*",
            "a\0",
            &"x".repeat(212),
        ] {
            assert!(matches!(path(name), Err(StorePathError::BadName(_))), "{name:?}");
        }
    }

    #[test]
    fn hashes_are_exactly_32_characters_of_the_alphabet() {
        for text in [
            "",
            "a",
            "0q43idch209zsdngl8yl79x0y79aajie-x",
            "0Q43idch209zsdngl8yl79x0y79aajib-x",
            "é",
        ] {
            assert!(
                matches!(StorePath::from_base_name(text), Err(StorePathError::BadHash(_))),
                "{text}"
            );
        }
        assert!(matches!(StorePath::from_base_name(HASH), Err(StorePathError::NoName(_))));
        assert!(matches!(
            StorePath::from_base_name(&format!("{HASH}a-x")),
            Err(StorePathError::NoName(_))
        ));
        assert!(matches!(
            StorePath::from_base_name(&format!("{HASH}é")),
            Err(StorePathError::NoName(_))
        ));
    }

    #[test]
    fn only_paths_directly_in_the_store_are_taken() {
        let store_dir = StoreDir::new("/gnu/store").unwrap();
        for text in
            ["", "/gnu/store", "/gnu/store/", "/gnu/storeX", &format!("/nix/store/{HASH}-a")]
        {
            assert!(StorePath::parse(&store_dir, text).is_err(), "{text}");
        }
        for text in [
            "HASH-a",
            "/gnu/store/HASH-a/",
            "/gnu/store/HASH-a/b",
            "/gnu/store//HASH-a",
            "/gnu/storeHASH-a",
        ] {
            let error = StorePath::parse(&store_dir, &text.replace("HASH", HASH)).unwrap_err();
            assert!(matches!(error, StorePathError::NotInStore { .. }), "{text}");
        }
        assert!(StorePath::parse(&store_dir, &format!("/gnu/store/{HASH}-a")).is_ok());
    }

    #[test]
    fn store_directories_are_plain_absolute_paths() {
        for text in
            ["/nix/store", "/a", "/home/jürgen/.nix/store", "/tmp/x y".replace(' ', "_").as_str()]
        {
            assert_eq!(StoreDir::new(text).unwrap().as_str(), text);
        }
        for text in [
            "",
            "/",
            "nix/store",
            "/nix/store/",
            "/nix//store",
            "/nix/./store",
            "/..",
            "/a b",
            "/a\n",
            "/a;b",
            "/a,b",
        ] {
            assert!(StoreDir::new(text).is_err(), "{text}");
        }
        assert!(StoreDir::new(&format!("/{}", "x".repeat(1_024))).is_err());
    }
}
