//! Nix's own configuration on this machine, read as Nix reads it: where its files are, what they set, whom its daemon
//! trusts. Nothing here writes, and none of it asks Nix.

mod files;
pub mod netrc;
mod settings;
mod user;

pub use files::NixFiles;
pub use settings::{NixSettings, same_substituter};
pub use user::{User, is_served_by_daemon};
