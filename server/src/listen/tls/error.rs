//! What can be wrong with the files of `[tls]`.

use std::io;
use std::path::PathBuf;

use crate::config::SecretFileError;

/// A file that cannot be used. The text names it, the cause and the next step.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of certificates that cannot be read.
    #[error(
        "cannot read the certificate file {}: {source}. It has to be there and readable for the \
         user that runs this", path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file without a certificate.
    #[error(
        "{} has no certificate in PEM. It needs a part between the lines `-----BEGIN \
         CERTIFICATE-----` and `-----END CERTIFICATE-----`", .0.display()
    )]
    NoCertificate(PathBuf),
    /// A certificate that is none.
    #[error("a certificate in {} cannot be used: {cause}. Have it issued again", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A key that is not there, is empty, or is open to others.
    #[error(transparent)]
    KeyFile(#[from] SecretFileError),
    /// A key that a passphrase protects.
    #[error(
        "the private key in {path} is encrypted, and a server has nobody to ask for the passphrase. \
         Write it without one, with mode 0600: openssl pkey -in {path} -out NEW-FILE",
        path = .0.display()
    )]
    EncryptedKey(PathBuf),
    /// A file without a key.
    #[error(
        "{} has no private key in PEM. It needs a part between the lines `-----BEGIN PRIVATE \
         KEY-----` and `-----END PRIVATE KEY-----`", .0.display()
    )]
    NoKey(PathBuf),
    /// A key that is none, or of a kind that TLS does not know.
    #[error(
        "the private key in {} cannot be used: {cause}. Use a key of RSA (2048 bits or more), ECDSA \
         (P-256, P-384, P-521) or Ed25519", path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// Two files that do not belong together.
    #[error(
        "the private key in {} is not that of the first certificate in {}. Use the key that the \
         certificate was made for. In the file of certificates the server's own comes first, then \
         those of the authorities between it and the root", key.display(), certificate.display()
    )]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// No way to set up TLS with files that are right by themselves.
    #[error("TLS cannot be set up with {}: {cause}", path.display())]
    Setup {
        /// The file that it is about.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}
