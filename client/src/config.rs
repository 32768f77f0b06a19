//! Which server a cache is on, and the token for it.
//!
//! Sources, the stronger first: the command line; `SNOWBANK_URL`, `SNOWBANK_TOKEN`,
//! `SNOWBANK_TOKEN_FILE`, `SNOWBANK_CLIENT_CERTIFICATE_FILE` and `SNOWBANK_CLIENT_KEY_FILE`;
//! `--config`, or else the user's `client.toml`; `/etc/snowbank/client.toml`. Invariant: a token or
//! a certificate from the environment goes to the server of `SNOWBANK_URL`, if that is set, and to
//! no other.

mod atomic;
mod attributes;
mod client_certificate;
mod edit;
mod env;
mod error;
mod file;
mod lock;
mod path_filter;
mod paths;
mod secret;
mod target;
mod token;

pub(crate) use atomic::{write_atomically, write_copy, write_secret};
pub use client_certificate::ClientCertificate;
pub use edit::{Login, remember};
pub use env::Environment;
pub use error::ConfigError;
pub use file::{ClientConfig, Server, ServerName, normalized_url};
pub(crate) use lock::FolderLock;
pub use path_filter::{NamePattern, PathFilter, PatternError};
pub(crate) use paths::{config_home, system_config};
pub use secret::Secret;
pub use target::{Target, TargetServer, resolve_server, resolve_target, split_cache_reference};
pub(crate) use token::read_token;
pub use token::{TokenSource, read_token_file};
