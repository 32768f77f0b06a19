//! Everything that travels over HTTP, in one place: the requests of the push protocol, and the two
//! that reading needs.
//!
//! Every request may be repeated, and is, on failures that may pass (see [`Backoff`]); bodies are
//! [`Bytes`], so that a repetition copies nothing. There is no limit on how long a request takes,
//! only on how long nothing moves: a body that is being sent or an answer that is coming in resets
//! the clock, as do the heartbeat lines of a commit. What the answers mean for a push is left to
//! `push`.

mod answer;
mod certificate_file;
mod connect;
mod error;
mod logs;
mod no_proxy;
mod operator;
mod probe;
mod retry;
mod send;
mod session;
mod upstream;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use snowbank_core::cache_name::CacheName;
use snowbank_core::chunk::ChunkName;
use snowbank_core::narinfo::NarInfo;
use snowbank_core::store_path::{StoreDir, StorePath};
use snowbank_core::wire::{
    CacheInfo, CommitLine, CommitRequest, MissingChunksResponse, MissingPathsRequest,
    MissingPathsResponse, PinnedGeneration, StoredChunks, WhoAmI, code,
};

use crate::config::{Secret, Target, TargetServer};

use connect::Redirects;
use retry::RetryListener;

pub use connect::Timeouts;
pub use error::{ApiError, ApiErrorKind};
pub(crate) use no_proxy::is_exception;
pub use probe::Probe;
pub use retry::Backoff;
pub use upstream::UpstreamCache;

const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";
/// Most bytes of an answer that is held as a whole.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// One cache on one server. Clones share connections.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

/// What clones share.
struct Shared {
    http: reqwest::Client,
    target: Target,
    timeouts: Timeouts,
    /// Whether the server has answered anything yet: until then, nobody waits long for it.
    reached: AtomicBool,
    retry_listener: OnceLock<RetryListener>,
    /// The token of the push session that is under way.
    session: RwLock<Option<Secret>>,
}

/// One request: what is repeated when it fails.
struct Request {
    method: Method,
    url: String,
    content_type: &'static str,
    /// The body's encoding, if it has one.
    encoding: Option<&'static str>,
    body: Bytes,
}

impl Api {
    /// A client for `target`. Connects to nothing yet.
    ///
    /// # Errors
    /// The certificates that the environment names cannot be used, or the client's own, or the
    /// address is none.
    pub fn new(target: &Target) -> Result<Self, ApiError> {
        Self::with_timeouts(target, Timeouts::default())
    }

    /// [`Api::new`], with other limits on waiting.
    ///
    /// # Errors
    /// As [`Api::new`].
    pub fn with_timeouts(target: &Target, timeouts: Timeouts) -> Result<Self, ApiError> {
        let http = {
            let own = target.client_certificate.as_ref();
            connect::client(&target.server_url, &timeouts, Redirects::Refused, own)?
        };
        let shared = Shared {
            http,
            target: target.clone(),
            timeouts,
            reached: AtomicBool::new(false),
            retry_listener: OnceLock::new(),
            session: RwLock::new(None),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A client for the server alone, for what is asked of no cache.
    ///
    /// # Errors
    /// As [`Api::new`].
    pub fn of_server(server: &TargetServer) -> Result<Self, ApiError> {
        Self::new(&server.without_cache())
    }

    /// The server's address, without a slash at the end.
    #[must_use]
    pub fn server_url(&self) -> &str {
        &self.shared.target.server_url
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> &CacheName {
        &self.shared.target.cache
    }

    /// `GET /api/v1/caches/{cache}`.
    ///
    /// # Errors
    /// [`ApiError`] says which kind of failure it was.
    pub async fn cache_info(&self) -> Result<CacheInfo, ApiError> {
        let url = format!("{}/api/v1/caches/{}", self.server_url(), self.cache());
        self.json(Request::get(url)).await
    }

    /// `GET /api/v1/whoami`.
    pub async fn whoami(&self) -> Result<WhoAmI, ApiError> {
        self.json(Request::get(format!("{}/api/v1/whoami", self.server_url()))).await
    }

    /// `GET /{cache}/{hash}.narinfo`; `None` when the cache has no such path.
    ///
    /// # Errors
    /// As [`Api::cache_info`]; an answer that is no narinfo.
    pub async fn narinfo(
        &self,
        store_dir: &StoreDir,
        path: &StorePath,
    ) -> Result<Option<NarInfo>, ApiError> {
        let url = format!("{}/{}/{}.narinfo", self.server_url(), self.cache(), path.hash());
        let text = match self.whole(Request::get(url.clone())).await {
            Ok(text) => text,
            Err(error) if error.kind() == ApiErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let text = std::str::from_utf8(&text).map_err(|error| self.malformed(&url, &error))?;
        NarInfo::parse(store_dir, text).map(Some).map_err(|error| self.malformed(&url, &error))
    }

    /// Which of these paths are missing, present or different.
    pub async fn missing_paths(
        &self,
        request: &MissingPathsRequest,
    ) -> Result<MissingPathsResponse, ApiError> {
        let body = self.to_json("missing-paths", request)?;
        self.json(self.post("missing-paths", JSON, body)).await
    }

    /// Has the server read back those of these paths that it has; gives the ones that are whole.
    /// The others are not there any more.
    ///
    /// # Errors
    /// As [`Api::cache_info`]; [`ApiErrorKind::Server`] when the server cannot tell.
    pub async fn verify_paths(
        &self,
        request: &MissingPathsRequest,
    ) -> Result<HashSet<String>, ApiError> {
        let request = self.post("verify-paths", JSON, self.to_json("verify-paths", request)?);
        let mut backoff = self.backoff();
        loop {
            match self.read_back(&request).await {
                Ok(whole) => return Ok(whole),
                Err(error) => backoff.wait(error).await?,
            }
        }
    }

    async fn read_back(&self, request: &Request) -> Result<HashSet<String>, ApiError> {
        let (mut lines, mut whole) =
            (answer::Lines::new(self.attempt(request).await?), HashSet::new());
        while let Some(line) = lines.next().await? {
            match line {
                CommitLine::Receipt(receipt) => {
                    whole.insert(receipt.store_path);
                }
                CommitLine::Error { store_path, code, message } if code != code::DAMAGED => {
                    return Err(ApiError::unfinished(
                        self.server_url(),
                        &format!("{store_path}: {message}"),
                    ));
                }
                CommitLine::End { .. } => return Ok(whole),
                _ => {}
            }
        }
        Err(lines.cut_off())
    }

    /// Indexes of those of `names` that the cache lacks, ascending.
    ///
    /// # Errors
    /// As [`Api::cache_info`]; an answer with other indexes than those asked about.
    pub async fn missing_chunks(&self, names: &[ChunkName]) -> Result<Vec<usize>, ApiError> {
        let body: Vec<u8> = names.iter().flat_map(|name| *name.as_bytes()).collect();
        let request = self.post("missing-chunks", OCTETS, body.into());
        let url = request.url.clone();
        let answer: MissingChunksResponse = self.json(request).await?;
        let missing: Vec<usize> = answer.missing.iter().map(|index| *index as usize).collect();
        if missing.is_sorted_by(|a, b| a < b)
            && missing.last().is_none_or(|last| *last < names.len())
        {
            Ok(missing)
        } else {
            Err(self.malformed(&url, &"it names chunks that were not asked about"))
        }
    }

    /// Sends a bundle of chunks.
    ///
    /// # Errors
    /// As [`Api::cache_info`]; [`ApiErrorKind::TooLarge`] when something on the way takes only
    /// smaller bodies.
    pub async fn send_bundle(&self, bundle: Bytes) -> Result<StoredChunks, ApiError> {
        self.json(self.post("chunks", OCTETS, bundle)).await
    }

    /// Asks for paths to be made visible, and gives each line of the answer to `on_line` as it
    /// comes in, heartbeats apart. Tries once: what was answered before a failure stands, and only
    /// the caller knows what is left to ask. Gives the pin of the request, if it was made.
    ///
    /// # Errors
    /// As [`Api::cache_info`]; [`ApiErrorKind::Unreachable`] when the answer was cut off.
    pub async fn commit(
        &self,
        request: &CommitRequest,
        mut on_line: impl FnMut(CommitLine),
    ) -> Result<Option<PinnedGeneration>, ApiError> {
        let request = self.post("paths", JSON, self.to_json("paths", request)?);
        let mut lines = answer::Lines::new(self.attempt(&request).await?);
        while let Some(line) = lines.next().await? {
            match line {
                CommitLine::Heartbeat => {}
                CommitLine::End { pin, .. } => return Ok(pin),
                line => on_line(line),
            }
        }
        Err(lines.cut_off())
    }

    /// Has `listen` told of each failure that is waited for, and how long. There is one listener:
    /// another one does nothing.
    pub fn on_retry(&self, listen: impl Fn(&ApiError, Duration) + Send + Sync + 'static) {
        // Taken already: then somebody is told.
        let _ = self.shared.retry_listener.set(RetryListener::new(listen));
    }

    /// How long to wait before one more attempt, for a request that failed.
    #[must_use]
    pub fn backoff(&self) -> Backoff {
        Backoff::new(
            self.shared.reached.load(Ordering::Relaxed),
            self.shared.retry_listener.get().cloned(),
        )
    }

    fn post(&self, endpoint: &str, content_type: &'static str, body: Bytes) -> Request {
        let url = format!("{}/api/v1/caches/{}/{endpoint}", self.server_url(), self.cache());
        Request { method: Method::POST, url, content_type, encoding: None, body }
    }

    /// An answer in JSON, after as many attempts as that takes.
    async fn json<T: DeserializeOwned>(&self, request: Request) -> Result<T, ApiError> {
        let url = request.url.clone();
        let answer = self.whole(request).await?;
        serde_json::from_slice(&answer).map_err(|error| self.malformed(&url, &error))
    }

    /// An answer's bytes, after as many attempts as that takes.
    async fn whole(&self, request: Request) -> Result<Vec<u8>, ApiError> {
        let mut backoff = self.backoff();
        loop {
            let result = match self.attempt(&request).await {
                Ok(answer) => answer.whole(MAX_ANSWER_BYTES).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(bytes) => return Ok(bytes),
                Err(error) => backoff.wait(error).await?,
            }
        }
    }

    fn to_json(&self, endpoint: &str, message: &impl Serialize) -> Result<Bytes, ApiError> {
        // The messages are plain data; an error here would be a fault of this program, and is said
        // as one.
        serde_json::to_vec(message)
            .map(Bytes::from)
            .map_err(|error| self.malformed(endpoint, &error))
    }

    fn malformed(&self, url: &str, reason: &dyn std::fmt::Display) -> ApiError {
        ApiError::protocol(self.server_url(), url, reason)
    }
}

impl Request {
    fn get(url: String) -> Self {
        let (method, body) = (Method::GET, Bytes::new());
        Self { method, url, content_type: JSON, encoding: None, body }
    }
}

#[cfg(test)]
mod tests;
