//! Deposits of which each has a pack of its own, ways to look at them, and ways to damage them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use reqwest::{Method, blocking::Body};
use snowbank_core::{
    bundle::BundleWriter,
    hash::{NarHash, Sha256},
    narinfo::NarInfo,
    store_path::StoreDir,
    wire::{CommitLine, MissingChunksResponse},
};
use snowbank_harness::{
    Api, Random, Server,
    craft::{Deposit, Node},
    database::{self, StoredChunk},
    process,
};

/// What came of fetching a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// All of it, as it was pushed.
    Whole,
    /// 404.
    Absent,
    /// Something that no client takes for the path: an error, a body that breaks off, or bytes that
    /// are not what the narinfo says.
    Refused,
}

/// A server and what was pushed to it.
pub struct Stage {
    pub server: Server,
    pub api: Api,
    random: Random,
}

impl Stage {
    pub fn new(seed: u64) -> Self {
        let server = Server::start();
        let api = Api::root(&server);
        Self { server, api, random: Random::fixed(seed) }
    }

    /// Pushes a path of some chunks, all of them in one new pack.
    pub fn deposit(&mut self, name: &str) -> Deposit {
        let node = Node::File(self.random.bytes(900_000));
        let deposit = Deposit::of(&mut self.random, name, &node);
        assert!(deposit.encoded.len() >= 3, "{} chunks", deposit.encoded.len());
        assert!(self.api.send_bundle(deposit.bundle()).status.is_success());
        self.commit(&deposit);
        deposit
    }

    #[track_caller]
    pub fn commit(&self, deposit: &Deposit) {
        let lines = self.api.commit(vec![deposit.commit()]).commit_lines();
        assert!(matches!(lines.as_slice(), [CommitLine::Receipt(_)]), "{lines:?}");
    }

    /// Which of its chunks the server asks for.
    #[track_caller]
    pub fn missing(&self, deposit: &Deposit) -> Vec<usize> {
        let names: Vec<u8> =
            deposit.manifest.names.iter().flat_map(|name| *name.as_bytes()).collect();
        let answer = self.api.post_bytes("/api/v1/caches/main/missing-chunks", names);
        let missing: MissingChunksResponse = answer.json();
        missing.missing.into_iter().map(|index| usize::try_from(index).unwrap()).collect()
    }

    /// Pushes it again as a client does; gives how many chunks travelled.
    #[track_caller]
    pub fn push_again(&self, deposit: &Deposit) -> usize {
        let missing = self.missing(deposit);
        if !missing.is_empty() {
            let mut writer = BundleWriter::new();
            for index in &missing {
                writer.add(&deposit.encoded[*index].header, &deposit.encoded[*index].frame);
            }
            assert!(self.api.send_bundle(writer.finish()).status.is_success());
        }
        self.commit(deposit);
        missing.len()
    }

    /// Fetches it as Nix does, and never takes anything else for it.
    #[track_caller]
    pub fn fetch(&self, deposit: &Deposit) -> Fetched {
        let narinfo = self.api.get(&deposit.narinfo());
        let info = match narinfo.status.as_u16() {
            200 => match NarInfo::parse_bytes(&StoreDir::default(), &narinfo.body) {
                Ok(info) => info,
                Err(_) => return Fetched::Refused,
            },
            404 => return Fetched::Absent,
            _ => return Fetched::Refused,
        };
        let address = format!("/main/{}", info.url);
        let answer = match self.api.try_send(Method::GET, &address, &[], Body::from(Vec::new())) {
            Ok(answer) if answer.status.as_u16() == 200 => answer,
            Ok(_) | Err(_) => return Fetched::Refused,
        };
        let Ok(nar) = zstd::stream::decode_all(&answer.body[..]) else { return Fetched::Refused };
        let hash = NarHash::from_bytes(*Sha256::of(&nar).as_bytes());
        if hash != info.nar_hash || nar.len() as u64 != info.nar_size {
            return Fetched::Refused;
        }
        assert!(nar == deposit.nar, "{}: another NAR was served as good", deposit.store_path);
        Fetched::Whole
    }

    /// Waits until it is out of sight on every replica.
    #[track_caller]
    pub fn wait_absent(&self, deposit: &Deposit) {
        let limit = Instant::now() + Duration::from_secs(20);
        let apis: Vec<Api> = self
            .server
            .replicas()
            .iter()
            .map(|one| Api::new(&one.url(), Some(&self.server.root_token())))
            .collect();
        while apis.iter().any(|api| api.get(&deposit.narinfo()).status.as_u16() != 404) {
            assert!(Instant::now() < limit, "{} is still visible", deposit.store_path);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where its chunks are.
    #[track_caller]
    pub fn chunks(&self, deposit: &Deposit) -> Vec<StoredChunk> {
        let names: Vec<[u8; 32]> =
            deposit.manifest.names.iter().map(|name| *name.as_bytes()).collect();
        database::stored_chunks(&self.server, &names)
    }

    /// The file of its pack.
    pub fn file(&self, deposit: &Deposit) -> PathBuf {
        self.server.objects().join(&self.chunks(deposit)[0].object)
    }

    pub fn check(&self, args: &[&str]) -> process::Output {
        self.server.command(&[&["check"], args].concat())
    }

    /// Repairs everything, having read all packs, and decoded the NARs of these paths.
    #[track_caller]
    pub fn repair(&self, paths: &str) -> process::Output {
        self.server.command(&["repair", "--yes", "--read-data", "--paths", paths]).success()
    }

    /// Runs a statement on the row of a deposit's chunk, NAR or path.
    pub fn edit(&self, statement: &str, blob: Option<&[u8]>) {
        database::edit(&self.server, statement, blob);
    }
}

/// Changes a file's bytes.
pub fn change(file: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    how(&mut bytes);
    fs::write(file, bytes).unwrap();
}

/// What of a store path stands in a row.
pub fn hash_part(deposit: &Deposit) -> &str {
    &deposit.store_path["/nix/store/".len()..][..32]
}
