//! The fields of a narinfo, one by one, and what can be wrong with them.

use std::fmt;

use super::{NarInfo, is_content_address, is_extra_line, is_field_value};
use crate::hash::{FileHash, NarHash, excerpt};
use crate::signing::Signature;
use crate::store_path::{StoreDir, StorePath};

/// Why a text is not a narinfo. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoError {
    /// The bytes are not UTF-8.
    #[error("narinfo is not UTF-8 text (line {line})")]
    NotUtf8 {
        /// Where.
        line: usize,
    },
    /// A line has no `:`.
    #[error("narinfo line {line}: no `:` in `{text}`")]
    NoColon {
        /// Where.
        line: usize,
        /// The beginning of the line.
        text: String,
    },
    /// The last line has no end: the text was cut off.
    #[error("narinfo line {line}: the text ends within the line")]
    Truncated {
        /// Where.
        line: usize,
    },
    /// A field that may stand once stands again.
    #[error("narinfo line {line}: `{field}` stands there a second time")]
    Duplicate {
        /// Where the second one is.
        line: usize,
        /// Which field.
        field: &'static str,
    },
    /// A field's value is not what the field holds.
    #[error("narinfo line {line}: bad `{field}`: {reason}")]
    BadValue {
        /// Where.
        line: usize,
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A field without which there is no narinfo is not there.
    #[error("narinfo has no `{field}`")]
    Missing {
        /// Which field.
        field: &'static str,
    },
}

/// The fields that may stand once.
const SINGLE: [&str; 11] = [
    "StorePath",
    "URL",
    "Compression",
    "FileHash",
    "FileSize",
    "NarHash",
    "NarSize",
    "References",
    "Deriver",
    "System",
    "CA",
];

/// Whether there is such a field.
pub(super) fn is_known(name: &str) -> bool {
    name == "Sig" || SINGLE.contains(&name)
}

/// The fields read so far.
#[derive(Default)]
pub(super) struct Fields {
    seen: Vec<&'static str>,
    store_path: Option<StorePath>,
    url: Option<String>,
    compression: Option<String>,
    file_hash: Option<FileHash>,
    file_size: Option<u64>,
    nar_hash: Option<NarHash>,
    nar_size: Option<u64>,
    references: Vec<StorePath>,
    deriver: Option<StorePath>,
    system: Option<String>,
    signatures: Vec<Signature>,
    ca: Option<String>,
    extra: Vec<String>,
}

impl Fields {
    pub(super) fn take(
        &mut self,
        store_dir: &StoreDir,
        line: usize,
        name: &str,
        value: &str,
    ) -> Result<(), NarInfoError> {
        if name == "Sig" {
            self.signatures.push(checked(line, "Sig", value.parse())?);
            return Ok(());
        }
        let Some(&field) = SINGLE.iter().find(|&&field| field == name) else {
            let text = format!("{name}: {value}");
            if is_extra_line(&text) {
                self.extra.push(text);
            }
            return Ok(());
        };
        if self.seen.contains(&field) {
            return Err(NarInfoError::Duplicate { line, field });
        }
        self.seen.push(field);
        match field {
            "StorePath" => {
                self.store_path = Some(checked(line, field, StorePath::parse(store_dir, value))?);
            }
            "URL" => self.url = Some(checked(line, field, plain(value))?),
            "Compression" => self.compression = checked(line, field, unless_empty(value, plain))?,
            "FileHash" => self.file_hash = Some(checked(line, field, value.parse())?),
            "FileSize" => self.file_size = Some(checked(line, field, number(value))?),
            "NarHash" => self.nar_hash = Some(checked(line, field, value.parse())?),
            "NarSize" => self.nar_size = Some(checked(line, field, nar_size(value))?),
            "References" => self.references = checked(line, field, references(value))?,
            "Deriver" => self.deriver = checked(line, field, deriver(value))?,
            "System" => self.system = Some(checked(line, field, plain(value))?),
            _ => self.ca = checked(line, field, unless_empty(value, content_address))?,
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<NarInfo, NarInfoError> {
        let missing = |field| NarInfoError::Missing { field };
        Ok(NarInfo {
            store_path: self.store_path.ok_or_else(|| missing("StorePath"))?,
            url: self.url.ok_or_else(|| missing("URL"))?,
            compression: self.compression.unwrap_or_else(|| DEFAULT_COMPRESSION.to_owned()),
            file_hash: self.file_hash,
            file_size: self.file_size,
            nar_hash: self.nar_hash.ok_or_else(|| missing("NarHash"))?,
            nar_size: self.nar_size.ok_or_else(|| missing("NarSize"))?,
            references: self.references,
            deriver: self.deriver,
            system: self.system,
            signatures: self.signatures,
            ca: self.ca,
            extra: self.extra,
        })
    }
}

/// What a narinfo without `Compression` means.
const DEFAULT_COMPRESSION: &str = "bzip2";

/// A field's value, or what is wrong with it and where.
fn checked<T, E: fmt::Display>(
    line: usize,
    field: &'static str,
    value: Result<T, E>,
) -> Result<T, NarInfoError> {
    value.map_err(|error| NarInfoError::BadValue { line, field, reason: error.to_string() })
}

fn unless_empty<T>(value: &str, read: fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if value.is_empty() { Ok(None) } else { read(value).map(Some) }
}

fn plain(value: &str) -> Result<String, String> {
    if is_field_value(value) {
        Ok(value.to_owned())
    } else {
        Err(format!("`{}` is empty or has white space or control characters in it", excerpt(value)))
    }
}

fn number(value: &str) -> Result<u64, String> {
    // `u64::from_str` would take a `+`.
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value
        .parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| format!("`{}` is not a whole number below 2^64", excerpt(value)))
}

fn nar_size(value: &str) -> Result<u64, String> {
    match number(value)? {
        0 => Err("no NAR has 0 bytes".to_owned()),
        size => Ok(size),
    }
}

fn references(value: &str) -> Result<Vec<StorePath>, String> {
    let mut references = value
        .split(' ')
        .filter(|reference| !reference.is_empty())
        .map(|reference| StorePath::from_base_name(reference).map_err(|error| error.to_string()))
        .collect::<Result<Vec<_>, _>>()?;
    references.sort_unstable();
    references.dedup();
    Ok(references)
}

fn deriver(value: &str) -> Result<Option<StorePath>, String> {
    if matches!(value, "" | "unknown-deriver") {
        return Ok(None);
    }
    StorePath::from_base_name(value).map(Some).map_err(|error| error.to_string())
}

fn content_address(value: &str) -> Result<String, String> {
    if is_content_address(value) {
        Ok(value.to_owned())
    } else {
        Err(format!("`{}` is not a content address such as `fixed:r:sha256:…`", excerpt(value)))
    }
}
