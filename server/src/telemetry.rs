//! What a running server says of itself: its log, and numbers for Prometheus.

mod log;
mod metrics;

pub use self::metrics::{Metrics, install_metrics, is_counting};
pub use log::init;
