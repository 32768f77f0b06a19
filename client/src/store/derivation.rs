//! How Nix finds an output when it substitutes: by a store path that the derivation names, or by a
//! realisation.
//!
//! Source: Nix's `derivations.cc`, `Derivation::unparse`. A derivation begins with its outputs,
//! each `("name","path","algorithm", "hash")`. Where an output's path follows from its contents, or
//! from those of what it is built from, the path is empty, and Nix asks caches for
//! `/realisations/…` first. Nothing else of a derivation is read here.

use std::fs::File;
use std::io::Read as _;

use super::{PathInfo, Store};

/// As much of a derivation is read as its outputs take.
const MAX_OUTPUTS_BYTES: u64 = 64 << 10;

impl Store {
    /// Whether the path is an output that its derivation does not name, so far as the derivation is
    /// there.
    #[must_use]
    pub fn is_found_by_realisation(&self, info: &PathInfo) -> bool {
        let Some(derivation) = &info.deriver else { return false };
        let mut text = Vec::new();
        let read = File::open(self.real_path(derivation))
            .and_then(|file| file.take(MAX_OUTPUTS_BYTES).read_to_end(&mut text));
        read.is_ok() && has_unnamed_output(&String::from_utf8_lossy(&text))
    }
}

/// Whether the derivation that `text` begins has an output without a path.
pub(crate) fn has_unnamed_output(text: &str) -> bool {
    let Some((head, outputs)) = text.split_once('[') else { return false };
    let is_derivation = head.starts_with("Derive(") || head.starts_with("DrvWithVersion(");
    let outputs = outputs.split(']').next().unwrap_or_default();
    // Neither names, paths, algorithms nor hashes have quotes, commas or brackets.
    is_derivation
        && outputs.split('(').skip(1).any(|output| output.split(',').nth(1) == Some("\"\""))
}

#[cfg(test)]
mod tests {
    use super::has_unnamed_output;

    #[test]
    fn outputs_without_a_path_are_found() {
        for (text, expected) in [
            (
                r#"Derive([("out","/nix/store/x-a","","")],[],["/nix/s"],"x","b",[],[("out","")])"#,
                false,
            ),
            (r#"Derive([("out","/nix/store/x-a","r:sha256","ab")],[],[],"x","b",[],[])"#, false),
            (r#"Derive([("out","","r:sha256","")],[],[],"x","b",[],[])"#, true),
            (
                r#"Derive([("dev","/nix/store/x-dev","",""),("out","","","")],[],[],"x","b",[],[])"#,
                true,
            ),
            (
                r#"DrvWithVersion("xp-dyn-drv",[("out","","text:sha256","")],[],[],"x","b",[],[])"#,
                true,
            ),
            ("anything [(a,\"\")]", false),
            ("", false),
        ] {
            assert_eq!(has_unnamed_output(text), expected, "{text}");
        }
    }
}
