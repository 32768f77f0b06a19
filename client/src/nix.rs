//! Nix's own configuration on this machine: where its files are, what they set, whom its daemon
//! trusts, read as Nix reads it; and what Nix itself says of it. Nothing here writes.

mod effective;
mod files;
pub mod netrc;
pub mod program;
mod settings;
mod user;

pub use effective::{EffectiveSettings, Scope};
pub use files::NixFiles;
pub use settings::{NixSettings, Origin, same_substituter};
pub use user::{User, is_allowed_to_untrusted, is_served_by_daemon};
