//! Reading the files of `[tls]`, and seeing that they have changed.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;
use crate::config::{ClientCertificates, TlsConfig, read_secret_file};

/// Protocols by ALPN, the better first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// What is in each encrypted key: PKCS #8 has it in its name, the older forms in a header.
const ENCRYPTED: [&str; 2] = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];

/// By which a change of the files is known, also where they are links that lead elsewhere now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamps(Vec<Result<Stamp, ErrorKind>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    bytes: u64,
    modified_at: (i64, i64),
    changed_at: (i64, i64),
}

impl Stamps {
    /// The files as they are now.
    pub(super) fn of(files: &TlsConfig) -> Self {
        let all = [&files.certificate_file, &files.private_key_file].into_iter();
        Self(all.chain(&files.client_ca_file).map(|path| stamp(path)).collect())
    }
}

fn stamp(path: &Path) -> Result<Stamp, ErrorKind> {
    let metadata = fs::metadata(path).map_err(|error| error.kind())?;
    Ok(Stamp {
        inode: (metadata.dev(), metadata.ino()),
        bytes: metadata.size(),
        modified_at: (metadata.mtime(), metadata.mtime_nsec()),
        changed_at: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// Reads all files and finds that they belong together.
pub(super) fn load(files: &TlsConfig) -> Result<ServerConfig, TlsError> {
    let path = &files.certificate_file;
    let setup =
        |cause: rustls::Error| TlsError::Setup { path: path.clone(), cause: cause.to_string() };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let pair = certified_key(files, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(setup)?;
    let builder = match &files.client_ca_file {
        Some(file) => {
            let cause = |cause: String| TlsError::Setup { path: file.clone(), cause };
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(file)?), provider);
            let verifier = match files.client_certificates {
                ClientCertificates::Required => verifier,
                ClientCertificates::Optional => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build().map_err(|error| cause(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    if files.client_ca_file.is_some() {
        // A session that goes on would not show its certificate again, which may have expired.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        // What a session needs to go on is kept by the client, sealed.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(setup)?;
    }
    Ok(config)
}

fn certified_key(files: &TlsConfig, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let TlsConfig { certificate_file, private_key_file, .. } = files;
    let chain = certificates(certificate_file)?;
    let key = private_key(private_key_file)?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| TlsError::Key {
        path: private_key_file.clone(),
        cause: error.to_string(),
    })?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
            certificate: certificate_file.clone(),
            key: private_key_file.clone(),
        }),
        Err(error) => {
            Err(TlsError::Certificate { path: certificate_file.clone(), cause: error.to_string() })
        }
    }
}

/// All certificates in a file, one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| TlsError::Certificate {
        path: path.to_owned(),
        cause: error.to_string(),
    })?;
    if all.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(all) }
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::Certificate {
            path: path.to_owned(),
            cause: error.to_string(),
        })?;
    }
    Ok(roots)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read_secret_file(path)?;
    if ENCRYPTED.iter().any(|sign| text.expose().contains(sign)) {
        return Err(TlsError::EncryptedKey(path.to_owned()));
    }
    match PrivateKeyDer::pem_slice_iter(text.expose().as_bytes()).next() {
        Some(Ok(key)) => Ok(key),
        Some(Err(error)) => Err(TlsError::Key { path: path.to_owned(), cause: error.to_string() }),
        None => Err(TlsError::NoKey(path.to_owned())),
    }
}
