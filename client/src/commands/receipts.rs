//! The receipts file that `verify-receipts` and `fetch` read, and the keys that sign receipts.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use anyhow::anyhow;
use snowbank_core::receipt::{Receipt, ReceiptLine};
use snowbank_core::signing::PublicKey;
use snowbank_core::wire::CacheInfo;

use crate::config::ConfigError;
use crate::exit::{Exit, Failure};

/// The contents of a receipts file.
pub(super) struct ReceiptFile {
    /// The lines, in their order.
    pub(super) lines: Vec<ReceiptLine>,
    /// Lines of another form, by number, and what is wrong with each.
    pub(super) broken: Vec<(usize, String)>,
}

impl ReceiptFile {
    /// Reads a file that has to have lines. `-` is standard input.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let file = Self::parse(path)?;
        if file.lines.is_empty() && file.broken.is_empty() {
            let message = format!(
                "{} is empty, so nothing was verified; name the file that `push --receipts` wrote",
                path.display()
            );
            return Err(Failure::new(Exit::Usage, anyhow!(message)));
        }
        Ok(file)
    }

    fn parse(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let input: Box<dyn BufRead> = if path == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            Box::new(BufReader::new(File::open(path).map_err(failed)?))
        };
        let mut file = Self { lines: Vec::new(), broken: Vec::new() };
        for (index, line) in input.lines().enumerate() {
            let line = line.map_err(failed)?;
            if line.trim().is_empty() {
                continue;
            }
            match serde_json::from_str(&line) {
                Ok(line) => file.lines.push(line),
                Err(error) => file.broken.push((index + 1, error.to_string())),
            }
        }
        Ok(file)
    }
}

/// The keys of a cache by which receipts may be signed.
pub(super) struct ReceiptKeys(Vec<PublicKey>);

impl ReceiptKeys {
    /// The keys that `info` names, also those that sign no more. Keys that are `pinned` replace
    /// them.
    pub(super) fn of(info: &CacheInfo, pinned: &[PublicKey]) -> Result<Self, Failure> {
        if !pinned.is_empty() {
            return Ok(Self(pinned.to_vec()));
        }
        let named = info.public_keys.iter().chain(&info.retired_keys);
        Ok(Self(named.map(|key| key_of_server(key)).collect::<Result<_, _>>()?))
    }

    /// These keys.
    #[cfg(test)]
    pub(super) const fn of_keys(keys: Vec<PublicKey>) -> Self {
        Self(keys)
    }

    /// The name of a key that signed `receipt`.
    pub(super) fn signer(&self, receipt: &Receipt) -> Result<String, NotSigned> {
        match receipt.signed_by(&self.0) {
            Some(key) => Ok(key.name().to_owned()),
            None => Err(NotSigned {
                claimed: receipt
                    .signatures
                    .iter()
                    .map(|signature| signature.name().to_owned())
                    .collect(),
            }),
        }
    }
}

/// A receipt without a signature that counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotSigned {
    /// The keys that it claims.
    pub(super) claimed: Vec<String>,
}

impl fmt::Display for NotSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.claimed.is_empty() {
            return f.write_str("the receipt is not signed");
        }
        write!(
            f,
            "no valid signature by a key of the cache (signed in the name of {})",
            self.claimed.join(", ")
        )
    }
}

/// A key that a server names.
pub(super) fn key_of_server(key: &str) -> Result<PublicKey, Failure> {
    key.parse().map_err(|error| {
        Failure::new(Exit::Server, anyhow!("the server says its key is {key:?}: {error}"))
    })
}

/// The keys that `--public-key` gives.
pub(super) fn pinned_keys(keys: &[String]) -> Result<Vec<PublicKey>, Failure> {
    let parse = |key: &String| {
        key.parse::<PublicKey>().map_err(|error| {
            Failure::new(Exit::Usage, error).context(format!("--public-key {key:?}"))
        })
    };
    keys.iter().map(parse).collect()
}
