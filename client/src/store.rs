//! The Nix store of this machine: which paths there are, what they refer to, and their bytes.
//!
//! Path infos come from Nix itself, over the worker protocol; files are read straight from the disk
//! ([`dump`]). Nothing here writes to the store, builds or substitutes; all that is asked of Nix
//! beside questions is to keep what is read from garbage collections. What is pushed, and where to,
//! is left out.

mod closure;
mod connection;
pub(crate) mod derivation;
pub mod dump;
mod error;
mod location;
mod operations;
mod resolve;
mod roots;
mod stdio;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use snowbank_core::hash::NarHash;
use snowbank_core::signing::Signature;
use snowbank_core::store_path::{StoreDir, StorePath};
use tokio::sync::Mutex;

pub use closure::Closure;
pub use error::{COLLECTED, StoreError};
pub use resolve::{Resolution, store_path_of};

use connection::Connection;
use location::Location;

/// Which store to open.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// A store's address as Nix writes it (`auto`, `daemon`, `unix://…`, `local`, `local?root=…`, a
    /// folder); `None` for what `NIX_REMOTE` says, or `auto`.
    pub uri: Option<String>,
}

impl StoreOptions {
    /// The folder in which Nix keeps a link to each link that is a garbage collection root. Nix is
    /// not asked.
    ///
    /// # Errors
    /// An address of a kind that is not supported.
    pub fn indirect_roots_dir(&self) -> Result<PathBuf, StoreError> {
        Ok(Location::find(self.uri.as_deref())?.state_dir.join("gcroots/auto"))
    }

    /// The folder that holds the store's files on this machine. Nix is not asked.
    ///
    /// # Errors
    /// An address of a kind that is not supported.
    pub fn real_dir(&self) -> Result<PathBuf, StoreError> {
        Ok(Location::find(self.uri.as_deref())?.real_dir)
    }
}

/// An open Nix store. Clones share one connection to Nix.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    location: Location,
    /// Taken out while in use: a connection whose use was cancelled or failed is in an unknown
    /// state, and is not put back. Temporary roots last as long as the connection.
    connection: Mutex<Option<Connection>>,
    /// For [`Store::is_still_valid`].
    fresh_connection: Mutex<Option<Connection>>,
    /// Nix was asked for temporary roots and does not give any.
    is_rootless: AtomicBool,
}

/// What Nix has registered for a path. The hash is Nix's word: whether the files still have it,
/// only reading them tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// The path.
    pub path: StorePath,
    /// SHA-256 of its NAR.
    pub nar_hash: NarHash,
    /// Length of its NAR in bytes.
    pub nar_size: u64,
    /// The paths that it refers to, sorted; itself among them if it does.
    pub references: Vec<StorePath>,
    /// The derivation that it was built from, if known.
    pub deriver: Option<StorePath>,
    /// Signatures of its narinfo fingerprint.
    pub signatures: Vec<Signature>,
    /// Whether it was built on this machine.
    pub ultimate: bool,
    /// How the path follows from its contents, if it does (`fixed:…`, `text:…`).
    pub ca: Option<String>,
    /// When it was registered, in seconds since 1970.
    pub registration_time: u64,
}

impl Store {
    /// Opens a store, and makes sure that Nix answers.
    ///
    /// # Errors
    /// An address of a kind that is not supported, a store that is not there, no Nix to ask, or one
    /// that speaks another protocol.
    pub async fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let location = Location::find(options.uri.as_deref())?;
        if let Some(uri) = &options.uri {
            location.assert_exists(uri)?;
        }
        Self::connect(location).await
    }

    /// As [`Store::open`], where Nix may make a store that is not there.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_or_create(options: StoreOptions) -> Result<Self, StoreError> {
        Self::connect(Location::find(options.uri.as_deref())?).await
    }

    async fn connect(location: Location) -> Result<Self, StoreError> {
        let connection = Connection::open(&location).await?;
        let shared = Shared {
            location,
            connection: Mutex::new(Some(connection)),
            fresh_connection: Mutex::new(None),
            is_rootless: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The folder in which the store's paths say that they are.
    #[must_use]
    pub fn store_dir(&self) -> &StoreDir {
        &self.shared.location.store_dir
    }

    /// Where the log of a derivation may lie, and how it is encoded then.
    #[must_use]
    pub fn log_files(&self, derivation: &StorePath) -> [(PathBuf, Option<&'static str>); 2] {
        let name = derivation.base_name();
        let (folder, rest) = name.split_at(2);
        let folder = self.shared.location.log_dir.join("drvs").join(folder);
        [(folder.join(format!("{rest}.bz2")), Some("bzip2")), (folder.join(rest), None)]
    }

    /// Where the path's files are on this machine: elsewhere than it says, in a store at another
    /// root.
    #[must_use]
    pub fn real_path(&self, path: &StorePath) -> PathBuf {
        self.shared.location.real_dir.join(path.base_name())
    }
}
