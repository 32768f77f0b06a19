//! Who may take how much of the server at once for pushes: memory, commits, and work whose memory
//! has no small bound.
//!
//! Memory is in pools, and a request that has some of one waits for a later one only, in this
//! order: a body as it arrives, and what it was parsed to; a place for its commit; the paths of a
//! commit that are worked on, with their manifests; packs that are being written; what is read back
//! (`ingest`); answers. So no two requests wait for each other. What is held of the later ones ends
//! by itself, that of answers when they were not read for a while.

use std::time::Duration;

use super::places::{Place, Places};
use super::{Client, Hold, Pool, Refusal};

/// How long a request waits for a place before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// Commits of one token that are verified at the same time.
const COMMITS_PER_TOKEN: usize = 8;

/// NARs that one token uploads at the same time, and all together.
const UPLOADS_PER_TOKEN: usize = 6;
const UPLOADS: usize = 8;
/// How long an upload waits for its place: no longer than Nix waits for an answer.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(240);

/// What there is to share out.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Memory for all that is shared out here.
    pub memory_bytes: u64,
    /// What one token, or one address, may have of each pool while others want some.
    pub share_percent: u8,
}

/// Shared bounds on what requests hold.
#[derive(Debug)]
pub struct Budgets {
    /// Bodies as they arrive, and what they were parsed to.
    pub bodies: Pool,
    /// Paths that are verified and committed, with their manifests.
    pub manifests: Pool,
    /// Packs that are being written.
    pub packs: Pool,
    /// Answers that have not been read.
    pub answers: Pool,
    commits: Places,
    uploads: Places,
    large_uploads: Places,
    large: Places,
    closures: Places,
}

impl Budgets {
    /// 8/15 of the memory are for bodies, 3/10 for packs, a twelfth each for manifests and for
    /// answers. Of each but the packs, one hold has 5/16 at most: of the bodies, a sixth of all
    /// this memory.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let Limits { memory_bytes: memory, share_percent: share } = limits;
        let (bodies, packs, twelfth) = (memory / 15 * 8, memory / 10 * 3, memory / 12);
        let largest = |pool: u64| pool / 16 * 5;
        Self {
            bodies: Pool::new("bodies", bodies, largest(bodies), share),
            manifests: Pool::new("manifests", twelfth, largest(twelfth), share),
            // A pack is made from one body.
            packs: Pool::new("packs", packs, largest(bodies), share),
            answers: Pool::new("answers", twelfth, largest(twelfth), share),
            commits: Places::new(COMMITS_PER_TOKEN, None),
            uploads: Places::new(UPLOADS_PER_TOKEN, Some(UPLOADS)),
            large_uploads: Places::new(1, Some(1)),
            large: Places::new(1, Some(1)),
            closures: Places::new(1, Some(1)),
        }
    }

    /// A place among the commits of `client`.
    ///
    /// # Errors
    /// [`Refusal`] when there was no place for some seconds.
    pub async fn commit(&self, client: &Client) -> Result<Place, Refusal> {
        let reason = "is verifying as many commits of this token as it may";
        self.commits.take_within(&client.subject, PATIENCE, "commits-per-token", reason).await
    }

    /// A place to upload a NAR, with room to decompress and to cut it.
    ///
    /// # Errors
    /// [`Refusal`] when there was no place for some minutes.
    pub async fn upload(&self, client: &Client) -> Result<Place, Refusal> {
        let reason = "is receiving as many NARs as it may";
        self.uploads.take_within(&client.subject, UPLOAD_PATIENCE, "uploads", reason).await
    }

    /// The place for an upload that takes more than others, for its decompression or its manifest.
    ///
    /// # Errors
    /// [`Refusal`] when there was no place for some minutes.
    pub async fn large_upload(&self, client: &Client) -> Result<Place, Refusal> {
        let reason = "is receiving another large NAR";
        let places = &self.large_uploads;
        places.take_within(&client.subject, UPLOAD_PATIENCE, "large-uploads", reason).await
    }

    /// The place to copy a closure, or to delete one: there is one for all.
    ///
    /// # Errors
    /// [`Refusal`] when there was no place for some seconds.
    pub async fn closure(&self, client: &Client) -> Result<Place, Refusal> {
        let reason = "is copying or deleting another closure";
        self.closures.take_within(&client.subject, PATIENCE, "closures", reason).await
    }

    /// Memory for one group of paths: of the pool where it fits, else the one place for what does
    /// not.
    pub async fn manifest(&self, client: &Client, bytes: u64) -> ManifestRoom {
        if bytes <= self.manifests.largest() {
            ManifestRoom::Pooled(self.manifests.take(client, bytes).await)
        } else {
            ManifestRoom::Large(self.large.take(&client.subject).await)
        }
    }
}

/// Memory for the manifests of a group of paths.
#[derive(Debug)]
pub enum ManifestRoom {
    /// So many bytes of the pool.
    Pooled(Hold),
    /// The place for one manifest of any size.
    Large(Place),
}

impl ManifestRoom {
    /// Whether it is enough for `bytes`.
    #[must_use]
    pub fn covers(&self, bytes: u64) -> bool {
        match self {
            Self::Pooled(hold) => bytes <= hold.bytes(),
            Self::Large(_) => true,
        }
    }

    /// Makes room for others once it is known how little is needed.
    #[must_use]
    pub fn fitted(self, budgets: &Budgets, client: &Client, bytes: u64) -> Self {
        match self {
            Self::Pooled(mut hold) => {
                hold.shrink(bytes);
                Self::Pooled(hold)
            }
            Self::Large(_) if bytes > budgets.manifests.largest() => self,
            Self::Large(place) => match budgets.manifests.try_take(client, bytes) {
                Some(hold) => Self::Pooled(hold),
                None => Self::Large(place),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_large_manifest_has_the_one_place_until_it_turns_out_small() {
        let budgets = Budgets::new(Limits { memory_bytes: 48 << 20, share_percent: 34 });
        let (one, other) = (Client::new("one", "10.0.0.1"), Client::new("other", "10.0.0.2"));
        let large = budgets.manifest(&one, 16 << 20).await;
        assert!(large.covers(u64::MAX));
        let mut second = Box::pin(budgets.manifest(&other, 16 << 20));
        assert!(futures_util::poll!(&mut second).is_pending());
        // Ordinary ones do not wait for it.
        assert!(budgets.manifest(&other, 100_000).await.covers(100_000));
        let small = large.fitted(&budgets, &one, 100_000);
        assert!(small.covers(100_000) && !small.covers(100_001));
        assert!(second.await.covers(u64::MAX));
    }
}
