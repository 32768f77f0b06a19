//! How Nix finds an output when it substitutes: by a store path that the derivation names, or by a
//! realisation.
//!
//! Source: Nix's `derivations.cc`, `Derivation::unparse`. A derivation begins with its outputs,
//! each `("name","path","algorithm", "hash")`. Where an output's path follows from its contents, or
//! from those of what it is built from, the path is empty, and Nix asks caches for
//! `/realisations/…` first. Nothing else of a derivation is read here.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use snowbank_core::store_path::StorePath;

use super::location::Location;
use super::{PathInfo, Store, StoreOptions};

/// As much of a derivation is read as its outputs take.
const MAX_OUTPUTS_BYTES: u64 = 64 << 10;

impl Store {
    /// Whether the path is an output that its derivation does not name, so far as the derivation is
    /// there.
    #[must_use]
    pub fn is_found_by_realisation(&self, info: &PathInfo) -> bool {
        let Some(derivation) = &info.deriver else { return false };
        read(&self.real_path(derivation)).is_ok_and(|text| has_unnamed_output(&text))
    }
}

impl StoreOptions {
    /// The outputs that the derivation `store_path` names and whose files are there, in full. Nix
    /// is not asked. Empty for a derivation that cannot be read.
    #[must_use]
    pub fn built_outputs(&self, store_path: &str) -> Vec<String> {
        let Ok(location) = Location::find(self.uri.as_deref()) else { return Vec::new() };
        let Ok(derivation) = StorePath::parse(&location.store_dir, store_path) else {
            return Vec::new();
        };
        let text = read(&location.real_dir.join(derivation.base_name())).unwrap_or_default();
        let is_there = |output: &&str| {
            let parsed = StorePath::parse(&location.store_dir, output);
            parsed.is_ok_and(|path| {
                location.real_dir.join(path.base_name()).symlink_metadata().is_ok()
            })
        };
        outputs(&text).filter(is_there).map(str::to_owned).collect()
    }
}

/// The begin of a derivation.
fn read(file: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(file)?.take(MAX_OUTPUTS_BYTES).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Whether the derivation that `text` begins has an output without a path.
pub(crate) fn has_unnamed_output(text: &str) -> bool {
    outputs(text).any(str::is_empty)
}

/// The paths of the outputs of the derivation that `text` begins; empty where it names none.
fn outputs(text: &str) -> impl Iterator<Item = &str> {
    let (head, outputs) = text.split_once('[').unwrap_or_default();
    let is_derivation = head.starts_with("Derive(") || head.starts_with("DrvWithVersion(");
    let outputs = outputs.split(']').next().filter(|_| is_derivation).unwrap_or_default();
    // Neither names, paths, algorithms nor hashes have quotes, commas or brackets.
    let fields = outputs.split('(').skip(1);
    fields.filter_map(|output| Some(output.split(',').nth(1)?.trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::{has_unnamed_output, outputs};

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

    #[test]
    fn outputs_are_named_by_a_derivation() {
        let text =
            r#"Derive([("dev","/nix/store/x-dev","",""),("out","/nix/store/x","","")],[],[])"#;
        assert_eq!(outputs(text).collect::<Vec<_>>(), ["/nix/store/x-dev", "/nix/store/x"]);
    }
}
