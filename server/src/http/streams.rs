//! The tasks that hyper runs HTTP/2 streams in, each of which can be ended by itself: dropping its
//! task resets the stream. An HTTP/1 connection has one response at a time, which ends with the
//! connection.

use hyper::rt::Executor;
use tokio_util::sync::CancellationToken;

tokio::task_local! {
    static STREAM: CancellationToken;
}

/// Runs each stream until it is done or ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamTasks;

impl<F> Executor<F> for StreamTasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let end = CancellationToken::new();
        // It ends with its connection, whose streams fail once it is gone.
        tokio::spawn(STREAM.scope(end.clone(), async move {
            end.run_until_cancelled_owned(stream).await;
        }));
    }
}

/// What ends the stream that this is called in; `None` on HTTP/1.
pub(super) fn current() -> Option<CancellationToken> {
    STREAM.try_with(CancellationToken::clone).ok()
}
