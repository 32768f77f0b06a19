//! `[limits]`: what bounds the server's memory and work. A limit that is hit is named in the error
//! that a client gets.

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
    /// The largest NAR that is taken, and the most bytes that the NARs of one commit have together.
    pub max_nar_size: Size,
    /// Threads that verify and decode at the same time; 0 means one per processor.
    pub verify_threads: usize,
    /// How long a request's body may stay silent.
    pub body_timeout: Seconds,
    /// The least rate, per second, at which a body has to arrive.
    pub min_body_rate: Size,
    /// How long a body may take in all, without the time in which the server makes it wait.
    pub body_deadline: Seconds,
    /// How long an answer in lines may wait for a client that does not read, before the work behind
    /// it is given up.
    pub answer_timeout: Seconds,
    /// The part of each pool of memory, in percent, that one token, or one address, may hold while
    /// others want some.
    pub client_share: u8,
    /// Connections open at the same time.
    pub connections: usize,
    /// Of these, from one address that is no trusted proxy.
    pub connections_per_address: usize,
    /// Requests under way at the same time; a connection may always have two.
    pub requests: usize,
    /// NARs that are downloaded at the same time, small ones apart.
    pub downloads: usize,
    /// From the beginning of a connection to the end of its first request's head.
    pub first_request_timeout: Seconds,
    /// How long a connection stays open without a request.
    pub idle_timeout: Seconds,
    /// How long a response may stand still because its client does not read.
    pub write_timeout: Seconds,
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
            body_deadline: Seconds::new(300),
            answer_timeout: Seconds::new(30),
            client_share: 33,
            connections: 1024,
            connections_per_address: 256,
            requests: 4096,
            downloads: 256,
            first_request_timeout: Seconds::new(15),
            idle_timeout: Seconds::new(75),
            write_timeout: Seconds::new(60),
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
            let message =
                format!("{} is out of bounds; allowed are 512KiB to 16MiB", self.bundle_size);
            return problem(&["limits", "bundle-size"], message);
        }
        let least = Size::from_mib(64).max(Size::from_bytes(4 * self.bundle_size.bytes()));
        if self.memory < least {
            let message = format!(
                "{} is too little; allowed is {least} or more (64MiB at least, and four times \
                 `limits.bundle-size`)",
                self.memory
            );
            return problem(&["limits", "memory"], message);
        }
        if self.max_nar_size < Size::from_mib(1) || self.max_nar_size > Size::from_bytes(1 << 40) {
            let message =
                format!("{} is out of bounds; allowed are 1MiB to 1TiB", self.max_nar_size);
            return problem(&["limits", "max-nar-size"], message);
        }
        if self.verify_threads > 256 {
            let message = format!(
                "{} is too many; allowed are 0 (one per processor) to 256",
                self.verify_threads
            );
            return problem(&["limits", "verify-threads"], message);
        }
        if !(1..=3_600).contains(&self.body_timeout.get()) {
            let message = format!("{} is out of bounds; allowed are 1s to 1h", self.body_timeout);
            return problem(&["limits", "body-timeout"], message);
        }
        if self.min_body_rate > Size::from_mib(1) {
            let message = format!(
                "{} is too fast; allowed are 0B (no least rate) to 1MiB",
                self.min_body_rate
            );
            return problem(&["limits", "min-body-rate"], message);
        }
        if !(1..=86_400).contains(&self.body_deadline.get()) {
            let message = format!("{} is out of bounds; allowed are 1s to 1d", self.body_deadline);
            return problem(&["limits", "body-deadline"], message);
        }
        if !(33..=100).contains(&self.client_share) {
            let message =
                format!("{} is out of bounds; allowed are 33 to 100 (percent)", self.client_share);
            return problem(&["limits", "client-share"], message);
        }
        let counts: [(&'static [&'static str], usize); 4] = [
            (&["limits", "connections"], self.connections),
            (&["limits", "connections-per-address"], self.connections_per_address),
            (&["limits", "requests"], self.requests),
            (&["limits", "downloads"], self.downloads),
        ];
        for (key, count) in counts {
            if !(1..=65_536).contains(&count) {
                return problem(key, format!("{count} is out of bounds; allowed are 1 to 65536"));
            }
        }
        let times: [(&'static [&'static str], Seconds); 4] = [
            (&["limits", "answer-timeout"], self.answer_timeout),
            (&["limits", "first-request-timeout"], self.first_request_timeout),
            (&["limits", "idle-timeout"], self.idle_timeout),
            (&["limits", "write-timeout"], self.write_timeout),
        ];
        for (key, time) in times {
            if !(1..=3_600).contains(&time.get()) {
                return problem(key, format!("{time} is out of bounds; allowed are 1s to 1h"));
            }
        }
        if !(1..=1_000_000).contains(&self.anonymous_listings) {
            let message = format!(
                "{} is out of bounds; allowed are 1 to 1000000 a minute",
                self.anonymous_listings
            );
            return problem(&["limits", "anonymous-listings"], message);
        }
        if !(1..=1_000).contains(&self.listings_per_token) {
            let message =
                format!("{} is out of bounds; allowed are 1 to 1000", self.listings_per_token);
            return problem(&["limits", "listings-per-token"], message);
        }
        if !(1..=1_000_000).contains(&self.pins_per_cache) {
            let message =
                format!("{} is out of bounds; allowed are 1 to 1000000", self.pins_per_cache);
            return problem(&["limits", "pins-per-cache"], message);
        }
        Ok(())
    }
}
