//! A client in the test's own process: it pushes crafted deposits as the real one does, and goes on
//! where that one would.
//!
//! It asks which paths are missing, sends the chunks that are, commits in order, and begins again
//! when chunks or references have gone meanwhile. Each push ends in a receipt for every path, or
//! says why not.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};
use snowbank_core::{
    chunk::ChunkName,
    receipt::{Receipt, ReceiptStatus},
    wire::{CommitLine, MissingChunksResponse, MissingPathsResponse, code},
};

use crate::{
    Api,
    craft::{self, Deposit},
    protocol::Answer,
};

/// Bytes of frames in one bundle.
const BUNDLE_BYTES: usize = 6 << 20;
/// How often a push begins again because something has gone.
const MAX_ROUNDS: usize = 60;
/// How long a patient push goes on when the server does not answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// Who pushes, and where to.
#[derive(Clone, Debug)]
pub struct Pusher {
    api: Api,
    cache: String,
    expires: Option<u64>,
    pin: Option<String>,
}

/// What a push came to.
#[derive(Clone, Debug, Default)]
pub struct Pushed {
    /// The last receipt of each path.
    pub receipts: BTreeMap<String, Receipt>,
    /// Chunks that were sent.
    pub chunks_sent: usize,
    /// Chunks that the server had said it had, and asked for at the commit.
    pub chunks_gone: usize,
    /// How often it began again.
    pub rounds: usize,
}

impl Pushed {
    /// How many paths it made visible.
    #[must_use]
    pub fn uploaded(&self) -> usize {
        self.receipts.values().filter(|receipt| receipt.status == ReceiptStatus::Uploaded).count()
    }
}

/// Why a push ended without success.
#[derive(Debug)]
pub enum PushFailed {
    /// The server did not answer, or could not now; what has a receipt is there.
    Unavailable(String, Pushed),
    /// The server does not want it.
    Refused(String),
}

impl std::fmt::Display for PushFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unavailable(why, _) => write!(f, "the server was not there: {why}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

/// Why a request led no further.
enum Stop {
    Unavailable(String),
    Refused(String),
}

impl Pusher {
    /// One that pushes to `cache` with the token of `api`.
    #[must_use]
    pub fn new(api: &Api, cache: &str) -> Self {
        Self { api: api.clone(), cache: cache.to_owned(), expires: None, pin: None }
    }

    /// What is pushed is kept for so many seconds.
    #[must_use]
    pub const fn expiring(mut self, seconds: u64) -> Self {
        self.expires = Some(seconds);
        self
    }

    /// The last path of a push is pinned by this name in the same commit.
    #[must_use]
    pub fn pinning(mut self, name: &str) -> Self {
        self.pin = Some(name.to_owned());
        self
    }

    /// Pushes paths, references before referrers; repeats it for a while when the server does not
    /// answer.
    ///
    /// # Panics
    /// When the server refuses it, or does not answer for long.
    #[track_caller]
    pub fn push(&self, closure: &[&Deposit]) -> Pushed {
        let began = Instant::now();
        loop {
            match self.try_push(closure) {
                Ok(pushed) => return pushed,
                Err(PushFailed::Unavailable(..)) if began.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(failed) => {
                    panic!("a push of {} paths to {}: {failed}", closure.len(), self.cache)
                }
            }
        }
    }

    /// As [`Self::push`], and gives up when the server does not answer.
    ///
    /// # Errors
    /// [`PushFailed`] says how far it came.
    pub fn try_push(&self, closure: &[&Deposit]) -> Result<Pushed, PushFailed> {
        let mut pushed = Pushed::default();
        for _ in 0..MAX_ROUNDS {
            pushed.rounds += 1;
            match self.round(closure, &mut pushed) {
                Ok(true) => return Ok(pushed),
                Ok(false) => {}
                Err(Stop::Unavailable(why)) => return Err(PushFailed::Unavailable(why, pushed)),
                Err(Stop::Refused(why)) => return Err(PushFailed::Refused(why)),
            }
        }
        Err(PushFailed::Refused(format!("something had gone in each of {MAX_ROUNDS} rounds")))
    }

    /// One pass over all requests of a push; whether every path has a receipt of this pass.
    fn round(&self, closure: &[&Deposit], pushed: &mut Pushed) -> Result<bool, Stop> {
        let missing = self.missing_paths(closure, pushed)?;
        let mut wanted: Vec<&Deposit> =
            closure.iter().copied().filter(|one| missing.contains(&one.store_path)).collect();
        if let (Some(_), true, Some(last)) = (&self.pin, wanted.is_empty(), closure.last()) {
            // A pin comes with a commit.
            wanted.push(last);
        }
        if wanted.is_empty() {
            return Ok(true);
        }
        self.send_missing_chunks(&wanted, pushed)?;
        let mut complete = true;
        for line in self.commit(&wanted)? {
            match line {
                CommitLine::Receipt(receipt) => {
                    drop(pushed.receipts.insert(receipt.store_path.clone(), receipt));
                }
                CommitLine::ChunksMissing { missing, .. } => {
                    pushed.chunks_gone += missing.len();
                    complete = false;
                }
                CommitLine::Error { code, .. } if code == code::REFERENCES_MISSING => {
                    complete = false;
                }
                CommitLine::Error { code, message, store_path } => {
                    let again = [code::STORAGE_UNAVAILABLE, code::BUSY].contains(&code.as_str());
                    let why = format!("{store_path}: {code}: {message}");
                    return Err(if again { Stop::Unavailable(why) } else { Stop::Refused(why) });
                }
                CommitLine::Different { store_path, .. } => {
                    return Err(Stop::Refused(format!(
                        "{store_path} is there with other contents"
                    )));
                }
                CommitLine::Heartbeat | CommitLine::End { .. } => {}
            }
        }
        Ok(complete)
    }

    /// Store paths that the cache lacks; the receipts of the others are noted.
    fn missing_paths(
        &self,
        closure: &[&Deposit],
        pushed: &mut Pushed,
    ) -> Result<BTreeSet<String>, Stop> {
        let query =
            |one: &&Deposit| json!({ "store_path": one.store_path, "nar_hash": one.nar_hash() });
        let body =
            self.with_expiry(json!({ "paths": closure.iter().map(query).collect::<Vec<_>>() }));
        let answer =
            self.ask("missing-paths", "application/json", body.to_string().into_bytes())?;
        let answer: MissingPathsResponse = parse(&answer)?;
        if let Some(different) = answer.different.first() {
            return Err(Stop::Refused(format!(
                "{} is there with other contents",
                different.store_path
            )));
        }
        pushed.receipts.extend(
            answer.present.into_iter().map(|receipt| (receipt.store_path.clone(), receipt)),
        );
        Ok(answer.missing.into_iter().collect())
    }

    fn send_missing_chunks(&self, wanted: &[&Deposit], pushed: &mut Pushed) -> Result<(), Stop> {
        let mut seen: BTreeSet<ChunkName> = BTreeSet::new();
        let chunks: Vec<_> = wanted
            .iter()
            .flat_map(|one| &one.encoded)
            .filter(|chunk| seen.insert(chunk.header.name))
            .collect();
        let names: Vec<u8> =
            chunks.iter().flat_map(|chunk| *chunk.header.name.as_bytes()).collect();
        let answer = self.ask("missing-chunks", "application/octet-stream", names)?;
        let answer: MissingChunksResponse = parse(&answer)?;
        let missing: Vec<_> =
            answer.missing.into_iter().filter_map(|index| chunks.get(index as usize)).collect();
        pushed.chunks_sent += missing.len();
        let (mut bundle, mut bytes) = (Vec::new(), 0);
        for chunk in missing {
            if bytes + chunk.frame.len() > BUNDLE_BYTES {
                let full = std::mem::take(&mut bundle);
                let _ = self.ask("chunks", "application/octet-stream", craft::bundle(full))?;
                bytes = 0;
            }
            bytes += chunk.frame.len();
            bundle.push(*chunk);
        }
        if !bundle.is_empty() {
            let _ = self.ask("chunks", "application/octet-stream", craft::bundle(bundle))?;
        }
        Ok(())
    }

    fn commit(&self, wanted: &[&Deposit]) -> Result<Vec<CommitLine>, Stop> {
        let paths: Vec<_> = wanted.iter().map(|one| one.commit()).collect();
        let mut body = self.with_expiry(json!({ "paths": paths }));
        if let (Some(name), Some(last)) = (&self.pin, wanted.last()) {
            body["pin"] = json!({ "name": name, "store_path": last.store_path });
        }
        let answer = self.ask("paths", "application/json", body.to_string().into_bytes())?;
        let text = answer.text();
        let lines: Result<Vec<CommitLine>, _> = text.lines().map(serde_json::from_str).collect();
        match lines {
            Ok(lines) if matches!(lines.last(), Some(CommitLine::End { .. })) => Ok(lines),
            _ => Err(Stop::Unavailable(format!("the answer to a commit was cut off: {text}"))),
        }
    }

    fn with_expiry(&self, mut body: Value) -> Value {
        if let Some(seconds) = self.expires {
            body["expires"] = json!(format!("{seconds}s"));
        }
        body
    }

    fn ask(&self, what: &str, content_type: &str, body: Vec<u8>) -> Result<Answer, Stop> {
        let path = format!("/api/v1/caches/{}/{what}", self.cache);
        let headers = [(CONTENT_TYPE.as_str(), content_type)];
        let answer = self.api.try_send(Method::POST, &path, &headers, body.into());
        let answer = answer.map_err(|error| Stop::Unavailable(format!("{path}: {error:#}")))?;
        match answer.status.as_u16() {
            200..=299 => Ok(answer),
            408 | 429 | 500..=599 => {
                Err(Stop::Unavailable(format!("{path}: {}: {}", answer.status, answer.text())))
            }
            _ => Err(Stop::Refused(format!("{path}: {}: {}", answer.status, answer.text()))),
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, Stop> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| Stop::Refused(format!("{error}: {}", answer.text())))
}
