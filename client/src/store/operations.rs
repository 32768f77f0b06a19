//! The questions that are asked of Nix, one request each, many under way at a time.
//!
//! A batch is written and its answers are read at the same time, so that neither side waits on a
//! full socket buffer for the other to read. Source: `worker-protocol.hh`, `wopIsValidPath` and
//! those below.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use snowbank_core::hash::{NarHash, Sha256};
use snowbank_core::store_path::{StoreDir, StorePath};
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

use super::connection::{Connection, Reader, await_answer};
use super::wire::{WireError, malformed, put_string, put_u64, read_string, read_strings, read_u64};
use super::{PathInfo, Store, StoreError};

const IS_VALID_PATH: u64 = 1;
const ADD_TEMP_ROOT: u64 = 11;
const ADD_INDIRECT_ROOT: u64 = 12;
const QUERY_ALL_VALID_PATHS: u64 = 23;
const QUERY_PATH_INFO: u64 = 26;
const QUERY_VALID_PATHS: u64 = 31;
const QUERY_DERIVATION_OUTPUT_MAP: u64 = 41;

/// Requests under way at a time.
const BATCH: usize = 512;
/// Paths in one question about many.
const PATHS_PER_QUESTION: usize = 8192;

impl Store {
    /// What Nix has registered for each of `paths`, in their order; `None` for a path that it does
    /// not know.
    ///
    /// # Errors
    /// The connection broke, or Nix answered with an error.
    pub async fn path_infos(
        &self,
        paths: &[StorePath],
    ) -> Result<Vec<Option<PathInfo>>, StoreError> {
        let store_dir = self.store_dir();
        let mut infos = Vec::with_capacity(paths.len());
        for batch in paths.chunks(BATCH) {
            let mut requests = Vec::with_capacity(batch.len() * 96);
            for path in batch {
                put_u64(&mut requests, QUERY_PATH_INFO);
                put_string(&mut requests, &path.full(store_dir));
            }
            let batch_infos = self
                .ask(requests, async |reader, minor| {
                    let mut infos = Vec::with_capacity(batch.len());
                    for path in batch {
                        await_answer(reader, minor).await?;
                        infos.push(read_path_info(reader, store_dir, path).await?);
                    }
                    Ok(infos)
                })
                .await?;
            infos.extend(batch_infos);
        }
        Ok(infos)
    }

    /// Makes `paths` temporary roots, which no garbage collection removes, for as long as the
    /// connection lasts. They need not be there: a path that is, once it is a root, stays.
    ///
    /// # Errors
    /// As [`Store::path_infos`]; a daemon that may not write to its store.
    pub(super) async fn add_temporary_roots(&self, paths: &[StorePath]) -> Result<(), StoreError> {
        for batch in paths.chunks(BATCH) {
            let mut requests = Vec::with_capacity(batch.len() * 96);
            for path in batch {
                put_u64(&mut requests, ADD_TEMP_ROOT);
                put_string(&mut requests, &path.full(self.store_dir()));
            }
            self.ask(requests, async |reader, minor| {
                for _path in batch {
                    await_answer(reader, minor).await?;
                    let _always_one = read_u64(reader).await?;
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Has Nix keep the store path that the symbolic link `link` points to, until the link is gone.
    ///
    /// # Errors
    /// As [`Store::path_infos`]; a link whose name is not UTF-8.
    pub async fn add_indirect_root(&self, link: &Path) -> Result<(), StoreError> {
        let name = link
            .to_str()
            .ok_or_else(|| StoreError::Protocol(format!("{} is not UTF-8", link.display())))?;
        let mut request = Vec::new();
        put_u64(&mut request, ADD_INDIRECT_ROOT);
        put_string(&mut request, name);
        self.ask(request, async |reader, minor| {
            await_answer(reader, minor).await?;
            let _always_one = read_u64(reader).await?;
            Ok(())
        })
        .await
    }

    /// Whether Nix knows `path`.
    ///
    /// # Errors
    /// As [`Store::path_infos`].
    pub async fn is_valid(&self, path: &StorePath) -> Result<bool, StoreError> {
        self.is_valid_on(&self.shared.connection, path).await
    }

    /// Whether Nix still knows `path`. A connection remembers what it once said of a path; this one
    /// is never asked for more.
    ///
    /// # Errors
    /// As [`Store::path_infos`].
    pub async fn is_still_valid(&self, path: &StorePath) -> Result<bool, StoreError> {
        self.is_valid_on(&self.shared.fresh_connection, path).await
    }

    async fn is_valid_on(
        &self,
        slot: &Mutex<Option<Connection>>,
        path: &StorePath,
    ) -> Result<bool, StoreError> {
        let mut request = Vec::new();
        put_u64(&mut request, IS_VALID_PATH);
        put_string(&mut request, &path.full(self.store_dir()));
        let read = async |reader: &mut Reader, minor| {
            await_answer(reader, minor).await?;
            Ok(read_u64(reader).await? != 0)
        };
        self.ask_on(slot, |_| Ok(request), read).await
    }

    /// All paths that Nix knows, in no particular order.
    ///
    /// # Errors
    /// As [`Store::path_infos`].
    pub async fn all_valid_paths(&self) -> Result<Vec<StorePath>, StoreError> {
        let mut request = Vec::new();
        put_u64(&mut request, QUERY_ALL_VALID_PATHS);
        self.ask(request, async |reader, minor| {
            await_answer(reader, minor).await?;
            store_paths(self.store_dir(), &read_strings(reader).await?)
        })
        .await
    }

    /// Those of `paths` that Nix knows. Nothing is substituted.
    ///
    /// # Errors
    /// As [`Store::path_infos`].
    pub async fn valid_paths(&self, paths: &[StorePath]) -> Result<HashSet<StorePath>, StoreError> {
        let store_dir = self.store_dir();
        let mut valid = HashSet::with_capacity(paths.len());
        for batch in paths.chunks(PATHS_PER_QUESTION) {
            let mut paths = Vec::new();
            put_u64(&mut paths, batch.len() as u64);
            for path in batch {
                put_string(&mut paths, &path.full(store_dir));
            }
            let answer = self
                .ask_with(
                    |minor| {
                        let mut request = Vec::with_capacity(paths.len() + 16);
                        put_u64(&mut request, QUERY_VALID_PATHS);
                        request.extend_from_slice(&paths);
                        if minor >= 27 {
                            put_u64(&mut request, 0); // do not substitute
                        }
                        Ok(request)
                    },
                    async |reader, minor| {
                        await_answer(reader, minor).await?;
                        store_paths(store_dir, &read_strings(reader).await?)
                    },
                )
                .await?;
            valid.extend(answer);
        }
        Ok(valid)
    }

    /// The outputs of a derivation by name; `None` for one whose path is not known before it is
    /// built.
    ///
    /// # Errors
    /// As [`Store::path_infos`]; a derivation that Nix does not have; Nix older than 2.4.
    pub async fn derivation_outputs(
        &self,
        derivation: &StorePath,
    ) -> Result<BTreeMap<String, Option<StorePath>>, StoreError> {
        let store_dir = self.store_dir();
        self.ask_with(
            |minor| {
                if minor < 22 {
                    return Err(StoreError::Protocol(
                        "its Nix is older than 2.4 and does not tell outputs".to_owned(),
                    ));
                }
                let mut request = Vec::new();
                put_u64(&mut request, QUERY_DERIVATION_OUTPUT_MAP);
                put_string(&mut request, &derivation.full(store_dir));
                Ok(request)
            },
            async |reader, minor| {
                await_answer(reader, minor).await?;
                let mut outputs = BTreeMap::new();
                for _ in 0..super::wire::read_count(reader).await? {
                    let name = read_string(reader).await?;
                    outputs.insert(name, optional_path(store_dir, &read_string(reader).await?)?);
                }
                Ok(outputs)
            },
        )
        .await
    }

    /// [`Store::ask_with`] for requests that are the same in every version.
    async fn ask<T>(
        &self,
        requests: Vec<u8>,
        read: impl AsyncFnOnce(&mut Reader, u64) -> Result<T, WireError>,
    ) -> Result<T, StoreError> {
        self.ask_with(|_| Ok(requests), read).await
    }

    /// Sends what `requests` gives for the protocol's minor version, while `read` reads the
    /// answers.
    async fn ask_with<T>(
        &self,
        requests: impl FnOnce(u64) -> Result<Vec<u8>, StoreError>,
        read: impl AsyncFnOnce(&mut Reader, u64) -> Result<T, WireError>,
    ) -> Result<T, StoreError> {
        self.ask_on(&self.shared.connection, requests, read).await
    }

    /// [`Store::ask_with`], over the connection in `slot`.
    async fn ask_on<T>(
        &self,
        slot: &Mutex<Option<Connection>>,
        requests: impl FnOnce(u64) -> Result<Vec<u8>, StoreError>,
        read: impl AsyncFnOnce(&mut Reader, u64) -> Result<T, WireError>,
    ) -> Result<T, StoreError> {
        let mut slot = slot.lock().await;
        // Out of its slot while in use: dropped there, half-way, it would leave an answer for the
        // next request.
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => Connection::open(&self.shared.location).await?,
        };
        let minor = connection.minor;
        let requests = match requests(minor) {
            Ok(requests) => requests,
            Err(error) => {
                *slot = Some(connection);
                return Err(error);
            }
        };
        let Connection { reader, writer, .. } = &mut connection;
        let write = async {
            writer.write_all(&requests).await?;
            writer.flush().await?;
            Ok::<_, WireError>(())
        };
        match tokio::try_join!(write, read(reader, minor)) {
            Ok(((), answer)) => {
                *slot = Some(connection);
                Ok(answer)
            }
            Err(error) => Err(connection.explain(error).await),
        }
    }
}

async fn read_path_info(
    reader: &mut Reader,
    store_dir: &StoreDir,
    path: &StorePath,
) -> Result<Option<PathInfo>, WireError> {
    if read_u64(reader).await? == 0 {
        return Ok(None);
    }
    let deriver = optional_path(store_dir, &read_string(reader).await?)?;
    let hash = read_string(reader).await?;
    let nar_hash =
        parse_hash(&hash).ok_or_else(|| malformed(format!("{path} has the hash {hash:?}")))?;
    let mut references = store_paths(store_dir, &read_strings(reader).await?)?;
    references.sort_unstable();
    let registration_time = read_u64(reader).await?;
    let nar_size = read_u64(reader).await?;
    let ultimate = read_u64(reader).await? != 0;
    let mut signatures = Vec::new();
    for signature in read_strings(reader).await? {
        match signature.parse() {
            Ok(signature) => signatures.push(signature),
            // Not `name:base64`, whatever the kind of its key.
            Err(error) => tracing::debug!("{path}: left out a signature: {error}"),
        }
    }
    let ca = Some(read_string(reader).await?).filter(|ca| !ca.is_empty());
    Ok(Some(PathInfo {
        path: path.clone(),
        nar_hash,
        nar_size,
        references,
        deriver,
        signatures,
        ultimate,
        ca,
        registration_time,
    }))
}

/// A SHA-256 as daemons write it: 64 hex digits, without saying so.
fn parse_hash(text: &str) -> Option<NarHash> {
    let hash: Sha256 =
        if text.contains([':', '-']) { text.parse() } else { format!("sha256:{text}").parse() }
            .ok()?;
    Some(NarHash::from_bytes(*hash.as_bytes()))
}

fn store_path(store_dir: &StoreDir, path: &str) -> Result<StorePath, WireError> {
    StorePath::parse(store_dir, path).map_err(|error| {
        malformed(format!(
            "it names {path:?}, which is no path in {store_dir} ({error}); is the store directory \
             another?"
        ))
    })
}

fn store_paths(store_dir: &StoreDir, paths: &[String]) -> Result<Vec<StorePath>, WireError> {
    paths.iter().map(|path| store_path(store_dir, path)).collect()
}

/// An empty string stands for no path.
fn optional_path(store_dir: &StoreDir, path: &str) -> Result<Option<StorePath>, WireError> {
    if path.is_empty() { Ok(None) } else { store_path(store_dir, path).map(Some) }
}
