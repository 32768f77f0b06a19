//! Results of tasks that end in any order, taken in the order in which the tasks were started.

use std::collections::BTreeMap;

/// The turns of tasks, and the results that wait for their turn.
#[derive(Debug)]
pub(super) struct OrderedResults<T> {
    /// The turn of the next task to start.
    started: u64,
    /// The turn of the next result to take.
    taken: u64,
    waiting: BTreeMap<u64, T>,
}

impl<T> Default for OrderedResults<T> {
    fn default() -> Self {
        Self { started: 0, taken: 0, waiting: BTreeMap::new() }
    }
}

impl<T> OrderedResults<T> {
    /// Gives a turn to a task that starts.
    pub(super) const fn start(&mut self) -> u64 {
        self.started += 1;
        self.started - 1
    }

    /// Takes the result of the task with that turn.
    pub(super) fn finish(&mut self, turn: u64, result: T) {
        self.waiting.insert(turn, result);
    }

    /// The next result in order, if its task has ended.
    pub(super) fn take(&mut self) -> Option<T> {
        let result = self.waiting.remove(&self.taken)?;
        self.taken += 1;
        Some(result)
    }

    /// Whether any task was started.
    pub(super) const fn has_started(&self) -> bool {
        self.started > 0
    }

    /// Tasks under way.
    pub(super) fn running(&self) -> usize {
        usize::try_from(self.started - self.taken).unwrap_or(usize::MAX) - self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_taken_in_the_order_of_the_starts() {
        let mut results = OrderedResults::default();
        let turns = [results.start(), results.start(), results.start()];
        assert_eq!((results.running(), results.take()), (3, None));
        results.finish(turns[2], 'c');
        results.finish(turns[0], 'a');
        assert_eq!((results.running(), results.take(), results.take()), (1, Some('a'), None));
        results.finish(turns[1], 'b');
        assert_eq!((results.take(), results.take(), results.take()), (Some('b'), Some('c'), None));
        assert_eq!(results.running(), 0);
    }
}
