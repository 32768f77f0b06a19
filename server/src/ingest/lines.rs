//! The lines that say why a path was not committed. What went wrong inside the server goes to the
//! log.

use snowbank_core::store_path::StorePath;
use snowbank_core::wire::{CommitLine, code};

use super::VerifyError;
use super::candidate::Refusal;
use crate::chain::ChainError;
use crate::db::DbError;
use crate::pack::ReadError;
use crate::storage::{MarkerError, StorageError, StorageFailure};

pub(super) fn references_missing(missing: &[&StorePath]) -> Refusal {
    const MAX_NAMED: usize = 5;
    let mut names: Vec<String> =
        missing.iter().take(MAX_NAMED).map(|path| path.base_name()).collect();
    if missing.len() > MAX_NAMED {
        names.push(format!("{} more", missing.len() - MAX_NAMED));
    }
    let message = format!(
        "it refers to paths that the cache does not have: {}; push its whole closure, these first",
        names.join(", ")
    );
    Refusal::new(code::REFERENCES_MISSING, message)
}

pub(super) fn refused(store_path: String, refusal: Refusal) -> CommitLine {
    CommitLine::Error { store_path, code: refusal.code.to_owned(), message: refusal.message }
}

pub(super) fn verify_line(store_path: String, error: VerifyError) -> CommitLine {
    let code = match &error {
        VerifyError::Missing(_) => code::NOT_FOUND,
        VerifyError::Mismatch(_) | VerifyError::Slots { .. } => code::NAR_MISMATCH,
        VerifyError::Nar(_) => code::NAR_INVALID,
        VerifyError::TooLarge { .. } => code::LIMIT_EXCEEDED,
        VerifyError::Database(error) => return database_line(store_path, error),
        VerifyError::Read(ReadError::Storage(StorageError::Refused { source, .. })) => {
            tracing::error!(%store_path, %error, "a chunk could not be read back");
            return refused(store_path, refused_by_storage(source));
        }
        VerifyError::Read(_) => code::STORAGE_UNAVAILABLE,
        VerifyError::Frame { .. } | VerifyError::Stopped(_) => code::INTERNAL,
    };
    match error {
        VerifyError::Missing(missing) => CommitLine::ChunksMissing { store_path, missing },
        VerifyError::Read(error) => {
            tracing::error!(%store_path, %error, "a chunk could not be read back");
            refused(
                store_path,
                Refusal::new(code, "the storage did not give back a chunk; try again"),
            )
        }
        error @ VerifyError::Frame { .. } => {
            tracing::error!(%store_path, %error, "a stored frame does not decode");
            refused(
                store_path,
                Refusal::new(code, "a stored chunk is damaged; the operator should run a check"),
            )
        }
        error => refused(store_path, Refusal::new(code, error.to_string())),
    }
}

fn refused_by_storage(failure: &StorageFailure) -> Refusal {
    let message = format!(
        "the server's storage refuses its requests: {}; its operator has to mend that",
        failure.told()
    );
    Refusal::new(code::STORAGE_REFUSED, message)
}

pub(super) fn chain_line(store_path: String, error: &ChainError) -> CommitLine {
    tracing::error!(%store_path, %error, "nothing is committed");
    if let ChainError::Marker(MarkerError::Storage(StorageError::Refused { source, .. })) = error {
        return refused(store_path, refused_by_storage(source));
    }
    let message = if error.is_lost() {
        "another copy of the server's database has taken over its storage; nothing was stored, and \
         its operator has to decide which of the two counts"
    } else {
        "the server's storage did not answer; try again"
    };
    refused(store_path, Refusal::new(code::STORAGE_UNAVAILABLE, message))
}

pub(super) fn database_line(store_path: String, error: &DbError) -> CommitLine {
    tracing::error!(%store_path, %error, "the database failed during a commit");
    let refusal = match error {
        DbError::Full(_) => Refusal::new(
            code::STORAGE_FULL,
            "the server's disk is full; nothing was stored; make room and push again",
        ),
        _ => Refusal::new(
            code::STORAGE_UNAVAILABLE,
            "the server's database did not answer; try again",
        ),
    };
    refused(store_path, refusal)
}
