//! Groups of paths: what is verified and committed together, and the memory that it takes until
//! then.
//!
//! A group waits for its memory before anything is made of it, and holds none of that pool while it
//! waits. How much it is shows in the request, except for a manifest that was sent as chunks: such
//! a path is alone in its group, and `manifest` reads it.

use snowbank_core::manifest::WireManifest;
use snowbank_core::wire::{CommitLine, ManifestSource, PathCommit};

use super::candidate::{Candidate, CandidateError, fields_weight};
use super::lines::{refused, verify_line};
use super::manifest::{self, Weight};
use super::{Ingest, VerifyError, WorkerStopped};
use crate::admission::{Client, ManifestRoom};
use crate::auth::MayPush;

/// Paths that become visible in one transaction at most, and bytes of their NARs: a larger path is
/// alone in its group.
const MAX_IN_GROUP: usize = 64;
const MAX_BYTES_IN_GROUP: u64 = 16 << 20;

/// Paths that are verified together, and what they take in memory.
#[derive(Debug)]
pub(super) struct Group {
    paths: Vec<PathCommit>,
    weight: Weight,
    /// Bytes of NAR.
    bytes: u64,
}

impl Group {
    fn has_room_for(&self, next: &Self, most_weight: u64) -> bool {
        self.paths.len() < MAX_IN_GROUP
            && self.bytes.saturating_add(next.bytes) <= MAX_BYTES_IN_GROUP
            && self.weight.decoding.saturating_add(next.weight.decoding) <= most_weight
    }

    fn append(&mut self, mut next: Self) {
        self.paths.append(&mut next.paths);
        self.bytes = self.bytes.saturating_add(next.bytes);
        self.weight.decoding += next.weight.decoding;
        self.weight.decoded += next.weight.decoded;
    }
}

/// Cuts a request into groups, in its order. A path whose manifest has to be read first is alone in
/// its group.
pub(super) fn groups(paths: Vec<PathCommit>, most_weight: u64) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut may_follow = false;
    for path in paths {
        let own = fields_weight(&path);
        let inline = match &path.manifest {
            ManifestSource::Inline(text) => Some(manifest::weight(text, path.nar_size)),
            ManifestSource::Chunks(_) => None,
        };
        let Weight { decoding, decoded } = inline.unwrap_or_default();
        let weight = Weight { decoding: own + decoding, decoded: own + decoded };
        let next = Group { bytes: path.nar_size, weight, paths: vec![path] };
        match groups.last_mut() {
            Some(group)
                if may_follow && inline.is_some() && group.has_room_for(&next, most_weight) =>
            {
                group.append(next);
            }
            _ => groups.push(next),
        }
        may_follow = inline.is_some();
    }
    groups
}

/// A path whose fields are well formed, or its line.
pub(super) type ParsedPath = Result<(String, Candidate), Box<CommitLine>>;

/// Parses the paths of a group, once there is memory for them.
pub(super) async fn parse_group(
    ingest: &Ingest,
    push: &MayPush,
    client: &Client,
    group: Group,
    now: i64,
) -> (ManifestRoom, Vec<ParsedPath>) {
    let cache = &push.target.cache;
    let parse =
        |path: PathCommit,
         manifest: &mut dyn FnMut(&PathCommit) -> Result<WireManifest, CandidateError>| {
            let store_path = path.store_path.clone();
            match Candidate::parse(cache, path, manifest) {
                Ok(candidate) => Ok((store_path, candidate)),
                Err(CandidateError::Refused(refusal)) => {
                    Err(Box::new(refused(store_path, refusal)))
                }
                Err(CandidateError::Failed(error)) => Err(Box::new(verify_line(store_path, error))),
            }
        };
    let limit = ingest.limits.max_nar_size;
    let too_large = |path: &PathCommit| {
        let error =
            || CandidateError::Failed(VerifyError::TooLarge { declared: path.nar_size, limit });
        (path.nar_size > limit).then(error)
    };
    if let [path] = &group.paths[..]
        && matches!(path.manifest, ManifestSource::Chunks(_))
        && too_large(path).is_none()
    {
        let (room, manifest) =
            manifest::read_in_chunks(ingest, cache.domain, client, path, now).await;
        let mut manifest = Some(manifest);
        let mut give = |_: &PathCommit| {
            manifest
                .take()
                .unwrap_or(Err(CandidateError::Failed(VerifyError::Stopped(WorkerStopped))))
        };
        return (room, group.paths.into_iter().map(|path| parse(path, &mut give)).collect());
    }
    let room = ingest.budgets.manifest(client, group.weight.decoding).await;
    let mut decode = |path: &PathCommit| match (&path.manifest, too_large(path)) {
        (_, Some(error)) => Err(error),
        (ManifestSource::Inline(text), None) => Ok(manifest::decode_inline(text, path.nar_size)?),
        // These are alone in their groups.
        (ManifestSource::Chunks(_), None) => {
            Err(CandidateError::Failed(VerifyError::Stopped(WorkerStopped)))
        }
    };
    let parsed = group.paths.into_iter().map(|path| parse(path, &mut decode)).collect();
    (room.fitted(&ingest.budgets, client, group.weight.decoded), parsed)
}
