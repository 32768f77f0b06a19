//! `[tls]`: the certificate that the server shows on its TCP sockets, and the one that clients need.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::Problem;
use super::{ConfigError, absolute, beside};

/// What clients have to show, where there is an authority for their certificates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificates {
    /// A connection without a certificate ends in the handshake.
    #[default]
    Required,
    /// A connection without one is served. One that does not hold ends in the handshake.
    Optional,
}

/// The files that TLS needs, absolute.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// The server's certificate, followed by those between it and its authority's, in PEM.
    pub certificate_file: PathBuf,
    /// The key of the first of these, in PEM.
    pub private_key_file: PathBuf,
    /// The authorities that sign the certificates of clients, in PEM.
    pub client_ca_file: Option<PathBuf>,
    /// Whether each client needs one.
    pub client_certificates: ClientCertificates,
}

/// What the command line and the environment say of `[tls]`.
#[derive(Debug, Clone, Default)]
pub struct TlsOverrides {
    /// The certificate.
    pub certificate_file: Option<PathBuf>,
    /// Its key.
    pub private_key_file: Option<PathBuf>,
}

/// The section as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct TlsSection {
    certificate_file: Option<PathBuf>,
    private_key_file: Option<PathBuf>,
    client_ca_file: Option<PathBuf>,
    client_certificates: Option<ClientCertificates>,
}

impl TlsSection {
    /// With the paths of flags in the place of its own, and all of them absolute.
    pub(super) fn resolve(
        self,
        flags: &TlsOverrides,
        config_dir: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let resolve = |flag: Option<&PathBuf>, key: Option<PathBuf>| {
            let path = flag.cloned().or_else(|| key.map(|key| beside(config_dir, &key)));
            path.map(|path| absolute(&path)).transpose()
        };
        Ok(Self {
            certificate_file: resolve(flags.certificate_file.as_ref(), self.certificate_file)?,
            private_key_file: resolve(flags.private_key_file.as_ref(), self.private_key_file)?,
            client_ca_file: resolve(None, self.client_ca_file)?,
            client_certificates: self.client_certificates,
        })
    }

    /// The settings; `None` where there is no certificate, so that the server speaks plain HTTP.
    pub(super) fn validate(self) -> Result<Option<TlsConfig>, Problem> {
        let problem = |key, message: &str| Problem { key, message: message.to_owned() };
        let (certificate_file, private_key_file) =
            match (self.certificate_file, self.private_key_file) {
                (Some(certificate), Some(key)) => (certificate, key),
                (Some(_), None) => {
                    return Err(problem(
                        &["tls", "certificate-file"],
                        "needs `private-key-file` beside it, the file with the certificate's key",
                    ));
                }
                (None, Some(_)) => {
                    return Err(problem(
                        &["tls", "private-key-file"],
                        "needs `certificate-file` beside it, the file with the key's certificate",
                    ));
                }
                (None, None) => {
                    let key: &[&str] = match (self.client_ca_file, self.client_certificates) {
                        (Some(_), _) => &["tls", "client-ca-file"],
                        (None, Some(_)) => &["tls", "client-certificates"],
                        (None, None) => return Ok(None),
                    };
                    return Err(problem(
                        key,
                        "is for a server with a certificate of its own; add `certificate-file` and \
                         `private-key-file`, or leave it out",
                    ));
                }
            };
        if self.client_certificates.is_some() && self.client_ca_file.is_none() {
            return Err(problem(
                &["tls", "client-certificates"],
                "needs `client-ca-file`, the authorities that sign the certificates of clients",
            ));
        }
        Ok(Some(TlsConfig {
            certificate_file,
            private_key_file,
            client_ca_file: self.client_ca_file,
            client_certificates: self.client_certificates.unwrap_or_default(),
        }))
    }
}
