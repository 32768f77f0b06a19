//! An S3 server in the test process, as strict as the strictest service that Snowbank is to work
//! with.
//!
//! Objects are files of a folder (`s3s-fs`), signatures are checked (`s3s`), and the layer in
//! `rules` refuses what Cloudflare R2 or another service refuses: what it lets pass may be relied
//! upon.

mod rules;

pub(crate) use rules::error_xml;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Instant,
};

use http_body_util::BodyExt as _;
use hyper::{Request, Response, body::Incoming};
use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;

use crate::{
    Scratch,
    loopback::{AnyBody, BoxError, Handle, Loopback, lock},
    process,
};

/// What every object storage of the harness is asked with.
pub const ACCESS_KEY_ID: &str = "AKIDSNOWBANKHARNESS0";
/// The secret that goes with it: 40 characters, as AWS has them.
pub const SECRET_ACCESS_KEY: &str = "Secr3tOfTheHarness/ThatNobodyMayEverSee+";
/// The bucket that is there from the start.
pub const BUCKET: &str = "snowbank";

/// An S3 server over a folder. Ends when dropped.
#[derive(Debug)]
pub struct S3Server {
    server: Loopback<Strict>,
    scratch: Scratch,
}

impl S3Server {
    /// Starts one with an empty bucket `snowbank`.
    #[must_use]
    pub fn start() -> Self {
        let scratch = Scratch::new("s3");
        let _ = scratch.folder(BUCKET);
        let files = FileSystem::new(scratch.path()).unwrap_or_else(|e| panic!("s3s-fs: {e:?}"));
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        let buckets = scratch.path().to_path_buf();
        let handler = Strict { service: builder.build(), buckets, seen: Mutex::default() };
        Self { server: Loopback::start(process::own_address(), handler), scratch }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The folder of a bucket's objects.
    #[must_use]
    pub fn bucket(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Makes another bucket.
    pub fn create_bucket(&self, name: &str) -> &Self {
        let folder = self.bucket(name);
        fs::create_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        self
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<S3Request> {
        lock(&self.server.handler().seen).requests.clone()
    }

    /// How many requests there were by operation.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for request in &lock(&self.server.handler().seen).requests {
            *counts.entry(request.operation).or_default() += 1;
        }
        counts
    }

    /// The requests that broke a rule.
    #[must_use]
    pub fn refused(&self) -> Vec<S3Request> {
        self.requests().into_iter().filter(|request| request.refused.is_some()).collect()
    }

    /// The folder that holds its buckets.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct S3Request {
    /// `put`, `get`, `marker`, `head`, `list`, `delete`, `delete-many`, `multipart`, or the method.
    pub operation: &'static str,
    /// The path asked for: bucket and key.
    pub path: String,
    /// The range asked for.
    pub range: Option<String>,
    /// The code of the rule that it broke.
    pub refused: Option<&'static str>,
}

/// What the rules have to remember.
#[derive(Debug, Default)]
struct Seen {
    requests: Vec<S3Request>,
    /// When each key was last written.
    written: HashMap<String, Instant>,
    /// The length of each part by upload id.
    parts: HashMap<String, BTreeMap<u32, u64>>,
}

#[derive(Debug)]
struct Strict {
    service: S3Service,
    buckets: PathBuf,
    seen: Mutex<Seen>,
}

impl Handle for Strict {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<AnyBody>, BoxError> {
        let (head, mut body) = request.into_parts();
        let refusal = rules::check(&head, &mut lock(&self.seen), &self.buckets);
        if let Some(refusal) = refusal {
            // Read to its end, so that the sender gets to read the refusal.
            while let Some(Ok(_)) = body.frame().await {}
            return Ok(refusal.response());
        }
        let answer = self.service.call(Request::from_parts(head, body.into())).await;
        let answer = answer.map_err(|e| BoxError::from(format!("{e:?}")))?;
        Ok(answer.map(|body| body.map_err(BoxError::from).boxed_unsync()))
    }
}
