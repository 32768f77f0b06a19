//! Reads back the paths that a push finds present, each as clients would get it, so that a receipt
//! does not rest on rows alone.
//!
//! A path that cannot be read is looked into ([`crate::damage`]), and withdrawn where it is damaged
//! for certain. The push then sends it like any path that is missing. The storage itself is read,
//! even if the server has the bytes in memory or in its disk cache.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use snowbank_core::hash::Sha256Hasher;
use snowbank_core::receipt::Receipt;
use snowbank_core::wire::{CommitLine, MissingPathsRequest, code};
use tokio::sync::mpsc;

use crate::auth::MayPush;
use crate::damage::{Inspector, Suspicion, Withdrawal};
use crate::db::DbError;
use crate::db::caches::CacheId;
use crate::ingest::{Ingest, missing_paths};
use crate::serving::{FoundNar, Lookups, NarBody, Representation, ServeError, nar_stream};

/// Before a NAR is read again that was found whole after it could not be read.
const PAUSE: Duration = Duration::from_millis(200);

/// Reads paths back.
#[expect(missing_debug_implementations, reason = "a function has none")]
pub struct ReadBack<'a> {
    /// Knows which paths are there.
    pub ingest: &'a Ingest,
    /// Finds NARs.
    pub lookups: &'a Lookups,
    /// Reads them.
    pub nars: &'a NarBody,
    /// Looks into those that cannot be read.
    pub inspector: &'a Inspector,
    /// Forgets cached answers about NARs that were withdrawn.
    pub forget: &'a (dyn Fn(&Withdrawal) + Send + Sync),
}

/// The result of reading a NAR back.
enum Outcome {
    Whole,
    /// It is out of sight, or was gone already.
    Gone,
    /// Whether it is whole is not known.
    Unknown(String),
}

impl ReadBack<'_> {
    /// Sends a line for each path of `request` that is present, and the end line: its receipt where
    /// all of it could be read, [`code::DAMAGED`] where it was not whole and is out of sight now,
    /// another code where that could not be found out. Of other paths there is no line. `now` gives
    /// Unix seconds.
    ///
    /// # Errors
    /// When the database fails before the first line.
    pub async fn verify(
        &self,
        push: &MayPush,
        request: &MissingPathsRequest,
        now: impl Fn() -> i64,
        lines: &mpsc::Sender<CommitLine>,
    ) -> Result<(), DbError> {
        let present = missing_paths(self.ingest, push, request, now()).await?.present;
        let mut answered = 0;
        for receipt in present {
            let outcome = self.outcome(push.target.cache.id, &receipt, now()).await;
            answered += 1;
            if lines.send(line(receipt, outcome)).await.is_err() {
                return Ok(());
            }
        }
        // A client that has gone needs no end.
        let _ = lines.send(CommitLine::End { paths: answered, pin: None }).await;
        Ok(())
    }

    async fn outcome(&self, cache: CacheId, receipt: &Receipt, now: i64) -> Outcome {
        let mut is_again = false;
        loop {
            let found = match self.lookups.nar(cache, receipt.nar_hash).await {
                Ok(Some(found)) => found,
                Ok(None) => return Outcome::Gone,
                Err(error) => return Outcome::Unknown(error.to_string()),
            };
            let (nar, nar_hash) = (found.nar.id, found.nar.nar_hash);
            let suspect = match self.read(found).await {
                Ok(true) => return Outcome::Whole,
                Ok(false) => {
                    return Outcome::Unknown(format!(
                        "the NAR {nar_hash} is served with another hash"
                    ));
                }
                Err(error) => match error.suspect() {
                    Some(suspect) => suspect,
                    None => return Outcome::Unknown(error.to_string()),
                },
            };
            match self.inspector.inspect_nar(&Suspicion { nar, nar_hash, suspect }, now).await {
                Ok(Some(withdrawn)) => {
                    (self.forget)(&withdrawn);
                    return Outcome::Gone;
                }
                Ok(None) if !is_again => {
                    is_again = true;
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(None) => {
                    return Outcome::Unknown("it is found whole, and cannot be read".to_owned());
                }
                Err(error) => return Outcome::Unknown(error.to_string()),
            }
        }
    }

    /// Reads all of a NAR as it is stored; whether it has the hash that it had when it was pushed.
    async fn read(&self, found: FoundNar) -> Result<bool, ServeError> {
        let (expected, length) = (found.nar.file_hash, Representation::Zstd.len(&found.nar));
        let nars = NarBody { packs: self.nars.packs.direct(), ..self.nars.clone() };
        let stream = nar_stream(nars, None, found, Representation::Zstd, 0..length);
        let mut stream = std::pin::pin!(stream);
        let mut hasher = Sha256Hasher::new();
        while let Some(piece) = stream.try_next().await? {
            hasher.update(&piece);
        }
        Ok(hasher.finish().to_string() == expected.to_string())
    }
}

fn line(receipt: Receipt, outcome: Outcome) -> CommitLine {
    let error = |store_path, code: &str, message| CommitLine::Error {
        store_path,
        code: code.to_owned(),
        message,
    };
    match outcome {
        Outcome::Whole => CommitLine::Receipt(receipt),
        Outcome::Gone => {
            let message = "it was damaged, and is out of sight now; push it again".to_owned();
            error(receipt.store_path, code::DAMAGED, message)
        }
        Outcome::Unknown(reason) => {
            tracing::error!(
                path = receipt.store_path,
                reason,
                "a path that is present could not be read back"
            );
            let message =
                "it could not be read back; the server's log has the reason. Its operator should \
                 run `snowbankd check --read-data`"
                    .to_owned();
            error(receipt.store_path, code::STORAGE_UNAVAILABLE, message)
        }
    }
}
