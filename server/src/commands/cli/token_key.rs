//! The command line of `snowbankd token-key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::{TokenAlgorithm, parse_kid};

#[derive(Debug, Subcommand)]
pub(in crate::commands) enum TokenKeyCommand {
    /// Add a key, made here or read from a file. New tokens are signed with it; tokens of older
    /// keys stay valid.
    Add(TokenKeyAddArgs),
    /// List the keys, and how many valid tokens each has signed.
    List,
    /// Believe a key no more: its tokens are refused by every server within 5 seconds.
    Retire {
        /// The key's id.
        kid: String,
    },
    /// Remove a key for good; its tokens are refused as well.
    Remove(TokenKeyRemoveArgs),
}

#[derive(Debug, Args)]
pub(in crate::commands) struct TokenKeyAddArgs {
    /// What it is for: HS256, RS256, ES256 or EdDSA [default: what the key in the file is for;
    /// HS256 for a new one].
    #[arg(long, value_name = "ALGORITHM")]
    pub algorithm: Option<TokenAlgorithm>,
    /// A key to read: in PEM a private key, or a public one, which only verifies; else a secret for
    /// HS256, at least 32 bytes, in base64 or as it is.
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// What tokens name it by [default: 16 random characters].
    #[arg(long, value_name = "KID", value_parser = parse_kid)]
    pub kid: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::commands) struct TokenKeyRemoveArgs {
    /// The key's id.
    pub kid: String,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
}
