//! The stage that packs frames into bundles and sends them.
//!
//! Owns the open bundles ([`BundleBuilders`]), together below two full bundles and a chunk, the
//! queue of full ones, and at most [`MAX_BUNDLES`] requests. The queue is bounded by the budget:
//! each bundle carries the permits of its chunks.
//!
//! A bundle that a proxy refuses for its size is halved, and so are all later ones. Until one
//! passes, one bundle is sent at a time. The meaning of a sent or a refused bundle for the paths
//! that wait for its chunks is left to the router.

use std::collections::VecDeque;

use snowbank_core::frame::EncodedChunk;
use snowbank_core::wire::StoredChunks;

use super::super::budget::Permit;
use super::super::bundle::Bundle;
use super::super::bundle_builders::{BundleBuilders, BundleLimits};
use super::Event;
use super::limits::{MAX_BUNDLES, PipelineLimits};
use super::tasks::Tasks;
use crate::api::{Api, ApiError, ApiErrorKind};

/// Frames that wait for their bundle, and bundles that wait or are sent.
pub(super) struct SendStage {
    api: Api,
    builders: BundleBuilders,
    /// No bundle is sent above these; they shrink when a proxy refuses one.
    limits: BundleLimits,
    /// The first bundle is full at this size.
    max_first_bytes: usize,
    has_filled_one: bool,
    /// A bundle was refused for its size, and none has passed since.
    is_probing: bool,
    queue: VecDeque<Bundle>,
    running: usize,
}

/// The result of sending a bundle.
pub(super) enum SendOutcome {
    /// The cache has its chunks.
    Stored(Bundle),
    /// It was too large, and is sent again in parts.
    Split,
    /// The cache does not accept it.
    Refused(Bundle, ApiError),
}

impl SendStage {
    pub(super) fn new(api: &Api, limits: &PipelineLimits) -> Self {
        Self {
            api: api.clone(),
            builders: BundleBuilders::default(),
            limits: limits.bundle,
            max_first_bytes: limits.first_bundle_bytes,
            has_filled_one: false,
            is_probing: false,
            queue: VecDeque::new(),
            running: 0,
        }
    }

    /// Adds a frame of `path` to its bundle.
    pub(super) fn add(
        &mut self,
        path: u32,
        is_large: bool,
        encoded: &EncodedChunk,
        permit: Permit,
    ) {
        let full = self.builders.add(path, is_large, encoded, permit, self.next_limits());
        self.has_filled_one |= !full.is_empty();
        self.queue.extend(full);
    }

    /// Queues all open bundles, however small they are.
    pub(super) fn flush(&mut self) {
        let limits = self.next_limits();
        self.queue.extend(self.builders.take_all(limits));
    }

    /// Sends full bundles.
    pub(super) fn start(&mut self, tasks: &mut Tasks) {
        let max_running = if self.is_probing { 1 } else { MAX_BUNDLES };
        while self.running < max_running {
            let Some(bundle) = self.queue.pop_front() else { return };
            if bundle.body.len() > self.limits.bytes && bundle.entries.len() > 1 {
                self.queue_parts(bundle);
                continue;
            }
            self.running += 1;
            let api = self.api.clone();
            tasks.spawn(|_events| async move {
                let answer = api.send_bundle(bundle.body.clone()).await;
                Event::Sent { bundle, answer }
            });
        }
    }

    /// Takes the answer to a bundle.
    ///
    /// # Errors
    /// A failure that stops the push.
    pub(super) fn finish(
        &mut self,
        bundle: Bundle,
        answer: Result<StoredChunks, ApiError>,
    ) -> Result<SendOutcome, ApiError> {
        self.running -= 1;
        let Err(error) = answer else {
            self.is_probing = false;
            return Ok(SendOutcome::Stored(bundle));
        };
        match (error.kind(), bundle.half()) {
            (ApiErrorKind::TooLarge, Some(half)) => {
                self.limits.bytes = self.limits.bytes.min(half);
                self.is_probing = true;
                self.queue_parts(bundle);
                Ok(SendOutcome::Split)
            }
            (ApiErrorKind::TooLarge | ApiErrorKind::Rejected, _) => {
                Ok(SendOutcome::Refused(bundle, error))
            }
            _ => Err(error),
        }
    }

    /// Bundles that are being sent.
    pub(super) const fn running(&self) -> usize {
        self.running
    }

    /// Queues the chunks of a bundle in smaller ones, before any other.
    fn queue_parts(&mut self, bundle: Bundle) {
        for part in bundle.split(self.limits.bytes).into_iter().rev() {
            self.queue.push_front(part);
        }
    }

    /// The bounds on the bundle that is full next.
    fn next_limits(&self) -> BundleLimits {
        let max_bytes = if self.has_filled_one { usize::MAX } else { self.max_first_bytes };
        BundleLimits { bytes: self.limits.bytes.min(max_bytes), ..self.limits }
    }

    #[cfg(test)]
    pub(super) fn assert_bounded(&self, max_chunk_bytes: usize) {
        assert!(self.running <= MAX_BUNDLES);
        assert!(self.builders.bytes() < 2 * self.limits.bytes + max_chunk_bytes);
    }

    /// Bytes of open bundles and of full ones in the queue.
    #[cfg(test)]
    pub(super) fn queued_bytes(&self) -> usize {
        self.builders.bytes() + self.queue.iter().map(|bundle| bundle.body.len()).sum::<usize>()
    }
}
