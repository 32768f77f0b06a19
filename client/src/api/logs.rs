//! Build logs.

use bytes::Bytes;
use reqwest::Method;
use snowbank_core::store_path::StorePath;

use super::{Api, ApiError, Request};

impl Api {
    /// `PUT /{cache}/log/{derivation}`: keeps the log of a derivation, which is encoded as said.
    /// Tries once.
    ///
    /// # Errors
    /// As [`Api::cache_info`]; [`NotFound`](super::ApiErrorKind::NotFound) of a server that keeps
    /// no logs.
    pub async fn put_log(
        &self,
        derivation: &StorePath,
        encoding: Option<&'static str>,
        log: Bytes,
    ) -> Result<(), ApiError> {
        let url = format!("{}/{}/log/{}", self.server_url(), self.cache(), derivation.base_name());
        let content_type = "text/plain; charset=utf-8";
        let request = Request { method: Method::PUT, url, content_type, encoding, body: log };
        self.attempt(&request).await.map(drop)
    }
}
