//! What a server holds before it is attacked, and what hostile and honest clients ask it for.

use std::sync::Arc;

use super::{Claim, Drip, crafted};
use crate::{
    Api, Pusher, Random, Server,
    craft::{self, Deposit, Node},
    oracle::Oracle,
};

/// Paths in one commit.
const COMMIT: usize = 256;
/// Subjects of hostile tokens.
const MALLORIES: usize = 8;

/// How much a server holds.
#[derive(Clone, Copy, Debug)]
pub struct GroundSize {
    /// Tiny paths.
    pub paths: usize,
    /// Bytes of the NAR with chunks of the largest size.
    pub large_bytes: usize,
    /// Bytes of the NAR that honest clients download.
    pub download_bytes: usize,
    /// Chunks of zeros in each path of the commit that claims a great deal.
    pub claimed_chunks: usize,
}

impl GroundSize {
    /// For loads at their real size.
    pub const REAL: Self = Self {
        paths: 4_200,
        large_bytes: 64 << 20,
        download_bytes: 20_000_000,
        claimed_chunks: 1_280,
    };
    /// For tests.
    pub const SMALL: Self =
        Self { paths: 300, large_bytes: 12 << 20, download_bytes: 2_000_000, claimed_chunks: 64 };
}

/// What is there, and who may do what.
#[derive(Debug)]
pub struct Ground {
    /// Narinfos of the tiny paths.
    pub narinfos: Vec<String>,
    /// The NAR that honest clients download.
    pub download: String,
    /// The NAR with the largest chunks, compressed and not.
    pub large: Arc<Vec<String>>,
    /// A token of one who pushes honestly.
    pub honest_token: String,
    /// Tokens of those who push with bad intent, each of another subject.
    pub hostile_tokens: Vec<String>,
    manifest: snowbank_core::chunk::ChunkName,
    claim: Claim,
}

impl Ground {
    /// Fills a server that has just been started.
    #[must_use]
    pub fn prepare(server: &Server, size: GroundSize) -> Self {
        let mut random = Random::fixed(14);
        let api = Api::root(server);
        let pusher = Pusher::new(&api, "main");
        let tiny = |number| {
            let contents = Node::File(random.bytes(200));
            Deposit::of(&mut random, &format!("tiny-{number}"), &contents)
        };
        let tiny: Vec<Deposit> = (0..size.paths).map(tiny).collect();
        for some in tiny.chunks(COMMIT) {
            let _ = pusher.push(&some.iter().collect::<Vec<_>>());
        }
        let large = crafted::large_chunks(&mut random, size.large_bytes);
        let noise = Node::File(random.bytes(size.download_bytes));
        let download = Deposit::of(&mut random, "download", &noise);
        let _ = pusher.push(&[&large]);
        let _ = pusher.push(&[&download]);

        let manifest = crafted::manifest_of_missing(&mut random);
        let claim = Claim::of(&mut random, COMMIT, size.claimed_chunks);
        let sent = api.send_bundle(craft::bundle(claim.chunks.iter().chain([&manifest])));
        assert!(sent.status.is_success(), "{}: {}", sent.status, sent.text());

        let oracle = Oracle::main(server);
        let nar = |one: &Deposit| {
            let info = oracle
                .narinfo(&one.store_path)
                .unwrap_or_else(|| panic!("{} is not there", one.store_path));
            format!("/main/{}", info.url)
        };
        let compressed = nar(&large);
        let raw = compressed.trim_end_matches(".zst").to_owned();
        Self {
            narinfos: tiny.iter().map(Deposit::narinfo).collect(),
            download: nar(&download),
            large: Arc::new(vec![compressed, raw]),
            honest_token: server.token("alice", &["*"], &["*"]),
            hostile_tokens: (0..MALLORIES)
                .map(|n| server.token(&format!("mallory-{n}"), &["*"], &["*"]))
                .collect(),
            manifest: manifest.header.name,
            claim,
        }
    }

    /// Requests with one body and the tokens of `subjects` subjects.
    fn posts(&self, subjects: usize, endpoint: &str, body: &[u8]) -> Arc<Vec<Vec<u8>>> {
        Arc::new(
            self.hostile_tokens
                .iter()
                .take(subjects)
                .map(|token| crafted::post(endpoint, token, body))
                .collect(),
        )
    }

    /// Commits of 16 MiB with answers that are longer still; one token.
    #[must_use]
    pub fn long_commits(&self) -> Arc<Vec<Vec<u8>>> {
        self.posts(1, "paths", &crafted::long_names(&mut Random::fixed(1)))
    }

    /// Questions of 11 MiB with answers as long, of all tokens.
    #[must_use]
    pub fn long_questions(&self) -> Arc<Vec<Vec<u8>>> {
        self.posts(MALLORIES, "missing-paths", &crafted::long_question(&mut Random::fixed(2)))
    }

    /// Commits of 16 MiB of empty references, of all tokens.
    #[must_use]
    pub fn empty_references(&self) -> Arc<Vec<Vec<u8>>> {
        self.posts(MALLORIES, "paths", &crafted::empty_references(&mut Random::fixed(3)))
    }

    /// Commits of 89 KB that name manifests sent as chunks, of all tokens.
    #[must_use]
    pub fn manifests_as_chunks(&self) -> Arc<Vec<Vec<u8>>> {
        self.posts(
            MALLORIES,
            "paths",
            &crafted::manifests_as_chunks(&mut Random::fixed(4), self.manifest),
        )
    }

    /// A commit that claims 1.25 TiB, at the real size; one token.
    #[must_use]
    pub fn claims(&self) -> Arc<Vec<Vec<u8>>> {
        self.posts(1, "paths", &self.claim.body)
    }

    /// Bytes that [`Self::claims`] claims.
    #[must_use]
    pub const fn claimed_bytes(&self) -> u64 {
        self.claim.bytes
    }

    /// Bodies of 16 MiB that arrive at `rate` bytes per second, commits and questions; one token.
    #[must_use]
    pub fn drips(&self, rate: usize) -> Arc<Vec<Drip>> {
        let drip = |endpoint: &str| Drip {
            target: format!("/api/v1/caches/main/{endpoint}"),
            token: self.hostile_tokens[0].clone(),
            length: 16 << 20,
            rate,
        };
        Arc::new(["paths", "missing-paths"].map(drip).into())
    }
}
