//! A narinfo makes a path visible whose NAR has come (W4).
//!
//! A path whose references are not there yet waits for one of them at a time: it is looked at again
//! when that one becomes visible, and then waits for the next, or becomes visible itself. So
//! narinfos may come in any order, and no path is ever visible without its closure. A path that has
//! waited for [`KEPT_SECONDS`] is forgotten.
//!
//! **No path waits for one that is there.** A path is noted as waiting, and only then looked at
//! once more: whatever became visible before that is seen, and whatever becomes visible after it
//! finds the note.

use snowbank_core::narinfo::NarInfo;
use snowbank_core::receipt::Receipt;
use snowbank_core::store_path::{StorePath, StorePathHash};
use snowbank_core::wire::{CommitLine, code};

use super::super::Ingest;
use super::super::candidate::{Candidate, Refusal};
use super::super::commit::{Committer, commit_known};
use super::super::lines::refused;
use crate::db::nars::Nar;
use crate::db::uploads::{self, KEPT_SECONDS, WaitingPath};
use crate::db::{self, DbError};

/// Paths of one cache that may wait.
const MAX_WAITING: u64 = 20_000;
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
    let hash = info.store_path.hash();
    let waiting =
        WaitingPath { hash, narinfo: text.to_owned(), pushed_by: committer.push.subject.clone() };
    let mut published = look(ingest, committer, info.clone(), now).await?;
    if let Published::Waiting(missing) = &published
        && let Some(first) = missing.first()
    {
        let mut tx = ingest.db.commit_tx().await?;
        if uploads::waiting_count(tx.exec(), cache.id).await? >= MAX_WAITING {
            let message = format!(
                "{MAX_WAITING} paths of this cache wait for references already; upload the \
                 references first"
            );
            let refusal = Refusal::new(code::LIMIT_EXCEEDED, message);
            return Ok(refusal_of(committer, &info, refusal));
        }
        uploads::wait(tx.exec(), cache.id, &waiting, &first.hash(), now).await?;
        tx.commit().await?;
        crate::fault::pause("narinfo-waits").await;
        published = settle(ingest, committer, &waiting, now).await?;
    }
    if matches!(published, Published::Visible(_)) {
        wake(ingest, committer, hash, now).await?;
    }
    Ok(published)
}

/// Looks again at what waits for a path that has become visible, and at what waits for those.
///
/// # Errors
/// When the database fails; what waits is looked at again with the next path.
pub async fn wake(
    ingest: &Ingest,
    committer: Committer<'_>,
    visible: StorePathHash,
    now: i64,
) -> Result<(), DbError> {
    let cache = committer.push.target.cache.id;
    let mut visible = vec![visible];
    while let Some(reference) = visible.pop() {
        loop {
            let page = {
                let mut conn = ingest.db.reader().await?;
                uploads::waiting_for(conn.exec(), cache, &reference, WAITING_PAGE).await?
            };
            if page.is_empty() {
                break;
            }
            for path in page {
                match settle(ingest, committer, &path, now).await? {
                    Published::Visible(_) => visible.push(path.hash),
                    Published::Waiting(missing) => {
                        // It went again, at this very moment.
                        if missing.iter().any(|path| path.hash() == reference) {
                            return Ok(());
                        }
                    }
                    Published::Refused(_) => {}
                }
            }
        }
    }
    Ok(())
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
            if let Some(first) = missing.first() {
                let mut tx = ingest.db.commit_tx().await?;
                uploads::wait(tx.exec(), cache.id, path, &first.hash(), now).await?;
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
            let missing = missing_references(ingest, committer, needed).await?;
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
            // Its size is not for everybody who may push.
            Some(found) if found.nar.nar_size != info.nar_size && !committer.push.may_pull => {
                Err(Refusal::new(code::NAR_MISMATCH, "its NAR has another size than it says"))
            }
            Some(found) => check_digests(&found.nar, info),
            None => Err(nar_missing(info)),
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

/// Those of these paths that the cache does not show.
async fn missing_references(
    ingest: &Ingest,
    committer: Committer<'_>,
    needed: Vec<StorePath>,
) -> Result<Vec<StorePath>, DbError> {
    let hashes: Vec<StorePathHash> = needed.iter().map(StorePath::hash).collect();
    let mut conn = ingest.db.reader().await?;
    let visible =
        db::paths::lookup_many(conn.exec(), committer.push.target.cache.id, &hashes).await?;
    let is_visible =
        |path: &StorePath| visible.get(&path.hash()).is_some_and(|found| found.store_path == *path);
    Ok(needed.into_iter().filter(|path| !is_visible(path)).collect())
}

fn full_path(committer: Committer<'_>, info: &NarInfo) -> String {
    format!("{}/{}", committer.push.target.cache.store_dir, info.store_path)
}

fn refusal_of(committer: Committer<'_>, info: &NarInfo, refusal: Refusal) -> Published {
    Published::Refused(Box::new(refused(full_path(committer, info), refusal)))
}
