//! The TLS that TCP connections speak: the server's certificate and key, the authorities of clients'
//! certificates, and their renewal while the server runs.
//!
//! Invariant: every handshake sees the files of one moment. New files take effect all together, once
//! they have stopped changing and are found to belong together. Until then, and where they do not,
//! the ones before them stay.

mod error;
mod files;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use metrics::counter;
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

pub use error::TlsError;
use files::{Stamps, load};

use crate::config::TlsConfig;

/// How often the files are looked at. A change takes effect when the next look finds the same.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The certificate in use.
#[derive(Debug)]
pub struct Tls {
    files: TlsConfig,
    /// When the files had the contents that are in use.
    loaded: Stamps,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`]: one that cannot be read or used, or two that do not belong together.
    pub fn open(files: &TlsConfig) -> Result<Self, TlsError> {
        let loaded = Stamps::of(files);
        let current = RwLock::new(Arc::new(load(files)?));
        Ok(Self { files: files.clone(), loaded, current })
    }

    /// What does the handshake of a connection.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Reads the files again when they change, for as long as it is polled.
    pub async fn watch(self: Arc<Self>) {
        let (mut tried, mut seen) = (self.loaded.clone(), self.loaded.clone());
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let tls = Arc::clone(&self);
            let now = seen.clone();
            // Files may lie on a network, where a look takes long.
            let look = tokio::task::spawn_blocking(move || tls.look(&tried, &now));
            match look.await {
                Ok(look) => (tried, seen) = look,
                Err(error) => {
                    tracing::error!(%error, "the certificate is no longer watched");
                    return;
                }
            }
        }
    }

    /// Looks at the files, which were last read when they had the stamps `tried`, and were last
    /// `seen` with those. Gives both anew.
    fn look(&self, tried: &Stamps, seen: &Stamps) -> (Stamps, Stamps) {
        let now = Stamps::of(&self.files);
        // Whoever replaces a pair does it one file after the other.
        if now == *tried || now != *seen {
            return (tried.clone(), now);
        }
        let loaded = load(&self.files);
        let after = Stamps::of(&self.files);
        if after != now {
            return (tried.clone(), after);
        }
        let path = self.files.certificate_file.display();
        let result = match loaded {
            Ok(config) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                tracing::info!(certificate = %path, "the certificate has changed and is in use");
                "ok"
            }
            Err(error) => {
                tracing::error!(
                    "the files of [tls] have changed and cannot be used: {error}. The certificate \
                     from before stays in use"
                );
                "failed"
            }
        };
        counter!("snowbank_tls_reloads_total", "result" => result).increment(1);
        (now.clone(), now)
    }
}
