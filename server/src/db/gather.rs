//! Questions that many requests ask at the same moment, gathered into few statements.
//!
//! While one statement is under way, what is asked meanwhile waits for the next one and is asked
//! together. So a question that nobody else asks is asked at once, and under load the price of a
//! statement is shared by all that wait. Where a statement takes long, others are made beside it.
//! Invariant: a question is answered by a statement that began after the question was put, and so
//! sees all that was committed before.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::{Db, DbError};

/// Statements under way at the same time, where one takes long: a database that is far away, or a
/// connection that hangs.
const MAX_AT_ONCE: usize = 4;
/// A statement that has taken so long is not waited for by those that come now.
const SLOW_STATEMENT: Duration = Duration::from_millis(10);
/// Questions of one statement; a size that statements are prepared for.
const MAX_TOGETHER: usize = 512;

/// The answers to some questions; what has none is not among them.
pub type Answers<K, V> = BoxFuture<'static, Result<HashMap<K, V>, DbError>>;
/// Asks all of these.
pub type Ask<K, V> = fn(Db, Vec<K>) -> Answers<K, V>;

type Answer<V> = Result<Option<V>, Arc<DbError>>;

/// Gathers questions of one kind. Cheap to clone.
pub struct Gather<K, V>(Arc<Inner<K, V>>);

struct Inner<K, V> {
    db: Db,
    ask: Ask<K, V>,
    queue: Mutex<Queue<K, V>>,
}

struct Queue<K, V> {
    waiting: VecDeque<(K, oneshot::Sender<Answer<V>>)>,
    asking: usize,
    /// Those of them whose statement takes long.
    stuck: usize,
}

impl<K, V> Inner<K, V> {
    fn queue(&self) -> MutexGuard<'_, Queue<K, V>> {
        // Nothing that can panic runs while it is locked.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Inner<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Sees to it that what waits is asked: at once when nobody asks, or all that do are stuck.
    fn start(inner: &Arc<Self>) {
        let mut queue = inner.queue();
        if queue.waiting.is_empty() || queue.asking > queue.stuck || queue.asking >= MAX_AT_ONCE {
            return;
        }
        queue.asking += 1;
        drop(queue);
        // A task of its own, so that nobody waits for ever when the request that began it is cut
        // off.
        tokio::spawn(ask_all(Asker { inner: Arc::clone(inner), is_done: false, is_stuck: false }));
    }
}

impl<K, V> Gather<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Asks `db` with `ask`.
    #[must_use]
    pub fn new(db: Db, ask: Ask<K, V>) -> Self {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), asking: 0, stuck: 0 });
        Self(Arc::new(Inner { db, ask, queue }))
    }

    /// The answer to one question, `None` when there is none.
    ///
    /// # Errors
    /// When the database fails; all that were asked together share the error, unless it is that of
    /// a damaged row.
    pub async fn get(&self, key: K) -> Answer<V> {
        let (sender, receiver) = oneshot::channel();
        self.0.queue().waiting.push_back((key, sender));
        Inner::start(&self.0);
        receiver.await.unwrap_or_else(|_| Err(Arc::new(DbError::Busy(sqlx::Error::WorkerCrashed))))
    }
}

/// One that asks, until the queue is empty.
struct Asker<K, V> {
    inner: Arc<Inner<K, V>>,
    is_done: bool,
    is_stuck: bool,
}

impl<K, V> Asker<K, V> {
    /// What to ask next. With the last of it this one stops being counted, under the same lock, so
    /// that nobody can put a question that it only seems to be there for.
    fn next(&mut self) -> Vec<(K, oneshot::Sender<Answer<V>>)> {
        let mut queue = self.inner.queue();
        let many = queue.waiting.len().min(MAX_TOGETHER);
        if many == 0 {
            queue.asking -= 1;
            self.is_done = true;
        }
        queue.waiting.drain(..many).collect()
    }

    fn set_stuck(&mut self, is_stuck: bool) {
        let mut queue = self.inner.queue();
        queue.stuck = queue.stuck + usize::from(is_stuck) - usize::from(self.is_stuck);
        self.is_stuck = is_stuck;
    }
}

impl<K, V> Drop for Asker<K, V> {
    /// After a panic, or at the end of the runtime.
    fn drop(&mut self) {
        if !self.is_done {
            self.set_stuck(false);
            let mut queue = self.inner.queue();
            queue.asking -= 1;
            if queue.asking == 0 {
                // Nobody is left to ask these; the senders' end tells those that wait.
                queue.waiting.clear();
            }
        }
    }
}

async fn ask_all<K, V>(mut asking: Asker<K, V>)
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    // Whoever is about to ask as well does so first.
    tokio::task::yield_now().await;
    loop {
        let batch = asking.next();
        if batch.is_empty() {
            return;
        }
        let mut batches = vec![batch];
        while let Some(mut batch) = batches.pop() {
            let keys = batch.iter().map(|(key, _)| key.clone()).collect();
            let asked = asking.ask(keys).await.map_err(Arc::new);
            let is_damaged = matches!(&asked, Err(error) if matches!(**error, DbError::Corrupt(_)));
            if is_damaged && batch.len() > 1 {
                // A row that makes no sense is the misfortune of those who asked for it, not of all
                // who asked with them.
                batches.push(batch.split_off(batch.len() / 2));
                batches.push(batch);
                continue;
            }
            for (key, sender) in batch {
                let answer = match &asked {
                    Ok(found) => Ok(found.get(&key).cloned()),
                    Err(error) => Err(Arc::clone(error)),
                };
                // Whoever does not wait any more needs no answer.
                let _ = sender.send(answer);
            }
        }
    }
}

impl<K, V> Asker<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Makes the statement. While it takes long, others may ask beside it.
    async fn ask(&mut self, keys: Vec<K>) -> Result<HashMap<K, V>, DbError> {
        let mut statement = (self.inner.ask)(self.inner.db.clone(), keys);
        if let Ok(answers) = tokio::time::timeout(SLOW_STATEMENT, &mut statement).await {
            return answers;
        }
        self.set_stuck(true);
        Inner::start(&self.inner);
        let answers = statement.await;
        self.set_stuck(false);
        answers
    }
}

impl<K, V> Clone for Gather<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> fmt::Debug for Gather<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gather(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DatabaseConfig, DatabaseUrl};
    use std::sync::atomic::{AtomicUsize, Ordering};

    static ASKED: AtomicUsize = AtomicUsize::new(0);

    fn squares(_: Db, keys: Vec<u64>) -> BoxFuture<'static, Result<HashMap<u64, u64>, DbError>> {
        ASKED.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if keys.contains(&13) {
                return Err(DbError::corrupt("thirteen".to_owned()));
            }
            assert!(!keys.contains(&666), "a fault of the program");
            Ok(keys.into_iter().filter(|key| key % 2 == 0).map(|key| (key, key * key)).collect())
        })
    }

    #[tokio::test]
    async fn what_is_asked_meanwhile_is_asked_together() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::Sqlite(folder.path().join("snowbank.db"));
        let gather = Gather::new(Db::open(&DatabaseConfig::new(url)).await.unwrap(), squares);
        let questions = (0..100_u64).map(|key| {
            let gather = gather.clone();
            async move { (key, gather.get(key % 12).await) }
        });
        for (key, answer) in futures_util::future::join_all(questions).await {
            let key = key % 12;
            assert_eq!(answer.unwrap(), (key % 2 == 0).then_some(key * key));
        }
        let asked = ASKED.swap(0, Ordering::SeqCst);
        assert!(asked <= 4, "{asked} statements for 100 questions");

        assert!(gather.get(13).await.unwrap_err().to_string().contains("thirteen"));
        assert_eq!(gather.get(2).await.unwrap(), Some(4), "an error does not stay");
        assert!(gather.get(666).await.is_err(), "whoever waits is told");
        assert_eq!(gather.get(4).await.unwrap(), Some(16), "and others are answered");
        let (bad, good, absent) = tokio::join!(gather.get(13), gather.get(10), gather.get(7));
        assert!(bad.is_err());
        assert_eq!(
            (good.unwrap(), absent.unwrap()),
            (Some(100), None),
            "a damaged row is not everybody's"
        );
        // Those that give up hold nobody up.
        for _ in 0..10 {
            let given_up = std::pin::pin!(gather.get(6));
            assert!(futures_util::poll!(given_up).is_pending());
        }
        assert_eq!(gather.get(8).await.unwrap(), Some(64));
        assert_eq!(gather.0.queue().asking, 0);
    }
}
