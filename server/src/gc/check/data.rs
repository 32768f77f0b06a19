//! What the bytes say: every frame of every pack, and every NAR as it is served.

use futures_util::TryStreamExt as _;
use snowbank_core::frame::FrameVerifier;
use snowbank_core::hash::{FileHash, NarHash, Sha256Hasher};
use snowbank_core::pack::{PackIndex, Record};

use super::{CheckError, CheckStats, Checker, Finding, PAGE};
use crate::db;
use crate::db::nars::{Nar, NarId};
use crate::db::packs::{Pack, PackId, PackState};
use crate::pack::pack_object_key;
use crate::serving::{Representation, ServeError, nar_stream};
use crate::storage::StorageError;

type Found<'f> = &'f mut (dyn FnMut(Finding) + Send);

/// Every live pack: its table, and each record's checksum, frame and name.
pub(super) async fn packs(checker: &Checker<'_>, stats: &mut CheckStats, found: Found<'_>) -> Result<(), CheckError> {
    let mut after = PackId(0);
    loop {
        let mut conn = checker.db.reader().await?;
        let page = db::packs::page(conn.exec(), after, PAGE).await?;
        drop(conn);
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.id;
        for pack in page.into_iter().filter(|pack| pack.state == PackState::Live) {
            let key = pack_object_key(&pack.key);
            let object = match checker.storage.get(&key).await {
                Ok(object) => object,
                // Reported as W1 already.
                Err(StorageError::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            stats.read_bytes += object.len() as u64;
            let problems = tokio::task::spawn_blocking(move || pack_problems(&pack, &object))
                .await
                .map_err(|_| CheckError::Serve(ServeError::Stopped))?;
            for detail in problems {
                found(Finding { invariant: "pack data", subject: key.clone(), detail });
            }
        }
    }
}

fn pack_problems(pack: &Pack, object: &[u8]) -> Vec<String> {
    let index = match PackIndex::parse(object) {
        Ok(index) => index,
        Err(error) => return vec![error.to_string()],
    };
    let mut problems = Vec::new();
    if index.key != pack.key || index.domain != pack.domain.0.unsigned_abs() {
        problems.push("it says that it is another pack".to_owned());
    }
    let mut verifier = FrameVerifier::new();
    for entry in &index.entries {
        let (start, end) = (entry.span.offset as usize, entry.span.offset as usize + entry.span.len as usize);
        let record = object.get(start..end).ok_or_else(|| "it ends before the record".to_owned());
        let outcome = record.and_then(|bytes| {
            let record = Record::parse(bytes).map_err(|error| error.to_string())?;
            if record.id != entry.id || record.header != entry.header {
                return Err("record and table differ".to_owned());
            }
            // Any filling serves here: whether bytes depend on slots was settled when the frame came in.
            verifier
                .verify(&record.header, record.frame, record.header.name.as_bytes())
                .map_err(|error| error.to_string())
        });
        if let Err(problem) = outcome {
            problems.push(format!("chunk {} ({}) at byte {start}: {problem}", entry.id, entry.header.name));
        }
    }
    problems
}

/// Every NAR: both forms as they are served, against the hashes in its row.
pub(super) async fn nars(checker: &Checker<'_>, stats: &mut CheckStats, found: Found<'_>) -> Result<(), CheckError> {
    let mut after = NarId(0);
    loop {
        let mut conn = checker.db.reader().await?;
        let page = db::nars::page(conn.exec(), after, PAGE).await?;
        drop(conn);
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.id;
        for nar in page {
            let subject = format!("NAR {}", nar.nar_hash);
            for (representation, expected) in [
                (Representation::Raw, NarHash::to_string(&nar.nar_hash)),
                (Representation::Zstd, FileHash::to_string(&nar.file_hash)),
            ] {
                let detail = match served_hash(checker, nar.clone(), representation).await {
                    Ok((hash, bytes)) => {
                        stats.read_bytes += bytes;
                        if hash == expected {
                            continue;
                        }
                        format!("served as {representation:?} it has {hash} where its row says {expected}")
                    }
                    Err(ServeError::Database(error)) => return Err(error.into()),
                    Err(error) => error.to_string(),
                };
                found(Finding { invariant: "R1", subject: subject.clone(), detail });
            }
        }
    }
}

async fn served_hash(
    checker: &Checker<'_>,
    nar: Nar,
    representation: Representation,
) -> Result<(String, u64), ServeError> {
    let length = representation.len(&nar);
    let mut stream = std::pin::pin!(nar_stream(checker.nars.clone(), nar.into(), representation, 0..length));
    let mut hasher = Sha256Hasher::new();
    let mut bytes = 0;
    while let Some(piece) = stream.try_next().await? {
        hasher.update(&piece);
        bytes += piece.len() as u64;
    }
    Ok((hasher.finish().to_string(), bytes))
}
