//! A narinfo makes a path visible whose NAR has come (W4).
//!
//! A path whose references are not there yet waits for one of them at a time: it is looked at again
//! when that one becomes visible, and then waits for the next, or becomes visible itself. So
//! narinfos may come in any order, and no path is ever visible without its closure. A path that has
//! waited for [`KEPT_SECONDS`] is forgotten.
//!
//! **No path waits for one that is there.** A path is noted as waiting, and only then looked at
//! once more: whatever became visible before that is seen, and whoever makes a path visible after
//! it looks at the note. A server that dies in between leaves that to the next push to the cache.

use std::collections::hash_map::Entry;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use snowbank_core::narinfo::NarInfo;
use snowbank_core::receipt::Receipt;
use snowbank_core::store_path::{StorePath, StorePathHash};
use snowbank_core::wire::{CommitLine, code};

use super::super::Ingest;
use super::super::candidate::{Candidate, Refusal};
use super::super::commit::{Committer, commit_known};
use super::super::lines::refused;
use crate::db::caches::CacheId;
use crate::db::nars::Nar;
use crate::db::uploads::{self, KEPT_SECONDS, WaitingPath};
use crate::db::{self, DbError};

/// Paths of one cache that may wait.
const MAX_WAITING: u64 = 10_000;
/// The longest narinfo that waits: some hundred references.
const MAX_WAITING_BYTES: usize = 32 << 10;
/// Paths that are looked at at a time.
const WAITING_PAGE: u32 = 64;

/// What a narinfo came to.
#[derive(Debug)]
pub enum Published {
    /// The path is visible.
    Visible(Box<Receipt>),
    /// It becomes visible when these references are.
    Waiting(Vec<StorePath>),
    /// It is not taken; the line says why.
    Refused(Box<CommitLine>),
}

/// Makes the path of `text` visible, which is the narinfo `info`. `now` is in unix seconds.
///
/// # Errors
/// When the database fails.
#[tracing::instrument(skip_all, fields(cache = %committer.push.target.cache.name))]
pub async fn publish(
    ingest: &Ingest,
    committer: Committer<'_>,
    info: NarInfo,
    text: &str,
    now: i64,
) -> Result<Published, DbError> {
    let cache = &committer.push.target.cache;
    let mut published = look(ingest, committer, info.clone(), now).await?;
    if let Published::Waiting(missing) = &published
        && let Some(first) = missing.first()
    {
        let waiting = WaitingPath {
            hash: info.store_path.hash(),
            waits_for: first.hash(),
            narinfo: text.to_owned(),
            pushed_by: committer.push.subject.clone(),
        };
        let mut tx = ingest.db.commit_tx().await?;
        let others = uploads::waiting_count(tx.exec(), cache.id, &waiting.hash).await?;
        if others >= MAX_WAITING || text.len() > MAX_WAITING_BYTES {
            let message = format!(
                "its references are not all there, and it cannot wait for them: {others} paths of \
                 this cache wait already (at most {MAX_WAITING}), and its narinfo has {} bytes (at \
                 most {MAX_WAITING_BYTES}); upload its references first",
                text.len()
            );
            let refusal = Refusal::new(code::LIMIT_EXCEEDED, message);
            return Ok(refusal_of(committer, &info, refusal));
        }
        uploads::wait(tx.exec(), cache.id, &waiting, now).await?;
        tx.commit().await?;
        crate::fault::pause("narinfo-waits").await;
        published = settle(ingest, committer, &waiting, now).await?;
    }
    if matches!(published, Published::Visible(_)) {
        wake(ingest, committer, now).await?;
    }
    Ok(published)
}

/// Looks again at the paths whose reference has become visible, by whatever door it came, and at
/// those that waited for them.
///
/// # Errors
/// When the database fails; what waits is looked at again after the next push to this cache.
pub async fn wake(ingest: &Ingest, committer: Committer<'_>, now: i64) -> Result<(), DbError> {
    let cache = committer.push.target.cache.id;
    let Some(turn) = WakeTurn::take(ingest, cache) else { return Ok(()) };
    loop {
        look_at_all(ingest, committer, now).await?;
        if turn.is_over() {
            return Ok(());
        }
    }
}

/// The turn to look at the waiting paths of a cache: one task does it for all who ask for it
/// meanwhile.
struct WakeTurn<'a> {
    ingest: &'a Ingest,
    cache: CacheId,
    is_left: AtomicBool,
}

impl<'a> WakeTurn<'a> {
    /// The turn; nothing where another task has it, which then looks once more.
    fn take(ingest: &'a Ingest, cache: CacheId) -> Option<Self> {
        let mut waking = ingest.waking.lock().unwrap_or_else(PoisonError::into_inner);
        match waking.entry(cache) {
            Entry::Occupied(mut again) => {
                again.insert(true);
                None
            }
            Entry::Vacant(free) => {
                free.insert(false);
                Some(Self { ingest, cache, is_left: AtomicBool::new(false) })
            }
        }
    }

    /// Whether nobody has asked since.
    fn is_over(&self) -> bool {
        let mut waking = self.ingest.waking.lock().unwrap_or_else(PoisonError::into_inner);
        match waking.get_mut(&self.cache) {
            Some(again) if *again => {
                *again = false;
                false
            }
            _ => {
                // In the same moment, so that whoever asks later takes the turn.
                waking.remove(&self.cache);
                self.is_left.store(true, Ordering::Relaxed);
                true
            }
        }
    }
}

impl Drop for WakeTurn<'_> {
    fn drop(&mut self) {
        if self.is_left.load(Ordering::Relaxed) {
            return;
        }
        // After an error; who asked meanwhile leaves it to the next push.
        let mut waking = self.ingest.waking.lock().unwrap_or_else(PoisonError::into_inner);
        waking.remove(&self.cache);
    }
}

async fn look_at_all(ingest: &Ingest, committer: Committer<'_>, now: i64) -> Result<(), DbError> {
    let cache = committer.push.target.cache.id;
    let (mut after, mut has_moved) = (String::new(), false);
    loop {
        let page = {
            let mut conn = ingest.db.reader().await?;
            uploads::ready(conn.exec(), cache, &after, WAITING_PAGE).await?
        };
        match page.last() {
            Some(last) => after = last.hash.to_string(),
            // What has moved may be what others wait for.
            None if has_moved => (after, has_moved) = (String::new(), false),
            None => return Ok(()),
        }
        for path in page {
            let settled = settle(ingest, committer, &path, now).await?;
            // One that still waits for the same reference came too late: that one has gone again.
            has_moved |= !matches!(&settled, Published::Waiting(missing)
                if missing.first().is_some_and(|first| first.hash() == path.waits_for));
        }
    }
}

/// Looks at a waiting path, and notes what it waits for next.
async fn settle(
    ingest: &Ingest,
    committer: Committer<'_>,
    path: &WaitingPath,
    now: i64,
) -> Result<Published, DbError> {
    let cache = &committer.push.target.cache;
    // It was parsed when it came; under other settings of the cache it may not be any more.
    let Ok(info) = NarInfo::parse(&cache.store_dir, &path.narinfo) else {
        end_wait(ingest, committer, &path.hash).await?;
        let line = refused(
            path.hash.to_string(),
            Refusal::new(code::NARINFO_INVALID, "its narinfo does not fit this cache any more"),
        );
        return Ok(Published::Refused(Box::new(line)));
    };
    let push = committer.push.on_behalf_of(&path.pushed_by);
    let published = look(ingest, Committer { push: &push, ..committer }, info, now).await?;
    match &published {
        Published::Waiting(missing) => {
            if let Some(first) = missing.first()
                && first.hash() != path.waits_for
            {
                let mut tx = ingest.db.commit_tx().await?;
                let path = WaitingPath { waits_for: first.hash(), ..path.clone() };
                uploads::wait(tx.exec(), cache.id, &path, now).await?;
                tx.commit().await?;
            }
        }
        Published::Visible(_) | Published::Refused(_) => {
            end_wait(ingest, committer, &path.hash).await?;
        }
    }
    Ok(published)
}

async fn end_wait(
    ingest: &Ingest,
    committer: Committer<'_>,
    hash: &StorePathHash,
) -> Result<(), DbError> {
    let mut tx = ingest.db.commit_tx().await?;
    uploads::end_wait(tx.exec(), committer.push.target.cache.id, hash).await?;
    tx.commit().await
}

/// Makes the path visible, if its NAR has come and its references are visible.
async fn look(
    ingest: &Ingest,
    committer: Committer<'_>,
    info: NarInfo,
    now: i64,
) -> Result<Published, DbError> {
    if let Err(refusal) = check_nar(ingest, committer, &info, now).await? {
        return Ok(refusal_of(committer, &info, refusal));
    }
    let store_path = full_path(committer, &info);
    let candidate = match Candidate::of_narinfo(info.clone()) {
        Ok(candidate) => candidate,
        Err(refusal) => return Ok(refusal_of(committer, &info, refusal)),
    };
    let (needed, line) = (
        candidate.needed.clone(),
        commit_known(ingest, committer, store_path, candidate, now).await,
    );
    Ok(match line {
        Some(CommitLine::Receipt(receipt)) => {
            // From now on its NAR is kept for its path. A row that stays for want of this goes
            // within a day.
            let mut tx = ingest.db.commit_tx().await?;
            uploads::remove(tx.exec(), committer.push.target.cache.id, file_of(&info)).await?;
            tx.commit().await?;
            Published::Visible(Box::new(receipt))
        }
        Some(CommitLine::Error { code, .. }) if code == code::REFERENCES_MISSING => {
            let missing = match missing_references(ingest, committer, needed).await? {
                Ok(missing) => missing,
                Err(refusal) => return Ok(refusal_of(committer, &info, refusal)),
            };
            if missing.is_empty() {
                // They came at this very moment.
                return Box::pin(look(ingest, committer, info, now)).await;
            }
            Published::Waiting(missing)
        }
        Some(line) => Published::Refused(Box::new(line)),
        None => refusal_of(committer, &info, nar_missing(&info)),
    })
}

/// Whether the NAR that a narinfo names has come, and is what the narinfo says.
async fn check_nar(
    ingest: &Ingest,
    committer: Committer<'_>,
    info: &NarInfo,
    now: i64,
) -> Result<Result<(), Refusal>, DbError> {
    let cache = committer.push.target.cache.id;
    let file = file_of(info);
    let upload = {
        let mut conn = ingest.db.reader().await?;
        uploads::find(conn.exec(), cache, file, now - KEPT_SECONDS).await?
    };
    let Some(upload) = upload else {
        // A narinfo that comes again, or another path with a NAR that the cache shows.
        let mut conn = ingest.db.reader().await?;
        let visible = db::paths::visible_nars(conn.exec(), cache, &[info.nar_hash]).await?;
        return Ok(match visible.get(&info.nar_hash) {
            // Who may not read learns nothing of what is there.
            Some(found) if committer.push.may_pull => check_digests(&found.nar, info),
            _ => Err(nar_missing(info)),
        });
    };
    if let Some(declared) = info.file_hash
        && declared != upload.file_hash
    {
        let message = format!(
            "its file {} is {}, and its narinfo says {declared}",
            info.url, upload.file_hash
        );
        return Ok(Err(Refusal::new(code::NAR_MISMATCH, message)));
    }
    if let Some(declared) = info.file_size
        && declared != upload.file_size
    {
        let message = format!(
            "its file {} has {} bytes, and its narinfo says {declared}",
            info.url, upload.file_size
        );
        return Ok(Err(Refusal::new(code::NAR_MISMATCH, message)));
    }
    Ok(check_digests(&upload.nar, info))
}

/// The name under which a narinfo's NAR was uploaded.
fn file_of(info: &NarInfo) -> &str {
    info.url.strip_prefix("nar/").unwrap_or(&info.url)
}

fn check_digests(nar: &Nar, info: &NarInfo) -> Result<(), Refusal> {
    if (nar.nar_hash, nar.nar_size) == (info.nar_hash, info.nar_size) {
        return Ok(());
    }
    let message = format!(
        "the NAR at {} is {} with {} bytes, and its narinfo says {} with {} bytes",
        info.url, nar.nar_hash, nar.nar_size, info.nar_hash, info.nar_size
    );
    Err(Refusal::new(code::NAR_MISMATCH, message))
}

fn nar_missing(info: &NarInfo) -> Refusal {
    let message = format!(
        "its NAR was not uploaded to this cache as `{}` within the last day; upload the NAR first, \
         then its narinfo",
        info.url
    );
    Refusal::new(code::NAR_MISSING, message)
}

/// Those of these paths that the cache does not show; or a refusal where one of them can never come,
/// since the cache has its hash part under another name.
async fn missing_references(
    ingest: &Ingest,
    committer: Committer<'_>,
    needed: Vec<StorePath>,
) -> Result<Result<Vec<StorePath>, Refusal>, DbError> {
    let hashes: Vec<StorePathHash> = needed.iter().map(StorePath::hash).collect();
    let mut conn = ingest.db.reader().await?;
    let visible =
        db::paths::lookup_many(conn.exec(), committer.push.target.cache.id, &hashes).await?;
    let mut missing = Vec::new();
    for path in needed {
        match visible.get(&path.hash()) {
            None => missing.push(path),
            Some(found) if found.store_path == path => {}
            Some(_) => {
                let message = format!(
                    "it refers to {path}, and the cache has another path with that hash part; a \
                     cache holds one path per hash part"
                );
                return Ok(Err(Refusal::new(code::REFERENCES_MISSING, message)));
            }
        }
    }
    Ok(Ok(missing))
}

fn full_path(committer: Committer<'_>, info: &NarInfo) -> String {
    format!("{}/{}", committer.push.target.cache.store_dir, info.store_path)
}

fn refusal_of(committer: Committer<'_>, info: &NarInfo, refusal: Refusal) -> Published {
    Published::Refused(Box::new(refused(full_path(committer, info), refusal)))
}
