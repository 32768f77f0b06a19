//! What must hold of a cache whatever happened before: what has a receipt is served as it was
//! pushed, nothing is visible in part, and `snowbankd check` agrees.

use std::{collections::HashSet, io::Read as _};

use snowbank_core::{
    hash::{FileHash, NarHash, Sha256, Sha256Hasher},
    narinfo::NarInfo,
    receipt::Receipt,
    signing::PublicKey,
    store_path::StoreDir,
};

use crate::{Api, NixStore, Server, craft};

/// A cache under examination.
#[derive(Debug)]
pub struct Oracle {
    api: Api,
    cache: String,
    keys: Vec<PublicKey>,
    store_dir: StoreDir,
}

impl Oracle {
    /// The cache `main` of `server`.
    #[must_use]
    pub fn main(server: &Server) -> Self {
        Self::new(server, "main", Api::root(server))
    }

    /// A cache of `server`, seen with the token of `api`.
    #[must_use]
    pub fn new(server: &Server, cache: &str, api: Api) -> Self {
        let keys = Api::root(server).cache_info(cache).public_keys;
        let parse =
            |text: &String| text.parse().unwrap_or_else(|e| panic!("the public key {text}: {e}"));
        Self {
            api,
            cache: cache.to_owned(),
            keys: keys.iter().map(parse).collect(),
            store_dir: StoreDir::default(),
        }
    }

    /// The cache's public key, as nix.conf wants it.
    #[must_use]
    pub fn public_key(&self) -> String {
        self.keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    /// The narinfo of a path; `None` when it is not visible.
    #[must_use]
    #[track_caller]
    pub fn narinfo(&self, store_path: &str) -> Option<NarInfo> {
        let address = craft::narinfo(&self.cache, store_path);
        let answer = self.api.get(&address);
        match answer.status.as_u16() {
            200 => {
                let parsed = NarInfo::parse_bytes(&self.store_dir, &answer.body);
                Some(parsed.unwrap_or_else(|e| panic!("{address}: {e}: {}", answer.text())))
            }
            404 => None,
            status => panic!("{address}: status {status}: {}", answer.text()),
        }
    }

    /// Whether a path is visible.
    #[must_use]
    #[track_caller]
    pub fn visible(&self, store_path: &str) -> bool {
        self.narinfo(store_path).is_some()
    }

    /// Downloads a path, and asserts that all of it is as its narinfo says: signature, file hash
    /// and size, NAR hash and size. Gives the narinfo.
    #[track_caller]
    pub fn assert_whole(&self, store_path: &str) -> NarInfo {
        let info =
            self.narinfo(store_path).unwrap_or_else(|| panic!("{store_path} is not visible"));
        assert_eq!(info.store_path.full(&self.store_dir), store_path);
        let fingerprint = info.fingerprint(&self.store_dir);
        let signed = |key: &PublicKey| {
            info.signatures.iter().any(|one| key.verify(fingerprint.as_bytes(), one))
        };
        assert!(self.keys.iter().all(signed), "{store_path}: not signed by every key of the cache");
        let address = format!("/{}/{}", self.cache, info.url);
        let answer = self.api.get(&address);
        assert_eq!(answer.status.as_u16(), 200, "{address}: {}", answer.text());
        assert_eq!(info.file_size, Some(answer.body.len() as u64), "{address}: FileSize");
        let file_hash = FileHash::from_bytes(*Sha256::of(&answer.body).as_bytes());
        assert_eq!(info.file_hash, Some(file_hash), "{address}: FileHash");
        let (hash, size) = decoded(&answer.body, &info.compression, &address);
        assert_eq!(
            (hash, size),
            (info.nar_hash, info.nar_size),
            "{address}: the NAR is not what its narinfo says"
        );
        info
    }

    /// Asserts that a receipt is signed and true.
    #[track_caller]
    pub fn assert_receipt(&self, receipt: &Receipt) {
        assert!(receipt.verify(&self.keys), "not signed by the cache: {receipt:?}");
        assert_eq!(receipt.cache, self.cache);
        let info = self.assert_whole(&receipt.store_path);
        assert_eq!(
            (info.nar_hash, info.nar_size),
            (receipt.nar_hash, receipt.nar_size),
            "{}",
            receipt.store_path
        );
    }

    /// Asserts that every one of these receipts is signed and true.
    #[track_caller]
    pub fn assert_receipts(&self, receipts: &[Receipt]) {
        for receipt in receipts {
            self.assert_receipt(receipt);
        }
    }

    /// Asserts that each of these paths is either invisible, or visible and whole with all that it
    /// refers to. Gives those that are visible.
    #[track_caller]
    pub fn assert_nothing_in_part(&self, store_paths: &[String]) -> Vec<String> {
        let visible: Vec<String> =
            store_paths.iter().filter(|path| self.visible(path)).cloned().collect();
        let mut seen: HashSet<String> = HashSet::new();
        for path in &visible {
            for reference in self.assert_whole(path).references {
                let reference = reference.full(&self.store_dir);
                if seen.insert(reference.clone()) {
                    assert!(
                        self.visible(&reference),
                        "{path} is visible, and {reference}, which it refers to, is not"
                    );
                }
            }
        }
        visible
    }

    /// Asserts that all of these paths of `store` are visible and whole, and have the hashes that
    /// Nix recorded.
    #[track_caller]
    pub fn assert_mirrors(&self, store: &NixStore, store_paths: &[String]) {
        for (path, hash) in store_paths.iter().zip(store.hashes(store_paths)) {
            assert_eq!(self.assert_whole(path).nar_hash.to_string(), hash, "{path}");
        }
    }
}

/// SHA-256 and size of the NAR in a download.
fn decoded(body: &[u8], compression: &str, address: &str) -> (NarHash, u64) {
    let mut reader: Box<dyn std::io::Read + '_> = match compression {
        "zstd" => {
            Box::new(zstd::stream::Decoder::new(body).unwrap_or_else(|e| panic!("{address}: {e}")))
        }
        "none" => Box::new(body),
        other => panic!("{address}: Compression: {other}"),
    };
    let (mut hasher, mut size, mut buffer) = (Sha256Hasher::new(), 0, vec![0; 256 << 10]);
    loop {
        let len =
            reader.read(&mut buffer).unwrap_or_else(|e| panic!("{address} does not decode: {e}"));
        if len == 0 {
            return (NarHash::from_bytes(*hasher.finish().as_bytes()), size);
        }
        hasher.update(&buffer[..len]);
        size += len as u64;
    }
}

/// Asserts that the server's own check finds nothing wrong, reading every pack and decoding every
/// NAR.
#[track_caller]
pub fn assert_check_is_clean(server: &Server) {
    let output = server.command(&["check", "--read-data", "--paths", "*"]);
    assert!(output.status.success(), "snowbankd check --read-data --paths '*': {output}");
}
