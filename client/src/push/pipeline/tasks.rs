//! The tasks of a push, and the channel on which they report.
//!
//! Each task ends by itself and reports with one [`Event`] at its end. Readers and commits report
//! what they get meanwhile as well. All tasks end with the push: dropping [`Tasks`] aborts them.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinError, JoinSet};

use super::Event;

/// The tasks under way.
pub(super) struct Tasks {
    set: JoinSet<()>,
    events: UnboundedSender<Event>,
}

impl Tasks {
    /// No tasks yet, and the events that they are going to report.
    pub(super) fn new() -> (Self, UnboundedReceiver<Event>) {
        let (events, reports) = unbounded_channel();
        (Self { set: JoinSet::new(), events }, reports)
    }

    /// Runs `work` as a task. It may report events before the one that it ends with.
    pub(super) fn spawn<W>(&mut self, work: impl FnOnce(UnboundedSender<Event>) -> W)
    where
        W: Future<Output = Event> + Send + 'static,
    {
        let work = work(self.events.clone());
        let events = self.events.clone();
        // Where nobody listens any more, the push has ended.
        self.set.spawn(async move { drop(events.send(work.await)) });
    }

    /// [`Tasks::spawn`], on a thread that may block.
    pub(super) fn spawn_blocking(
        &mut self,
        work: impl FnOnce(&UnboundedSender<Event>) -> Event + Send + 'static,
    ) {
        let events = self.events.clone();
        self.set.spawn_blocking(move || drop(events.send(work(&events))));
    }

    /// The next task that ended; `None` where none is left.
    ///
    /// # Errors
    /// The task panicked.
    pub(super) async fn join_next(&mut self) -> Option<Result<(), JoinError>> {
        self.set.join_next().await
    }

    /// Aborts all tasks that have not ended.
    pub(super) fn abort_all(&mut self) {
        self.set.abort_all();
    }

    /// Aborts all tasks and waits for their ends.
    #[cfg(test)]
    pub(super) async fn shutdown(&mut self) {
        self.set.shutdown().await;
    }
}
