//! Deposits made by hand: NARs, chunks, bundles and commits, honest unless a test bends them.

use snowbank_core::{
    bundle::BundleWriter,
    chunk::Chunk,
    cut::{Chunker, CutParams},
    frame::{EncodedChunk, FrameEncoder, FrameError},
    hash::{NarHash, Sha256},
    manifest::WireManifest,
    nar::encode,
    store_path::{StoreDir, StorePath},
    wire::{ManifestSource, PathCommit},
};

use crate::Random;

/// A node of a file tree. What a folder's entries are called, and in which order they come, is up
/// to the test.
#[derive(Clone, Debug)]
pub enum Node {
    /// A file.
    File(Vec<u8>),
    /// An executable file.
    Executable(Vec<u8>),
    /// A symlink.
    Symlink(Vec<u8>),
    /// A folder.
    Folder(Vec<(Vec<u8>, Self)>),
}

impl Node {
    /// A folder of files.
    #[must_use]
    pub fn folder(entries: &[(&str, &str)]) -> Self {
        let entry = |(name, text): &(&str, &str)| {
            (name.as_bytes().to_vec(), Self::File(text.as_bytes().to_vec()))
        };
        Self::Folder(entries.iter().map(entry).collect())
    }

    /// Its NAR.
    #[must_use]
    pub fn nar(&self) -> Vec<u8> {
        let mut nar = Vec::new();
        encode::magic(&mut nar);
        self.append(&mut nar);
        nar
    }

    fn append(&self, nar: &mut Vec<u8>) {
        match self {
            Self::File(bytes) | Self::Executable(bytes) => {
                encode::regular_start(nar, matches!(self, Self::Executable(_)), bytes.len() as u64);
                nar.extend_from_slice(bytes);
                encode::regular_end(nar, bytes.len() as u64);
            }
            Self::Symlink(target) => encode::symlink(nar, target),
            Self::Folder(entries) => {
                encode::directory_start(nar);
                for (name, node) in entries {
                    encode::entry_start(nar, name);
                    node.append(nar);
                    encode::entry_end(nar);
                }
                encode::directory_end(nar);
            }
        }
    }
}

/// The chunks of a NAR, as the client would cut it.
#[must_use]
pub fn cut(nar: &[u8]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let chunker = Chunker::new(&StoreDir::default(), CutParams::DEFAULT);
    let mut chunker = chunker.unwrap_or_else(|e| panic!("the default cut: {e}"));
    chunker.feed(nar, &mut |chunk| chunks.push(chunk));
    chunker.finish(&mut |chunk| chunks.push(chunk));
    chunks
}

/// A chunk as it travels; closed when it will not stay open.
#[must_use]
pub fn encode(chunk: Chunk, level: i32) -> (Chunk, EncodedChunk) {
    let mut encoder = FrameEncoder::new(level);
    match encoder.encode(&chunk, &chunk.name()) {
        Ok(open) => (chunk, open),
        Err(FrameError::WillNotStayOpen) => {
            let chunk = chunk.close();
            let closed = encoder.encode(&chunk, &chunk.name());
            (chunk, closed.unwrap_or_else(|e| panic!("a closed chunk does not encode: {e}")))
        }
        Err(error) => panic!("a chunk does not encode: {error}"),
    }
}

/// One path to deposit.
#[derive(Clone, Debug)]
pub struct Deposit {
    /// Its store path, full.
    pub store_path: String,
    /// Its NAR.
    pub nar: Vec<u8>,
    /// Its chunks as they travel, in order.
    pub encoded: Vec<EncodedChunk>,
    /// Its manifest.
    pub manifest: WireManifest,
    /// Base names of what it refers to.
    pub references: Vec<String>,
}

impl Deposit {
    /// A path with this content, under a random store hash.
    #[must_use]
    pub fn of(random: &mut Random, name: &str, node: &Node) -> Self {
        Self::of_nar(random, name, node.nar())
    }

    /// A path with these bytes for a NAR.
    #[must_use]
    pub fn of_nar(random: &mut Random, name: &str, nar: Vec<u8>) -> Self {
        Self::at(format!("/nix/store/{}-{name}", random.hash_chars()), nar)
    }

    /// The path `store_path` with these bytes for a NAR; it refers to nothing.
    #[must_use]
    pub fn at(store_path: String, nar: Vec<u8>) -> Self {
        let (mut encoded, mut manifest) =
            (Vec::new(), WireManifest { names: Vec::new(), values: Vec::new() });
        for chunk in cut(&nar) {
            let (chunk, one) = encode(chunk, 3);
            manifest.names.push(chunk.name());
            manifest.values.extend_from_slice(&chunk.values);
            encoded.push(one);
        }
        Self { store_path, nar, encoded, manifest, references: Vec::new() }
    }

    /// All its chunks in one bundle.
    #[must_use]
    pub fn bundle(&self) -> Vec<u8> {
        bundle(&self.encoded)
    }

    /// What commits it.
    #[must_use]
    pub fn commit(&self) -> PathCommit {
        PathCommit {
            store_path: self.store_path.clone(),
            nar_hash: self.nar_hash(),
            nar_size: self.nar.len() as u64,
            references: self.references.clone(),
            upstream: Vec::new(),
            deriver: None,
            signatures: Vec::new(),
            ca: None,
            cut: None,
            manifest: ManifestSource::inline(&self.manifest.encode()),
        }
    }

    /// Its NAR's hash.
    #[must_use]
    pub fn nar_hash(&self) -> NarHash {
        NarHash::from_bytes(*Sha256::of(&self.nar).as_bytes())
    }

    /// Its base name.
    #[must_use]
    pub fn base_name(&self) -> &str {
        self.store_path.rsplit('/').next().unwrap_or_default()
    }

    /// The same, referring to these.
    #[must_use]
    pub fn referring_to(mut self, others: &[&Self]) -> Self {
        self.references = others.iter().map(|other| other.base_name().to_owned()).collect();
        self
    }

    /// A narinfo as Nix uploads it, for a NAR that was uploaded as `nar/{file}`.
    #[must_use]
    pub fn narinfo_text(&self, file: &str) -> String {
        format!(
            "StorePath: {}\nURL: nar/{file}\nCompression: none\nNarHash: {}\nNarSize: {}\n\
             References: {}\n",
            self.store_path,
            self.nar_hash(),
            self.nar.len(),
            self.references.join(" ")
        )
    }

    /// Its narinfo's address, below the server's.
    #[must_use]
    pub fn narinfo(&self) -> String {
        narinfo("main", &self.store_path)
    }
}

/// A bundle of these chunks.
#[must_use]
pub fn bundle<'a>(encoded: impl IntoIterator<Item = &'a EncodedChunk>) -> Vec<u8> {
    let mut writer = BundleWriter::new();
    for one in encoded {
        writer.add(&one.header, &one.frame);
    }
    writer.finish()
}

/// The address of a store path's narinfo in a cache, below the server's.
#[must_use]
pub fn narinfo(cache: &str, store_path: &str) -> String {
    let parsed = StorePath::parse(&StoreDir::default(), store_path);
    let path = parsed.unwrap_or_else(|e| panic!("{store_path}: {e}"));
    format!("/{cache}/{}.narinfo", path.hash())
}
