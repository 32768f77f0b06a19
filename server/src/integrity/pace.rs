//! Limits the bytes that are read in a second, so that clients have the rest.

use std::time::{Duration, Instant};

/// Counts the bytes that are read, and waits where that was too fast.
#[derive(Debug)]
pub struct Pace {
    rate: Option<u64>,
    began: Instant,
    bytes: u64,
}

impl Pace {
    /// At most `rate` bytes a second, or any number without a rate.
    #[must_use]
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.filter(|rate| *rate > 0), began: Instant::now(), bytes: 0 }
    }

    /// Notes that so much was read.
    pub async fn read(&mut self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        self.bytes += bytes;
        // In milliseconds, so that neither a slow rate nor a long run overflows.
        let due = Duration::from_millis(self.bytes.saturating_mul(1_000) / rate);
        tokio::time::sleep(due.saturating_sub(self.began.elapsed())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rate_is_kept_and_none_waits_for_nothing() {
        let began = Instant::now();
        Pace::new(None).read(u64::MAX).await;
        assert!(began.elapsed() < Duration::from_millis(50));
        let mut pace = Pace::new(Some(1_000_000));
        for _ in 0..10 {
            pace.read(20_000).await;
        }
        assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    }
}
