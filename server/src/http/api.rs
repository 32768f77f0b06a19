//! The push protocol and what operators ask, below `/api/v1` (and the two health checks).

pub(super) mod cache_info;
pub(super) mod chunks;
pub(super) mod health;
pub(super) mod missing_chunks;
pub(super) mod missing_paths;
pub(super) mod paths;
pub(super) mod whoami;

use std::time::Duration;

use super::body::BodyLimits;
use crate::config::LimitsConfig;

/// The largest JSON body of a commit or a question.
const JSON_BYTES: u64 = 16 * 1024 * 1024;
/// Paths in one question.
const PATHS_PER_QUERY: u32 = 4096;
/// Chunk names in one question.
const NAMES_PER_REQUEST: u32 = 8192;
/// Paths in one commit.
const PATHS_PER_REQUEST: u32 = 256;

fn body_limits(limits: &LimitsConfig, bytes: u64) -> BodyLimits {
    BodyLimits {
        bytes,
        silence: Duration::from_secs(limits.body_timeout.get()),
        least_rate: limits.min_body_rate.bytes(),
    }
}
