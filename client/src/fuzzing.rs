//! For the fuzz targets in `tests/fuzz`: readers and editors of text from outside that the rest of
//! the world has no use for.

use snowbank_core::store_path::StoreDir;

use crate::commands::push::input;
use crate::commands::use_cache::netrc::{self, NetrcEdit};
use crate::commands::use_cache::nix_conf::{self, Block};
use crate::config::Secret;
use crate::store::derivation;

/// What `snowbank use` makes of a netrc file that is to have a token.
#[derive(Debug, PartialEq, Eq)]
pub enum Netrc {
    /// The new text.
    Text(String),
    /// It has the token already, or nothing to take out.
    Same,
    /// Somebody else's entry counts.
    Foreign,
    /// It is no file that curl reads.
    Refused,
}

impl From<NetrcEdit> for Netrc {
    fn from(edited: NetrcEdit) -> Self {
        match edited {
            NetrcEdit::Text(text) => Self::Text(text.to_string()),
            NetrcEdit::Same => Self::Same,
            NetrcEdit::Foreign => Self::Foreign,
        }
    }
}

/// A netrc file with an entry of ours for `host`. `token` has to be one.
#[must_use]
pub fn netrc_with_entry(text: &str, host: &str, token: &str) -> Netrc {
    let Some(token) = Secret::from_text(token) else { return Netrc::Refused };
    netrc::with_entry(text, host, &token).map_or(Netrc::Refused, Netrc::from)
}

/// A netrc file without our entries for `host`.
#[must_use]
pub fn netrc_without_entry(text: &str, host: &str) -> String {
    match netrc::without_entry(text, host) {
        NetrcEdit::Text(new) => new.to_string(),
        NetrcEdit::Same | NetrcEdit::Foreign => text.to_owned(),
    }
}

/// A nix.conf with a block for a substituter and its key. `None` where a person has to look at it.
#[must_use]
pub fn nix_conf_with_block(text: &str, substituter: &str, key: &str) -> Option<String> {
    let block = Block {
        substituter: substituter.to_owned(),
        priority: None,
        client_certificate: None,
        public_keys: vec![key.to_owned()],
        netrc_file: None,
    };
    nix_conf::with_block(text, &block).ok()
}

/// A nix.conf without the block of a substituter. `None` where it has none, or where a person has
/// to look at it.
#[must_use]
pub fn nix_conf_without_block(text: &str, substituter: &str) -> Option<String> {
    nix_conf::without_block(text, substituter).ok().flatten()
}

/// The substituters that have a block in a nix.conf.
#[must_use]
pub fn nix_conf_substituters(text: &str) -> Vec<&str> {
    nix_conf::substituters(text)
}

/// Whether the derivation that `text` begins has an output without a path.
#[must_use]
pub fn has_unnamed_output(text: &str) -> bool {
    derivation::has_unnamed_output(text)
}

/// The installables in the lines of a push's standard input.
#[must_use]
pub fn installables<'t>(text: &'t str, store_dir: &StoreDir) -> Vec<&'t str> {
    input::in_lines(text, store_dir)
}
