//! Requests that are small for who sends them, and large for who answers.

use serde_json::json;
use snowbank_core::{
    chunk::{Chunk, ChunkName},
    frame::EncodedChunk,
    hash::NarHash,
    manifest::WireManifest,
    nar::encode,
    wire::{CommitRequest, ManifestSource, PathCommit},
};

use super::connection::post_head;
use crate::{
    Random,
    craft::{self, Deposit},
};

/// Bytes of the largest JSON body that a server takes.
const JSON_BYTES: usize = 16 << 20;
/// Paths of the largest commit, and of the largest question for missing paths.
const PATHS_PER_COMMIT: usize = 256;
const PATHS_PER_QUERY: usize = 4096;
/// Chunks that one answer names as missing at most.
const MISSING_NAMED: usize = 8192;
/// The largest chunk.
const CHUNK_BYTES: usize = 4 << 20;

fn store_path(random: &mut Random, name: &str) -> String {
    format!("/nix/store/{}-{name}", random.hash_chars())
}

fn path_commit(
    random: &mut Random,
    store_path: String,
    nar_size: u64,
    manifest: ManifestSource,
) -> PathCommit {
    let hash = random.bytes(32).try_into().unwrap_or_else(|_| panic!("32 bytes are 32 bytes"));
    PathCommit {
        store_path,
        nar_hash: NarHash::from_bytes(hash),
        nar_size,
        references: Vec::new(),
        upstream: Vec::new(),
        deriver: None,
        signatures: Vec::new(),
        ca: None,
        cut: None,
        manifest,
    }
}

fn commit(paths: Vec<PathCommit>) -> Vec<u8> {
    let request = CommitRequest { paths, ..CommitRequest::default() };
    serde_json::to_vec(&request).unwrap_or_else(|e| panic!("a commit is JSON: {e}"))
}

/// A whole request that sends `body` to `endpoint` of `main`.
pub(super) fn post(endpoint: &str, token: &str, body: &[u8]) -> Vec<u8> {
    let mut request = post_head(
        &format!("/api/v1/caches/main/{endpoint}"),
        token,
        "application/json",
        body.len(),
    );
    request.extend_from_slice(body);
    request
}

/// A commit of 16 MiB whose answer is longer than itself: names that are no store paths, each of
/// which the refusal repeats.
pub(super) fn long_names(random: &mut Random) -> Vec<u8> {
    let manifest = ManifestSource::inline(&WireManifest::default().encode());
    let long = "x".repeat(JSON_BYTES / PATHS_PER_COMMIT - 512);
    let path = |_| {
        let name = store_path(random, &long);
        path_commit(random, name, 100, manifest.clone())
    };
    commit((0..PATHS_PER_COMMIT).map(path).collect())
}

/// A question of 11 MiB for paths that no cache has; the answer repeats it.
pub(super) fn long_question(random: &mut Random) -> Vec<u8> {
    let long = "x".repeat(2_650);
    let nar_hash = NarHash::from_bytes([7; 32]);
    let query = |_| json!({ "store_path": store_path(random, &long), "nar_hash": nar_hash });
    let paths: Vec<_> = (0..PATHS_PER_QUERY).map(query).collect();
    json!({ "paths": paths, "dry_run": true }).to_string().into_bytes()
}

/// A commit of one path with as many empty references as 16 MiB have room for.
pub(super) fn empty_references(random: &mut Random) -> Vec<u8> {
    let name = store_path(random, "references");
    let body = commit(vec![path_commit(
        random,
        name,
        100,
        ManifestSource::inline(&WireManifest::default().encode()),
    )]);
    let body = String::from_utf8(body).unwrap_or_else(|e| panic!("JSON is text: {e}"));
    let (head, tail) =
        body.split_once("\"references\":[]").unwrap_or_else(|| panic!("no references: {body}"));
    let count = (JSON_BYTES - body.len()) / 3;
    let references = vec!["\"\""; count].join(",");
    format!("{head}\"references\":[{references}]{tail}").into_bytes()
}

/// A chunk that holds a manifest of chunks that nobody has.
pub(super) fn manifest_of_missing(random: &mut Random) -> EncodedChunk {
    let name = |_| {
        ChunkName::from_bytes(random.bytes(32).try_into().unwrap_or_else(|_| panic!("32 bytes")))
    };
    let manifest =
        WireManifest { names: (0..MISSING_NAMED).map(name).collect(), values: Vec::new() };
    craft::encode(Chunk::closed(manifest.encode()), 1).1
}

/// A commit of 89 KB: 256 paths, the manifest of each being the chunk `manifest`.
pub(super) fn manifests_as_chunks(random: &mut Random, manifest: ChunkName) -> Vec<u8> {
    let path = |number| {
        let name = store_path(random, &format!("chunks-{number}"));
        path_commit(random, name, 1 << 20, ManifestSource::Chunks(vec![manifest]))
    };
    commit((0..PATHS_PER_COMMIT).map(path).collect())
}

/// A path whose chunks are of the largest size, and do not compress.
pub(super) fn large_chunks(random: &mut Random, bytes: usize) -> Deposit {
    let mut nar = Vec::new();
    let contents = random.bytes(bytes);
    encode::magic(&mut nar);
    encode::regular_start(&mut nar, false, bytes as u64);
    nar.extend_from_slice(&contents);
    encode::regular_end(&mut nar, bytes as u64);
    let encoded: Vec<EncodedChunk> = nar
        .chunks(CHUNK_BYTES)
        .map(|piece| craft::encode(Chunk::closed(piece.to_vec()), 1).1)
        .collect();
    let names = encoded.iter().map(|one| one.header.name).collect();
    let manifest = WireManifest { names, values: Vec::new() };
    Deposit {
        store_path: store_path(random, "large-chunks"),
        nar,
        encoded,
        manifest,
        references: Vec::new(),
    }
}

/// A commit that claims a great deal with few chunks: files of zeros, each a chunk of zeros many
/// times.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The chunks to be sent before.
    pub chunks: Vec<EncodedChunk>,
    /// The body of the commit.
    pub body: Vec<u8>,
    /// Bytes that all its NARs are said to have.
    pub bytes: u64,
}

impl Claim {
    /// A commit of `paths` paths with `zeros` chunks of 4 MiB each. The hashes that it declares are
    /// wrong, so that none becomes visible, and each is decoded to its end.
    #[must_use]
    pub fn of(random: &mut Random, paths: usize, zeros: usize) -> Self {
        let contents = (zeros * CHUNK_BYTES) as u64;
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        encode::magic(&mut head);
        encode::regular_start(&mut head, false, contents);
        encode::regular_end(&mut tail, contents);
        let nar_size = head.len() as u64 + contents + tail.len() as u64;
        let chunks = [head, vec![0; CHUNK_BYTES], tail]
            .map(|bytes| craft::encode(Chunk::closed(bytes), 1).1);
        let [head, zero, tail] = [0, 1, 2].map(|index: usize| chunks[index].header.name);
        let names = [vec![head], vec![zero; zeros], vec![tail]].concat();
        let manifest = ManifestSource::inline(&WireManifest { names, values: Vec::new() }.encode());
        let path = |number| {
            let name = store_path(random, &format!("claim-{number}"));
            path_commit(random, name, nar_size, manifest.clone())
        };
        let body = commit((0..paths).map(path).collect());
        Self { chunks: chunks.into(), body, bytes: nar_size * paths as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_as_large_as_they_are_said_to_be() {
        let mut random = Random::fixed(1);
        let within = |body: Vec<u8>| {
            assert!(
                body.len() <= JSON_BYTES && body.len() > JSON_BYTES - (JSON_BYTES >> 5),
                "{}",
                body.len()
            );
        };
        within(long_names(&mut random));
        within(empty_references(&mut random));
        let question = long_question(&mut random).len();
        assert!((11_000_000..12_000_000).contains(&question), "{question}");
        let chunks = manifests_as_chunks(&mut random, ChunkName::from_bytes([0; 32])).len();
        assert!((70_000..100_000).contains(&chunks), "{chunks}");
        let claim = Claim::of(&mut random, PATHS_PER_COMMIT, 1280);
        assert!(
            claim.body.len() <= JSON_BYTES && claim.bytes >= 5 << 38,
            "{} {}",
            claim.body.len(),
            claim.bytes
        );
    }
}
