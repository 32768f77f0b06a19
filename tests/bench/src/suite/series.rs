//! What a figure's runs gave: one number per run, in order.

/// One number per run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    /// A series of one run.
    pub(crate) fn once(value: f64) -> Self {
        Self(vec![value])
    }

    /// Adds a run's number.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The number in the middle; between the two in the middle of an even count. Not a number where
    /// there were no runs.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            len if len % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// The least and the greatest number.
    pub(crate) fn range(&self) -> (f64, f64) {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.greatest())
    }

    /// The greatest number.
    pub(crate) fn greatest(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// Each run's number by the other's of the same run: what the machine did meanwhile counts for
    /// both.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
    }

    /// Each number changed in the same way.
    pub(crate) fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        Self(self.0.iter().copied().map(change).collect())
    }
}

/// A count as a float.
#[expect(clippy::cast_precision_loss, reason = "what the suite counts is far below 2^52")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let series = |numbers: &[f64]| Series(numbers.to_vec());
        assert!((series(&[9.0, 1.0, 2.0]).median() - 2.0).abs() < 1e-9);
        assert!((series(&[4.0, 1.0, 2.0, 9.0]).median() - 3.0).abs() < 1e-9);
        assert!(series(&[]).median().is_nan());
        assert!((series(&[6.0, 8.0]).over(&series(&[3.0, 2.0])).median() - 3.0).abs() < 1e-9);
    }
}
