//! What the environment says of the server: `SNOWBANK_URL`, `SNOWBANK_TOKEN`,
//! `SNOWBANK_TOKEN_FILE`, and a client certificate.
//!
//! An empty variable counts as unset: CI systems set a variable to nothing where a secret is not
//! available.

use std::env;
use std::path::PathBuf;

use super::{ClientCertificate, ConfigError, Secret, TokenSource, normalized_url};

/// The environment's part of the configuration, read once.
pub struct Environment {
    /// `SNOWBANK_URL`, without a slash at the end.
    pub url: Option<String>,
    /// `SNOWBANK_TOKEN`, else `SNOWBANK_TOKEN_FILE`.
    pub token: Option<TokenSource>,
    /// The certificate to show, and its key.
    pub client_certificate: Option<ClientCertificate>,
}

impl Environment {
    /// Reads the variables of this process.
    ///
    /// # Errors
    /// An address that is none, a token that is not text, a certificate without a key.
    pub fn read() -> Result<Self, ConfigError> {
        let url = variable("SNOWBANK_URL")?.map(|url| normalized_url(&url)).transpose()?;
        let client_certificate = ClientCertificate::of_environment()?;
        Ok(Self { url, token: Self::read_token()?, client_certificate })
    }

    /// Reads the token's variables alone.
    ///
    /// # Errors
    /// A token that is not text.
    pub fn read_token() -> Result<Option<TokenSource>, ConfigError> {
        if let Some(secret) = variable("SNOWBANK_TOKEN")?.as_deref().and_then(Secret::from_text) {
            return Ok(Some(TokenSource::Variable("SNOWBANK_TOKEN", secret)));
        }
        let file = env::var_os("SNOWBANK_TOKEN_FILE").filter(|file| !file.is_empty());
        Ok(file.map(|file| TokenSource::File(PathBuf::from(file))))
    }
}

fn variable(name: &'static str) -> Result<Option<String>, ConfigError> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.trim().is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => {
            Err(ConfigError::BadToken { source_name: name.to_owned() })
        }
    }
}
