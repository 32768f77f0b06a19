//! W4: verified paths become visible, many in one short transaction, each answered by one line as
//! soon as it is.
//!
//! Paths are taken in groups, of many small ones or a few large ones, so that a transaction is
//! shared by as many as can be without one waiting long for another. While a group is committed the
//! next one is verified (W3); the order of the request is kept, so that a path may refer to one
//! before it. The transaction takes the lock of C1 first, then looks once more at everything that
//! it relies on: chunks under the ids that were read, references, what another push has made
//! visible meanwhile. A pin that comes with a path is made in the path's own transaction. A path
//! that had been withdrawn is not any more.

mod transaction;

use std::collections::HashMap;
use std::sync::OnceLock;

use snowbank_core::hash::NarHash;
use snowbank_core::store_path::StorePathHash;
use snowbank_core::units::Seconds;
use snowbank_core::wire::{CommitLine, CommitRequest, PinnedGeneration, PushPin};
use tokio::sync::mpsc;

use super::candidate::Candidate;
use super::group::{Group, ParsedPath, groups, parse_group};
use super::lines::{chain_line, database_line, verify_line};
use super::verify_small::verify_all;
use super::{Ingest, VerifiedNar, VerifyError, WorkerStopped, verify};
use crate::admin::Actor;
use crate::admission::{Client, ManifestRoom};
use crate::auth::MayPush;
use crate::db::caches::{CacheId, DomainId};
use crate::db::nars::Nar;
use crate::db::{self, DbError};

use transaction::{Outcome, TransactError, transact};
pub(super) use transaction::{lost_chunks, nar_row};

/// How often a transaction is begun again that lost a race for a row.
const MAX_RACES: u32 = 8;

/// A path that has passed verification.
struct VerifiedPath {
    store_path: String,
    candidate: Candidate,
    proof: Proof,
}

enum Proof {
    /// This very manifest is that of an existing NAR row.
    Known,
    /// The server has decoded it just now.
    Decoded(Box<VerifiedNar>),
}

/// Who commits.
#[derive(Debug, Clone, Copy)]
pub struct Committer<'a> {
    /// That they may.
    pub push: &'a MayPush,
    /// Who makes the pin, if there is one.
    pub actor: &'a Actor,
    /// Whom memory is counted for.
    pub client: &'a Client,
}

/// What is said of all paths of a request.
struct CommitContext<'a> {
    push: &'a MayPush,
    actor: &'a Actor,
    expires: Option<Seconds>,
    pin: Option<PushPin>,
    /// The pin, once it is made.
    pinned: OnceLock<PinnedGeneration>,
}

/// Verifies and commits the paths of `request` in their order, and sends one line for each, then
/// the end line.
///
/// What concerns one path becomes its line. `now` gives unix seconds.
///
/// Memory: a group waits for what its paths and manifests take before anything is made of them. It
/// waits while the group before it is committed, which needs no more memory and ends by itself.
#[tracing::instrument(skip_all, fields(cache = %committer.push.target.cache.name))]
pub async fn commit(
    ingest: &Ingest,
    committer: Committer<'_>,
    request: CommitRequest,
    now: impl Fn() -> i64,
    lines: &mpsc::Sender<CommitLine>,
) {
    let CommitRequest { paths, expires, pin } = request;
    let Committer { push, actor, client } = committer;
    let asked = CommitContext { push, actor, expires, pin, pinned: OnceLock::new() };
    let mut answered = 0;
    let mut groups = groups(paths, ingest.budgets.manifests.largest()).into_iter();
    let mut verified = Vec::new();
    // For what is verified, and for the lines about what is not.
    let mut room = None;
    loop {
        let next = groups.next();
        let is_last = next.is_none();
        let (group, group_room) = (std::mem::take(&mut verified), room.take());
        let commit = async {
            let lines = commit_group(ingest, &asked, group, now()).await;
            // The next group may wait for just this.
            drop(group_room);
            lines
        };
        let check = async {
            match next {
                Some(group) => Some(check_group(ingest, push, client, group, now()).await),
                None => None,
            }
        };
        let (visible, checked) = tokio::join!(commit, check);
        let (own, checked) = checked.unzip();
        room = own;
        let (ready, refused): (Vec<_>, Vec<_>) =
            checked.into_iter().flatten().partition(Result::is_ok);
        let refused = refused.into_iter().filter_map(Result::err).map(|line| *line);
        verified = ready.into_iter().filter_map(Result::ok).collect();
        for line in visible.into_iter().chain(refused) {
            answered += 1;
            if lines.send(line).await.is_err() {
                return;
            }
        }
        if is_last {
            break;
        }
    }
    // A client that has gone needs no end.
    let _ = lines.send(CommitLine::End { paths: answered, pin: asked.pinned.into_inner() }).await;
}

/// W4 for a path whose NAR has a row: gives its line, or nothing where the NAR has gone.
pub(super) async fn commit_known(
    ingest: &Ingest,
    committer: Committer<'_>,
    store_path: String,
    candidate: Candidate,
    now: i64,
) -> Option<CommitLine> {
    let Committer { push, actor, .. } = committer;
    let asked = CommitContext { push, actor, expires: None, pin: None, pinned: OnceLock::new() };
    let ready = [VerifiedPath { store_path, candidate, proof: Proof::Known }];
    let mut races = 0;
    loop {
        let store_path = || ready[0].store_path.clone();
        return match transact(ingest, &asked, &ready, now).await {
            Ok(Outcome::Done(lines)) => lines.into_iter().next(),
            Ok(Outcome::Decode(_)) => None,
            Err(TransactError::Database(DbError::Constraint(_))) if races < MAX_RACES => {
                races += 1;
                continue;
            }
            Err(TransactError::Database(error)) => Some(database_line(store_path(), &error)),
            Err(TransactError::Chain(error)) => Some(chain_line(store_path(), &error)),
        };
    }
}

/// W3 for the paths of a group, in their order; the error is a path's line. The memory is for all
/// of it.
async fn check_group(
    ingest: &Ingest,
    push: &MayPush,
    client: &Client,
    group: Group,
    now: i64,
) -> (ManifestRoom, Vec<Result<VerifiedPath, Box<CommitLine>>>) {
    let cache = &push.target.cache;
    let (room, parsed) = parse_group(ingest, push, client, group, now).await;
    let candidates = || parsed.iter().flatten().map(|(_, candidate)| candidate);
    let hashes: Vec<NarHash> = candidates().map(|candidate| candidate.claim.nar_hash).collect();
    let known = match known_nars(ingest, cache.domain, &hashes).await {
        Ok(known) => known,
        Err(error) => {
            let line = |(store_path, _)| Err(Box::new(database_line(store_path, &error)));
            return (room, parsed.into_iter().map(|parsed| parsed.and_then(line)).collect());
        }
    };
    let unknown: Vec<&Candidate> =
        candidates().filter(|candidate| !candidate.is_known(&known)).collect();
    let claims = unknown.iter().map(|candidate| candidate.claim.clone()).collect();
    let ingest = match reader_of(ingest, cache.id, &unknown).await {
        Ok(ingest) => ingest,
        Err(error) => {
            let line = |(store_path, _)| Err(Box::new(database_line(store_path, &error)));
            return (room, parsed.into_iter().map(|parsed| parsed.and_then(line)).collect());
        }
    };
    let mut verified = verify_all(&ingest, cache.domain, claims, now).await.into_iter();
    let check = |parsed: ParsedPath| {
        let (store_path, candidate) = parsed?;
        let proof = if candidate.is_known(&known) {
            Proof::Known
        } else {
            // As many as were unknown.
            let verified = verified.next().unwrap_or(Err(VerifyError::Stopped(WorkerStopped)));
            let refused = |error| Box::new(verify_line(store_path.clone(), error));
            Proof::Decoded(Box::new(verified.map_err(refused)?))
        };
        Ok(VerifiedPath { store_path, candidate, proof })
    };
    (room, parsed.into_iter().map(check).collect())
}

/// What these paths are verified with. A path that was withdrawn had chunks that the storage had
/// lost: of such a path all is read from the storage itself, whatever this machine's disk has.
async fn reader_of(
    ingest: &Ingest,
    cache: CacheId,
    candidates: &[&Candidate],
) -> Result<Ingest, DbError> {
    if candidates.is_empty() || !ingest.packs.is_far() {
        return Ok(ingest.clone());
    }
    let hashes: Vec<StorePathHash> =
        candidates.iter().map(|candidate| candidate.path.hash()).collect();
    let withdrawn =
        db::damage::withdrawn_among(ingest.db.reader().await?.exec(), cache, &hashes).await?;
    let packs = if withdrawn.is_empty() { ingest.packs.clone() } else { ingest.packs.direct() };
    Ok(Ingest { packs, ..ingest.clone() })
}

async fn known_nars(
    ingest: &Ingest,
    domain: DomainId,
    hashes: &[NarHash],
) -> Result<HashMap<NarHash, Nar>, DbError> {
    db::nars::lookup_many(ingest.db.reader().await?.exec(), domain, hashes).await
}

/// Commits `ready` in one transaction, or, where that has to be given up, path by path.
async fn commit_group(
    ingest: &Ingest,
    asked: &CommitContext<'_>,
    mut ready: Vec<VerifiedPath>,
    now: i64,
) -> Vec<CommitLine> {
    if ready.is_empty() {
        return Vec::new();
    }
    // A NAR row that was known when it was looked at may have been collected since; then its chunks
    // are decoded after all. Each path is decoded at most once, so this ends.
    let mut races = 0;
    loop {
        match transact(ingest, asked, &ready, now).await {
            Ok(Outcome::Done(lines)) => return lines,
            Ok(Outcome::Decode(indexes)) => {
                let mut failed = Vec::new();
                for &index in indexes.iter().rev() {
                    let claim = ready[index].candidate.claim.clone();
                    match verify(ingest, asked.push.target.cache.domain, claim, now).await {
                        Ok(nar) => ready[index].proof = Proof::Decoded(Box::new(nar)),
                        Err(error) => {
                            failed.push(verify_line(ready.remove(index).store_path, error));
                        }
                    }
                }
                if !failed.is_empty() {
                    failed.extend(Box::pin(commit_group(ingest, asked, ready, now)).await);
                    return failed;
                }
            }
            // Another replica has added the same row since this transaction looked; the next one
            // finds it.
            Err(TransactError::Database(DbError::Constraint(_))) if races < MAX_RACES => {
                races += 1;
            }
            Err(TransactError::Database(error)) => {
                return ready
                    .into_iter()
                    .map(|path| database_line(path.store_path, &error))
                    .collect();
            }
            Err(TransactError::Chain(error)) => {
                return ready.into_iter().map(|path| chain_line(path.store_path, &error)).collect();
            }
        }
    }
}
