//! `snowbank login`: its arguments.

use std::path::PathBuf;

use clap::Args;

/// `snowbank login NAME URL`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "The token is read from --token-file, else from SNOWBANK_TOKEN, else from the \
        file that \
SNOWBANK_TOKEN_FILE names, else from standard input (on a terminal: a prompt without echo). It is \
kept in a file of \
mode 0600 beside the configuration. The first server logged in to is the default one.

Examples:
  snowbank login local http://127.0.0.1:8080 < root-token
  snowbank login work https://cache.example.org --token-file /run/secrets/snowbank
  sudo snowbank login work https://cache.example.org --system < token   # for root's builds and \
  for services"
)]
pub struct LoginArgs {
    /// A short name for the server, as in NAME:CACHE
    #[arg(value_name = "NAME")]
    pub name: String,

    /// The server's address, without a cache, such as `https://cache.example.org`
    #[arg(value_name = "URL")]
    pub url: String,

    /// Where a token stands that was given as an argument: refused, and never repeated.
    #[arg(hide = true, num_args = 0..)]
    pub surplus: Vec<std::ffi::OsString>,

    /// Read the token from this file
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Show the server the certificate in this file (PEM), and remember it
    #[arg(long, value_name = "FILE", requires = "client_key_file")]
    pub client_certificate_file: Option<PathBuf>,

    /// The client certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "client_certificate_file")]
    pub client_key_file: Option<PathBuf>,

    /// Make this the default server, the one meant where a cache is given without `SERVER:`
    #[arg(long)]
    pub default: bool,

    /// Write the configuration of the whole machine: /etc/snowbank/client.toml, and its token for
    /// root alone
    #[arg(long, conflicts_with = "config")]
    pub system: bool,

    /// Do not ask the server whether it accepts the token
    #[arg(long)]
    pub offline: bool,
}
