//! A server of the push protocol in memory: it verifies what a real one verifies, and fails as it
//! is told to.

use std::collections::{HashMap, HashSet};
use std::io;
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use snowbank_core::bundle::BundleReader;
use snowbank_core::chunk::ChunkName;
use snowbank_core::cut::CutParams;
use snowbank_core::frame::{ChunkHeader, FrameDecoder, FrameVerifier, fill};
use snowbank_core::hash::{NarHash, Sha256};
use snowbank_core::manifest::WireManifest;
use snowbank_core::receipt::{Receipt, ReceiptStatus};
use snowbank_core::signing::SecretKey;
use snowbank_core::store_path::StorePathHash;
use snowbank_core::wire::{
    CacheInfo, CommitLine, CommitRequest, DifferentPath, ErrorBody, ManifestSource,
    MissingChunksResponse, MissingPathsRequest, MissingPathsResponse, PathCommit, PinnedGeneration,
    PushPin, StoredChunks, code,
};

use super::tree::{self, Tree};
use crate::api::Api;
use crate::config::{Secret, Target};
use crate::push::test_support::cache_info;
use crate::store::PathInfo;

/// How the server fails.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    /// Bundles above this get 413.
    pub(super) body_limit: Option<usize>,
    /// So many commits of a path find chunks gone.
    pub(super) lose_chunks: usize,
    /// Base names that are refused, and why.
    pub(super) refuse: Vec<(String, &'static str)>,
    /// Base names that the cache turns out to have with other contents.
    pub(super) different: Vec<String>,
    /// So many requests get 503 at first.
    pub(super) fail_requests: usize,
    /// So many commits end after their first line.
    pub(super) cut_off_commits: usize,
    /// So many paths are answered with `busy` at first.
    pub(super) busy_paths: usize,
    /// So many are answered with `storage-unavailable`.
    pub(super) delayed_paths: usize,
    /// Bundles get 507.
    pub(super) full: bool,
    /// Receipts are signed by another key.
    pub(super) forge_receipts: bool,
    /// Least, wanted and most bytes of a chunk.
    pub(super) cut: Option<(u32, u32, u32)>,
}

/// A request that was answered.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) endpoint: String,
    pub(super) bytes: usize,
    pub(super) status: u16,
}

pub(super) struct FakeServer {
    url: String,
    shared: Handle,
}

type Handle = Arc<Mutex<Shared>>;

struct Shared {
    faults: Faults,
    key: SecretKey,
    chunks: HashMap<ChunkName, (ChunkHeader, Vec<u8>)>,
    /// NAR by full store path.
    paths: HashMap<String, Vec<u8>>,
    requests: Vec<Request>,
    upstream: Vec<String>,
    manifest_pieces: usize,
    /// Goes before the next commit.
    to_lose: Option<String>,
    pins: Vec<PushPin>,
}

fn lock(shared: &Handle) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap()
}

impl FakeServer {
    pub(super) async fn start(faults: Faults) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            faults,
            key: SecretKey::from_seed("fake-1", [7; 32]).unwrap(),
            chunks: HashMap::new(),
            paths: HashMap::new(),
            requests: Vec::new(),
            upstream: Vec::new(),
            manifest_pieces: 0,
            to_lose: None,
            pins: Vec::new(),
        }));
        let app = Router::new()
            .route("/api/v1/caches/main", get(info))
            .route("/api/v1/caches/main/{endpoint}", post(endpoint))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, shared }
    }

    pub(super) fn api(&self) -> Api {
        Api::new(&Target {
            server_url: self.url.clone(),
            cache: "main".parse().unwrap(),
            token: Secret::from_text("secret"),
            token_source: "a test".to_owned(),
            client_certificate: None,
            filter: crate::config::PathFilter::NONE,
        })
        .unwrap()
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        lock(&self.shared).requests.clone()
    }

    pub(super) fn upstream_named(&self) -> Vec<String> {
        lock(&self.shared).upstream.clone()
    }

    /// A path that is there now will not be when something is committed.
    pub(super) fn lose_path_at_next_commit(&self, info: &PathInfo) {
        lock(&self.shared).to_lose = Some(tree::full(&info.path));
    }

    /// The pins that came with commits.
    pub(super) fn pins(&self) -> Vec<PushPin> {
        lock(&self.shared).pins.clone()
    }

    pub(super) fn manifest_pieces(&self) -> usize {
        lock(&self.shared).manifest_pieces
    }

    #[track_caller]
    pub(super) fn assert_holds(&self, infos: &[PathInfo], tree: &Tree) {
        let shared = lock(&self.shared);
        for info in infos {
            let nar = shared.paths.get(&tree::full(&info.path)).expect("the path is there");
            assert!(*nar == tree.nar(&info.path), "{} has other bytes", info.path);
        }
    }
}

async fn info(State(shared): State<Handle>) -> axum::Json<CacheInfo> {
    let mut shared = lock(&shared);
    shared.requests.push(Request { endpoint: "info".to_owned(), bytes: 0, status: 200 });
    let cut = shared.faults.cut.map_or(CutParams::DEFAULT, |(min, avg, max)| CutParams {
        id: 1,
        min,
        avg,
        max,
    });
    let public_keys = vec![shared.key.public().to_string()];
    axum::Json(CacheInfo { public_keys, cut, ..cache_info() })
}

async fn endpoint(State(shared): State<Handle>, uri: Uri, body: Bytes) -> Response {
    let endpoint = uri.path().rsplit('/').next().unwrap().to_owned();
    let mut shared = lock(&shared);
    let response = match endpoint.as_str() {
        _ if shared.faults.fail_requests > 0 => {
            shared.faults.fail_requests -= 1;
            error(StatusCode::SERVICE_UNAVAILABLE, code::STORAGE_UNAVAILABLE)
        }
        "missing-paths" => shared.missing_paths(&serde_json::from_slice(&body).unwrap()),
        "missing-chunks" => shared.missing_chunks(&body),
        "chunks" => shared.store(&body),
        "paths" => shared.commit(serde_json::from_slice(&body).unwrap()),
        _ => error(StatusCode::NOT_FOUND, code::NOT_FOUND),
    };
    let status = response.status().as_u16();
    shared.requests.push(Request { endpoint, bytes: body.len(), status });
    response
}

fn error(status: StatusCode, code: &str) -> Response {
    (status, axum::Json(ErrorBody::new(code, "as it was told to"))).into_response()
}

impl Shared {
    fn receipt(&self, status: ReceiptStatus, store_path: &str, nar: &[u8]) -> Receipt {
        let mut receipt = Receipt {
            status,
            store_path: store_path.to_owned(),
            nar_hash: hash(nar),
            nar_size: nar.len() as u64,
            cache: "main".to_owned(),
            time: 1,
            signatures: Vec::new(),
            stats: None,
        };
        let other = SecretKey::from_seed("fake-1", [8; 32]).unwrap();
        receipt.sign(if self.faults.forge_receipts { &other } else { &self.key });
        receipt
    }

    fn missing_paths(&self, request: &MissingPathsRequest) -> Response {
        let mut answer = MissingPathsResponse::default();
        for query in &request.paths {
            let store_path = query.store_path.clone();
            match self.paths.get(&store_path) {
                None => answer.missing.push(store_path),
                Some(nar) if hash(nar) == query.nar_hash => {
                    answer.present.push(self.receipt(ReceiptStatus::Present, &store_path, nar));
                }
                Some(nar) => {
                    answer.different.push(DifferentPath { store_path, nar_hash: Some(hash(nar)) });
                }
            }
        }
        axum::Json(answer).into_response()
    }

    fn missing_chunks(&self, body: &[u8]) -> Response {
        let (names, rest) = body.as_chunks::<32>();
        assert!(rest.is_empty() && names.len() <= 8192);
        let distinct: HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "no name is asked about twice in a question");
        let missing = |(index, name): (u32, &[u8; 32])| {
            (!self.chunks.contains_key(&ChunkName::from_bytes(*name))).then_some(index)
        };
        axum::Json(MissingChunksResponse {
            missing: (0..).zip(names).filter_map(missing).collect(),
        })
        .into_response()
    }

    fn store(&mut self, body: &[u8]) -> Response {
        if self.faults.full {
            return error(StatusCode::INSUFFICIENT_STORAGE, code::STORAGE_FULL);
        }
        if self.faults.body_limit.is_some_and(|limit| body.len() > limit) {
            return (StatusCode::PAYLOAD_TOO_LARGE, "<html>too large</html>").into_response();
        }
        let mut reader = BundleReader::new();
        reader.feed(body);
        let mut stored = StoredChunks::default();
        while let Some((header, frame)) = reader.next().unwrap() {
            FrameVerifier::new().verify(&header, &frame, &[3; 32]).unwrap();
            stored.stored += 1;
            let twice = self.chunks.insert(header.name, (header, frame));
            assert!(twice.is_none(), "a chunk was sent that is there");
        }
        reader.finish().unwrap();
        axum::Json(stored).into_response()
    }

    fn commit(&mut self, request: CommitRequest) -> Response {
        if let Some(path) = self.to_lose.take() {
            self.paths.remove(&path);
        }
        if let Some(pin) = &request.pin {
            assert!(
                request.paths.iter().any(|path| path.store_path == pin.store_path),
                "a pin comes with its path"
            );
            self.pins.push(pin.clone());
        }
        let pin = request.pin.map(|pin| PinnedGeneration { name: pin.name, generation: 1 });
        let mut lines: Vec<CommitLine> = Vec::new();
        for path in request.paths {
            lines.push(self.commit_one(path));
            lines.push(CommitLine::Heartbeat);
        }
        let paths = u32::try_from(lines.len() / 2).unwrap();
        if self.faults.cut_off_commits > 0 {
            self.faults.cut_off_commits -= 1;
            lines.truncate(1);
        } else {
            lines.push(CommitLine::End { paths, pin });
        }
        let text: Vec<io::Result<String>> =
            lines.iter().map(|line| Ok(serde_json::to_string(line).unwrap() + "\n")).collect();
        Body::from_stream(futures_util::stream::iter(text)).into_response()
    }

    fn commit_one(&mut self, path: PathCommit) -> CommitLine {
        let PathCommit { store_path, nar_hash, nar_size, references, upstream, manifest, .. } =
            path;
        let refused = |code: &str| CommitLine::Error {
            store_path: store_path.clone(),
            code: code.to_owned(),
            message: "as it was told to".to_owned(),
        };
        if self.faults.busy_paths > 0 {
            self.faults.busy_paths -= 1;
            return refused(code::BUSY);
        }
        if self.faults.delayed_paths > 0 {
            self.faults.delayed_paths -= 1;
            return refused(code::STORAGE_UNAVAILABLE);
        }
        if self.faults.lose_chunks > 0 {
            self.faults.lose_chunks -= 1;
            let missing: Vec<ChunkName> = self.chunks.keys().take(2).copied().collect();
            self.chunks.retain(|name, _| !missing.contains(name));
            return CommitLine::ChunksMissing { store_path, missing };
        }
        let base_name = store_path.rsplit('/').next().unwrap();
        if let Some((_, code)) = self.faults.refuse.iter().find(|(name, _)| name == base_name) {
            return refused(code);
        }
        if self.faults.different.iter().any(|name| name == base_name) {
            self.paths.insert(store_path.clone(), b"others".to_vec());
            return CommitLine::Different { store_path, nar_hash: Some(hash(b"others")) };
        }
        self.upstream.extend(upstream.iter().cloned());
        let visible = |name: &String| {
            name == base_name
                || upstream.contains(name)
                || self.paths.contains_key(&format!("/nix/store/{name}"))
        };
        if !references.iter().all(visible) {
            return refused(code::REFERENCES_MISSING);
        }
        if let Some(nar) = self.paths.get(&store_path) {
            return CommitLine::Receipt(self.receipt(ReceiptStatus::Present, &store_path, nar));
        }
        match self.assemble(&manifest) {
            Err(missing) => CommitLine::ChunksMissing { store_path, missing },
            Ok(nar) if (hash(&nar), nar.len() as u64) == (nar_hash, nar_size) => {
                let receipt = self.receipt(ReceiptStatus::Uploaded, &store_path, &nar);
                self.paths.insert(store_path, nar);
                CommitLine::Receipt(receipt)
            }
            Ok(_) => refused(code::NAR_MISMATCH),
        }
    }

    fn assemble(&mut self, source: &ManifestSource) -> Result<Vec<u8>, Vec<ChunkName>> {
        let encoded = match source {
            ManifestSource::Inline(text) => ManifestSource::inline_bytes(text).unwrap(),
            ManifestSource::Chunks(names) => {
                self.manifest_pieces += names.len();
                self.decode(names, &mut [].iter())?
            }
        };
        let manifest = WireManifest::decode(&encoded).unwrap();
        let mut values = manifest.values.iter();
        let nar = self.decode(&manifest.names, &mut values)?;
        assert!(values.next().is_none());
        Ok(nar)
    }

    fn decode(
        &self,
        names: &[ChunkName],
        values: &mut slice::Iter<'_, StorePathHash>,
    ) -> Result<Vec<u8>, Vec<ChunkName>> {
        let missing: Vec<ChunkName> =
            names.iter().filter(|name| !self.chunks.contains_key(name)).copied().collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let mut decoder = FrameDecoder::new();
        let mut bytes = Vec::new();
        for (header, frame) in names.iter().map(|name| &self.chunks[name]) {
            let mut frame = frame.clone();
            let own: Vec<_> = values.by_ref().take(header.slots.len()).copied().collect();
            fill(&mut frame, &header.slots, &own).unwrap();
            decoder.decode_into(&frame, header.raw_len, &mut bytes).unwrap();
        }
        Ok(bytes)
    }
}

fn hash(nar: &[u8]) -> NarHash {
    NarHash::from_bytes(*Sha256::of(nar).as_bytes())
}
