//! Results of tasks that end in any order, taken in the order in which the tasks were started.

use std::collections::BTreeMap;

/// Turns that were given out, and results that came back.
#[derive(Debug)]
pub(super) struct InOrder<T> {
    /// The next turn to give out.
    started: u64,
    /// The next turn to take.
    taken: u64,
    back: BTreeMap<u64, T>,
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self { started: 0, taken: 0, back: BTreeMap::new() }
    }
}

impl<T> InOrder<T> {
    /// A turn for a task that starts.
    pub(super) const fn start(&mut self) -> u64 {
        self.started += 1;
        self.started - 1
    }

    /// The task of that turn has ended.
    pub(super) fn back(&mut self, turn: u64, result: T) {
        self.back.insert(turn, result);
    }

    /// The result whose turn it is, if it is back.
    pub(super) fn take(&mut self) -> Option<T> {
        let result = self.back.remove(&self.taken)?;
        self.taken += 1;
        Some(result)
    }

    /// Whether there ever was a turn.
    pub(super) const fn has_started(&self) -> bool {
        self.started > 0
    }

    /// Tasks under way.
    pub(super) fn out(&self) -> usize {
        usize::try_from(self.started - self.taken).unwrap_or(usize::MAX) - self.back.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_taken_in_the_order_of_the_starts() {
        let mut results = InOrder::default();
        let turns = [results.start(), results.start(), results.start()];
        assert_eq!((results.out(), results.take()), (3, None));
        results.back(turns[2], 'c');
        results.back(turns[0], 'a');
        assert_eq!((results.out(), results.take(), results.take()), (1, Some('a'), None));
        results.back(turns[1], 'b');
        assert_eq!((results.take(), results.take(), results.take()), (Some('b'), Some('c'), None));
        assert_eq!(results.out(), 0);
    }
}
