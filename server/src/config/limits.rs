//! `[limits]`: what bounds the server's memory and work. A limit that is hit is named in the error that a client gets.

use serde::Deserialize;

use super::error::Problem;
use super::{Seconds, Size};

/// The section; every value is within its bounds once a `Config` is loaded.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitsConfig {
    /// Memory for request bodies, packs being written and the cache of pack ranges, together.
    pub memory: Size,
    /// The largest bundle of chunks that a client may send in one request.
    pub bundle_size: Size,
    /// The largest NAR that is taken, and the most raw bytes that one commit may have decoded.
    pub max_nar_size: Size,
    /// Threads that verify and decode at the same time; 0 means one per processor.
    pub verify_threads: usize,
    /// How long a request's body may stay silent.
    pub body_timeout: Seconds,
    /// The least rate, per second, at which a body has to arrive.
    pub min_body_rate: Size,
    /// Connections open at the same time.
    pub connections: usize,
    /// Listings a minute that each address gets without a token.
    pub anonymous_listings: u32,
    /// Listings of one token that are answered, or wait to be, at the same time.
    pub listings_per_token: usize,
    /// Pins that one cache may have.
    pub pins_per_cache: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            memory: Size::from_mib(96),
            bundle_size: Size::from_mib(8),
            max_nar_size: Size::from_bytes(64 << 30),
            verify_threads: 0,
            body_timeout: Seconds::new(30),
            min_body_rate: Size::from_bytes(1024),
            connections: 1024,
            anonymous_listings: 120,
            listings_per_token: 4,
            pins_per_cache: 10_000,
        }
    }
}

impl LimitsConfig {
    /// The number of verifying threads, with 0 resolved.
    #[must_use]
    pub fn effective_verify_threads(&self) -> usize {
        match self.verify_threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            count => count,
        }
    }

    pub(super) fn validate(&self) -> Result<(), Problem> {
        let problem = |key, message| Err(Problem { key, message });
        if self.bundle_size < Size::from_bytes(512 << 10) || self.bundle_size > Size::from_mib(16) {
            let message = format!("{} is out of bounds; allowed are 512KiB to 16MiB", self.bundle_size);
            return problem(&["limits", "bundle-size"], message);
        }
        let least = Size::from_mib(64).max(Size::from_bytes(4 * self.bundle_size.bytes()));
        if self.memory < least {
            let message = format!(
                "{} is too little; allowed is {least} or more (64MiB at least, and four times `limits.bundle-size`)",
                self.memory
            );
            return problem(&["limits", "memory"], message);
        }
        if self.max_nar_size < Size::from_mib(1) || self.max_nar_size > Size::from_bytes(1 << 40) {
            let message = format!("{} is out of bounds; allowed are 1MiB to 1TiB", self.max_nar_size);
            return problem(&["limits", "max-nar-size"], message);
        }
        if self.verify_threads > 256 {
            let message = format!("{} is too many; allowed are 0 (one per processor) to 256", self.verify_threads);
            return problem(&["limits", "verify-threads"], message);
        }
        if !(1..=3_600).contains(&self.body_timeout.get()) {
            let message = format!("{} is out of bounds; allowed are 1s to 1h", self.body_timeout);
            return problem(&["limits", "body-timeout"], message);
        }
        if self.min_body_rate > Size::from_mib(1) {
            let message = format!("{} is too fast; allowed are 0B (no least rate) to 1MiB", self.min_body_rate);
            return problem(&["limits", "min-body-rate"], message);
        }
        if !(1..=65_536).contains(&self.connections) {
            let message = format!("{} is out of bounds; allowed are 1 to 65536", self.connections);
            return problem(&["limits", "connections"], message);
        }
        if !(1..=1_000_000).contains(&self.anonymous_listings) {
            let message = format!("{} is out of bounds; allowed are 1 to 1000000 a minute", self.anonymous_listings);
            return problem(&["limits", "anonymous-listings"], message);
        }
        if !(1..=1_000).contains(&self.listings_per_token) {
            let message = format!("{} is out of bounds; allowed are 1 to 1000", self.listings_per_token);
            return problem(&["limits", "listings-per-token"], message);
        }
        if !(1..=1_000_000).contains(&self.pins_per_cache) {
            let message = format!("{} is out of bounds; allowed are 1 to 1000000", self.pins_per_cache);
            return problem(&["limits", "pins-per-cache"], message);
        }
        Ok(())
    }
}
