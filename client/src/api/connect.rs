//! The HTTP client itself: certificates, proxies, connections.

use std::env;
use std::fs;
use std::path::Path;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Identity};
use zeroize::Zeroizing;

use super::ApiError;
use super::certificate_file::certificate_file;
use super::no_proxy::is_direct;
use crate::config::ClientCertificate;

/// How long to wait for what does not move.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the next bytes, in either direction.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        // A server waits for its object storage, on a slow link or while that is away, before it
        // answers.
        Self { connect: Duration::from_secs(10), stall: Duration::from_mins(3) }
    }
}

/// What becomes of an answer that names another address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redirects {
    /// It is an error: a token goes to the address that it is for.
    Refused,
    /// A few are followed, where no token travels.
    Followed,
}

/// A client for `server` that shows it `own`, and reads the proxy variables and the certificates that
/// the environment or the system names.
pub(super) fn client(
    server: &str,
    timeouts: &Timeouts,
    redirects: Redirects,
    own: Option<&ClientCertificate>,
) -> Result<reqwest::Client, ApiError> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("snowbank/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timeouts.connect)
        .tcp_nodelay(true)
        // Servers and proxies close idle connections, often after a minute; a request on one that
        // is being closed fails.
        .pool_idle_timeout(Duration::from_secs(20))
        // Bundles in flight get a connection each: over one of HTTP/2 they would share its flow
        // control window, which proxies keep at 64 KiB.
        .http1_only()
        .redirect(match redirects {
            Redirects::Refused => Policy::none(),
            Redirects::Followed => Policy::limited(5),
        });
    // By itself the library takes `*` for all names, and not for addresses.
    let is_direct =
        reqwest::Url::parse(server).is_ok_and(|url| url.host_str().is_some_and(is_direct));
    let builder = if is_direct { builder.no_proxy() } else { builder };
    // A redirect may lead from http to https, where certificates count.
    let builder = if !server.starts_with("https:") && redirects == Redirects::Refused {
        // Without TLS nothing is verified; then a machine without certificates is no error, and
        // none are loaded.
        builder.tls_certs_only([])
    } else if let Some(certificates) = certificates_of_environment()? {
        builder.tls_certs_only(certificates)
    } else {
        builder
    };
    // Where nothing is encrypted, there is nobody to show it to.
    let Some(own) = own.filter(|_| server.starts_with("https:")) else {
        return builder.build().map_err(|error| ApiError::unusable(server, &error));
    };
    let built = builder.identity(identity(own)?).build();
    built.map_err(|error| ApiError::client_certificate(own, &ApiError::causes(&error)))
}

fn identity(own: &ClientCertificate) -> Result<Identity, ApiError> {
    let read = |file: &Path| {
        let failed = |error| ApiError::client_certificate(own, &cannot_read(file, &error));
        fs::read(file).map(Zeroizing::new).map_err(failed)
    };
    let (mut pem, key) = (read(&own.certificate_file)?, read(&own.key_file)?);
    if String::from_utf8_lossy(&key).contains("ENCRYPTED") {
        let reason = "the key is encrypted, and there is nobody to ask for its passphrase; write \
            it without one (openssl pkey -in FILE -out NEW-FILE)";
        return Err(ApiError::client_certificate(own, reason));
    }
    pem.push(b'\n');
    pem.extend_from_slice(&key);
    Identity::from_pem(&pem)
        .map_err(|error| ApiError::client_certificate(own, &ApiError::causes(&error)))
}

fn cannot_read(file: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be read ({error})", file.display())
}

fn certificates_of_environment() -> Result<Option<Vec<Certificate>>, ApiError> {
    certificate_file().map(|(variable, file)| certificates(variable, &file)).transpose()
}

fn certificates(variable: &str, file: &Path) -> Result<Vec<Certificate>, ApiError> {
    let failed = |reason: &dyn std::fmt::Display| ApiError::certificates(variable, file, reason);
    let pem = fs::read(file).map_err(|error| failed(&error))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| failed(&error))?;
    if certificates.is_empty() {
        Err(failed(&"it has no PEM certificate"))
    } else {
        Ok(certificates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_file_that_cannot_be_used_is_named_with_its_variable() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        fs::write(&empty, "no certificate\n").unwrap();
        for file in [folder.path().join("none.pem"), empty] {
            let error = certificates("NIX_SSL_CERT_FILE", &file).unwrap_err().to_string();
            assert!(
                error.contains("NIX_SSL_CERT_FILE") && error.contains(file.to_str().unwrap()),
                "{error}"
            );
        }
    }
}
