//! narinfo: the text by which a binary cache describes one store path, a `Field: value` per line.
//!
//! Reading is stricter than Nix and never looser. The parser refuses a field that stands twice, a
//! value that does not fit its field, and a text whose last line is cut off. It keeps lines with
//! fields that it does not know as they are. A missing `Compression` means bzip2, as in Nix; writing always says it.
//! References are a set, sorted as Nix sorts them, since the signed fingerprint covers them in that
//! order. The caller decides which signatures to trust.
//!
//! ```
//! use snowbank_core::narinfo::NarInfo;
//! use snowbank_core::signing::SecretKey;
//! use snowbank_core::store_path::StoreDir;
//!
//! let store_dir = StoreDir::default();
//! let mut info = NarInfo::parse(
//!     &store_dir,
//!     "StorePath: /nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-hello-2.12.1\n\
//!      URL: nar/hello.nar.zst\n\
//!      Compression: zstd\n\
//!      NarHash: sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73\n\
//!      NarSize: 226560\n\
//!      References: 1b9p07z77phvv2hf6gm9f28syp39f1ag-hello-2.12.1\n",
//! )?;
//! assert_eq!(info.store_path.name(), "hello-2.12.1");
//!
//! // A cache signs the fingerprint, and its users verify it.
//! let key = SecretKey::from_seed("cache.example.org-1", [1; 32])?;
//! info.signatures.push(key.sign(info.fingerprint(&store_dir).as_bytes()));
//! let read = NarInfo::parse(&store_dir, &info.render(&store_dir))?;
//! let fingerprint = read.fingerprint(&store_dir);
//! assert!(key.public().verify(fingerprint.as_bytes(), &read.signatures[0]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Source: Nix, `libstore/nar-info.cc`, `libstore/path-info.cc` (`fingerprint`),
//! `libstore/content-address.cc`.

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::hash::{FileHash, NarHash, excerpt};
use crate::signing::Signature;
use crate::store_path::{StoreDir, StorePath};

mod parse;

pub use parse::NarInfoError;

/// What a binary cache says about one store path.
///
/// Texts in it must satisfy [`is_field_value`], and `ca` [`is_content_address`]: true of everything
/// that [`NarInfo::parse`] gives, and to be checked by whoever fills one with texts from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NarInfo {
    /// The path that is described.
    pub store_path: StorePath,
    /// Where its NAR is, relative to the cache or absolute.
    pub url: String,
    /// How the file at `url` is compressed: `none`, `zstd`, `xz`, `bzip2`, …
    pub compression: String,
    /// Digest of the file at `url`.
    pub file_hash: Option<FileHash>,
    /// Bytes of the file at `url`.
    pub file_size: Option<u64>,
    /// Digest of the NAR.
    pub nar_hash: NarHash,
    /// Bytes of the NAR, never 0.
    pub nar_size: u64,
    /// The store paths that this one needs, perhaps itself; sorted and distinct where parsed.
    pub references: Vec<StorePath>,
    /// The derivation that built it, if known.
    pub deriver: Option<StorePath>,
    /// The system for which it was built; Nix no longer writes it.
    pub system: Option<String>,
    /// Signatures of the fingerprint, as they stand.
    pub signatures: Vec<Signature>,
    /// The content address, for paths that have one.
    pub ca: Option<String>,
    /// Lines with fields that are not known here, such as `Provenance: {…}`, as they stand; each
    /// one satisfies [`is_extra_line`].
    pub extra: Vec<String>,
}

impl NarInfo {
    /// Reads a narinfo of a path in `store_dir`. Time and memory are linear in the text's length.
    ///
    /// # Errors
    /// [`NarInfoError`], naming the line and the field.
    pub fn parse(store_dir: &StoreDir, text: &str) -> Result<Self, NarInfoError> {
        let mut fields = parse::Fields::default();
        for (line, text) in (1..).zip(text.split_inclusive('\n')) {
            let Some(text) = text.strip_suffix('\n') else {
                return Err(NarInfoError::Truncated { line });
            };
            let (name, value) = text
                .split_once(':')
                .ok_or_else(|| NarInfoError::NoColon { line, text: excerpt(text) })?;
            fields.take(store_dir, line, name, value.strip_prefix(' ').unwrap_or(value))?;
        }
        fields.finish()
    }

    /// [`Self::parse`] for bytes.
    ///
    /// # Errors
    /// [`NarInfoError::NotUtf8`], else as [`Self::parse`].
    pub fn parse_bytes(store_dir: &StoreDir, bytes: &[u8]) -> Result<Self, NarInfoError> {
        let text = std::str::from_utf8(bytes).map_err(|error| NarInfoError::NotUtf8 {
            line: 1 + memchr::memchr_iter(b'\n', &bytes[..error.valid_up_to()]).count(),
        })?;
        Self::parse(store_dir, text)
    }

    /// The text, with its fields in Nix's order and references sorted; a missing deriver is left
    /// out.
    #[must_use]
    pub fn render(&self, store_dir: &StoreDir) -> String {
        let mut out = Text(String::with_capacity(
            512 + 128 * self.signatures.len() + 64 * self.references.len(),
        ));
        out.line("StorePath", format_args!("{store_dir}/{}", self.store_path));
        out.line("URL", &self.url);
        out.line("Compression", &self.compression);
        out.maybe("FileHash", self.file_hash);
        out.maybe("FileSize", self.file_size);
        out.line("NarHash", self.nar_hash);
        out.line("NarSize", self.nar_size);
        let references = sorted(&self.references);
        out.line("References", PathList { paths: &references, separator: " ", prefix: "" });
        out.maybe("Deriver", self.deriver.as_ref());
        out.maybe("System", self.system.as_ref());
        for signature in &self.signatures {
            out.line("Sig", signature);
        }
        out.maybe("CA", self.ca.as_ref());
        for line in &self.extra {
            out.0.push_str(line);
            out.0.push('\n');
        }
        out.0
    }

    /// The text that this narinfo's signatures are of.
    #[must_use]
    pub fn fingerprint(&self, store_dir: &StoreDir) -> String {
        fingerprint(store_dir, &self.store_path, &self.nar_hash, self.nar_size, &self.references)
    }
}

/// The text that Nix signs for a path: `1;<path>;<NAR hash>;<NAR size>;<references>`, with full
/// paths, the references as a sorted set (whatever the order here) with commas between them.
#[must_use]
pub fn fingerprint(
    store_dir: &StoreDir,
    store_path: &StorePath,
    nar_hash: &NarHash,
    nar_size: u64,
    references: &[StorePath],
) -> String {
    let prefix = format!("{store_dir}/");
    let references = sorted(references);
    let references = PathList { paths: &references, separator: ",", prefix: &prefix };
    format!("1;{prefix}{store_path};{nar_hash};{nar_size};{references}")
}

/// Whether `line` is a field that is not known here, in a form that every reader passes over: a name
/// of letters, digits and dashes, a colon, a space, and no control characters.
#[must_use]
pub fn is_extra_line(line: &str) -> bool {
    let Some((name, value)) = line.split_once(": ") else { return false };
    let is_name = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !parse::is_known(name);
    is_name && !value.chars().any(char::is_control)
}

/// Whether `text` can be the value of `URL`, `Compression` or `System`: not empty, no white space,
/// no control character.
#[must_use]
pub fn is_field_value(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Whether `text` is a content address as Nix writes it: `text:` or `fixed:`, the latter with `r:`
/// or `git:` behind it or without, then `<algorithm>:<digest>` in nix32, hex or base64. A narinfo
/// with any other is refused by Nix as a whole.
#[must_use]
pub fn is_content_address(text: &str) -> bool {
    let digest = if let Some(digest) = text.strip_prefix("text:") {
        digest
    } else if let Some(rest) = text.strip_prefix("fixed:") {
        rest.strip_prefix("r:").or_else(|| rest.strip_prefix("git:")).unwrap_or(rest)
    } else {
        return false;
    };
    let Some((algorithm, digest)) = digest.split_once(':') else {
        return false;
    };
    let bytes: usize = match algorithm {
        "md5" => 16,
        "sha1" => 20,
        "sha256" | "blake3" => 32,
        "sha512" => 64,
        _ => return false,
    };
    match digest.len() {
        len if len == (bytes * 8).div_ceil(5) => nix_base32::from_nix_base32(digest).is_some(),
        len if len == bytes * 2 => digest.bytes().all(|byte| byte.is_ascii_hexdigit()),
        _ => BASE64.decode(digest).is_ok_and(|decoded| decoded.len() == bytes),
    }
}

fn sorted(references: &[StorePath]) -> Vec<&StorePath> {
    let mut sorted: Vec<_> = references.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}

/// Paths with a separator between them and a prefix before each.
struct PathList<'a> {
    paths: &'a [&'a StorePath],
    separator: &'static str,
    prefix: &'a str,
}

impl fmt::Display for PathList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, path) in self.paths.iter().enumerate() {
            let separator = if at == 0 { "" } else { self.separator };
            write!(f, "{separator}{}{path}", self.prefix)?;
        }
        Ok(())
    }
}

/// A narinfo's text while it is written.
struct Text(String);

impl Text {
    fn line(&mut self, field: &str, value: impl fmt::Display) {
        // Writing to a `String` fails only if the value's `Display` does, and those used here do
        // not.
        let _ = writeln!(self.0, "{field}: {value}");
    }

    fn maybe(&mut self, field: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.line(field, value);
        }
    }
}
