//! Another binary cache, of any kind that speaks HTTP, asked whether it has a path.
//!
//! No token travels here. What cannot be learnt is an error of its own, so that the asker can go on
//! without.

use std::time::Duration;

use reqwest::StatusCode;
use snowbank_core::narinfo::NarInfo;
use snowbank_core::store_path::{StoreDir, StorePath};

use super::connect::{self, Redirects, Timeouts};
use super::{ApiError, MAX_ANSWER_BYTES};

/// A limit on connecting, and on a whole question: a push does not wait long for what only spares
/// it work.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(5), stall: Duration::from_secs(15) };

/// A binary cache that is only read.
#[derive(Clone, Debug)]
pub struct UpstreamCache {
    url: String,
    http: reqwest::Client,
}

impl UpstreamCache {
    /// The cache at `url`, which has no slash at its end. Connects to nothing yet.
    ///
    /// # Errors
    /// The certificates that the environment names cannot be used.
    pub fn new(url: &str) -> Result<Self, ApiError> {
        Ok(Self {
            url: url.to_owned(),
            http: connect::client(url, &TIMEOUTS, Redirects::Followed, None)?,
        })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `GET {hash}.narinfo`; `None` when the cache has no such path. Tried once.
    ///
    /// # Errors
    /// No answer, one of another status, or one that is no narinfo.
    pub async fn narinfo(
        &self,
        store_dir: &StoreDir,
        path: &StorePath,
    ) -> Result<Option<NarInfo>, ApiError> {
        let url = format!("{}/{}.narinfo", self.url, path.hash());
        tokio::time::timeout(TIMEOUTS.stall, self.ask(store_dir, &url))
            .await
            .map_err(|_| ApiError::stalled(&self.url, &url, TIMEOUTS.stall))?
    }

    async fn ask(&self, store_dir: &StoreDir, url: &str) -> Result<Option<NarInfo>, ApiError> {
        let broken = |error: reqwest::Error| ApiError::broken(&self.url, url, &error);
        let malformed = |reason: &dyn std::fmt::Display| ApiError::upstream(&self.url, url, reason);
        let mut response = self.http.get(url).send().await.map_err(broken)?;
        match response.status() {
            // As Nix takes it: buckets that may not be listed say 403 of what they do not have.
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::GONE => return Ok(None),
            StatusCode::OK => {}
            other => return Err(malformed(&format!("status {other}"))),
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(broken)? {
            if body.len() + piece.len() > MAX_ANSWER_BYTES {
                return Err(malformed(&"it is too long"));
            }
            body.extend_from_slice(&piece);
        }
        NarInfo::parse_bytes(store_dir, &body).map(Some).map_err(|error| malformed(&error))
    }
}
