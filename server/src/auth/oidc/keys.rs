//! An issuer's keys as they are known here: asked for when the first token needs them, kept, and
//! asked for again when they are old or lack the one that a token names.
//!
//! Whoever needs a key that is not there waits for the one request under way; whoever has one does
//! not wait but for the first who finds the keys old. An issuer is asked at most once every ten
//! seconds, so that neither its silence nor tokens with invented key ids make work. While it does
//! not answer, keys of up to a day ago are good.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use tokio_util::task::AbortOnDropHandle;

use super::super::AuthError;
use super::fetch::{FetchedKeys, Http};
use super::key_set::KeySet;

/// How often an issuer is asked at most.
const REFETCH_PAUSE: Duration = Duration::from_secs(10);
/// How old keys may be that are used for want of newer ones.
const MAX_STALENESS: Duration = Duration::from_hours(24);

/// The keys of one issuer.
pub(super) struct IssuerKeys {
    source: Arc<Source>,
    state: Mutex<State>,
}

struct Source {
    issuer: String,
    name: String,
    http: Http,
}

#[derive(Default)]
struct State {
    known: Option<FreshKeys>,
    last: Option<Attempt>,
    asking: Option<KeyFetch>,
}

#[derive(Clone)]
struct FreshKeys {
    keys: Arc<KeySet>,
    at: Instant,
    fresh_for: Duration,
}

struct Attempt {
    began: Instant,
    has_failed: bool,
}

/// A request under way, which goes on whoever waits for it; `None` when it failed, which has been
/// logged.
type KeyFetch = Shared<BoxFuture<'static, Option<FreshKeys>>>;

/// What to do about a token's key.
enum KeyDecision {
    Use(Arc<KeySet>),
    Wait(KeyFetch),
    Ask,
    Refuse,
}

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerKeys").field("issuer", &self.source.issuer).finish_non_exhaustive()
    }
}

impl IssuerKeys {
    pub fn new(issuer: &str, name: &str) -> Self {
        let source = Source { issuer: issuer.to_owned(), name: name.to_owned(), http: Http::new() };
        Self { source: Arc::new(source), state: Mutex::default() }
    }

    /// The issuer's keys, with the one of this id if there is such a one.
    ///
    /// # Errors
    /// [`AuthError::IssuerUnavailable`] when it is not known whether there is.
    pub async fn having(&self, kid: &str) -> Result<Arc<KeySet>, AuthError> {
        let asking = {
            let mut state = self.state();
            match state.next(kid, Instant::now()) {
                KeyDecision::Use(keys) => return Ok(keys),
                KeyDecision::Refuse => return Err(self.unavailable(&state)),
                KeyDecision::Wait(asking) => asking,
                KeyDecision::Ask => state.ask(Arc::clone(&self.source)),
            }
        };
        let answer = asking.await;
        let mut state = self.state();
        state.settle();
        match answer {
            Some(known) => Ok(known.keys),
            None => state
                .usable(Instant::now())
                .filter(|known| known.keys.get(kid).is_some())
                .map_or_else(|| Err(self.unavailable(&state)), |known| Ok(Arc::clone(&known.keys))),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unavailable(&self, state: &State) -> AuthError {
        let waited = state.last.as_ref().map_or(REFETCH_PAUSE, |last| last.began.elapsed());
        let seconds = REFETCH_PAUSE.saturating_sub(waited).as_secs() + 1;
        AuthError::IssuerUnavailable {
            issuer: self.source.name.clone(),
            retry_after_seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
        }
    }
}

impl State {
    fn next(&mut self, kid: &str, now: Instant) -> KeyDecision {
        self.settle();
        let may_ask = self
            .last
            .as_ref()
            .is_none_or(|last| now.saturating_duration_since(last.began) >= REFETCH_PAUSE);
        let known = self.usable(now);
        if let Some(known) = known.filter(|known| known.keys.get(kid).is_some()) {
            let is_fresh = now.saturating_duration_since(known.at) < known.fresh_for;
            if is_fresh || self.asking.is_some() || !may_ask {
                return KeyDecision::Use(Arc::clone(&known.keys));
            }
        }
        match (&self.asking, known) {
            (Some(asking), _) => KeyDecision::Wait(asking.clone()),
            (None, _) if may_ask => KeyDecision::Ask,
            // The issuer has just said which keys it has.
            (None, Some(known)) if self.last.as_ref().is_some_and(|last| !last.has_failed) => {
                KeyDecision::Use(Arc::clone(&known.keys))
            }
            (None, _) => KeyDecision::Refuse,
        }
    }

    fn usable(&self, now: Instant) -> Option<&FreshKeys> {
        self.known.as_ref().filter(|known| now.saturating_duration_since(known.at) < MAX_STALENESS)
    }

    /// Begins a request. It is a task of its own, so that it does not end with a client that goes
    /// away, and ends with the server.
    fn ask(&mut self, source: Arc<Source>) -> KeyFetch {
        let task = AbortOnDropHandle::new(tokio::spawn(async move { source.ask().await }));
        let asking = async move { task.await.ok().flatten() }.boxed().shared();
        self.last = Some(Attempt { began: Instant::now(), has_failed: false });
        self.asking = Some(asking.clone());
        asking
    }

    /// Takes over the answer to the request under way, if it has come.
    fn settle(&mut self) {
        let Some(answer) = self.asking.as_ref().and_then(|asking| asking.clone().now_or_never())
        else {
            return;
        };
        self.asking = None;
        if let Some(last) = &mut self.last {
            last.has_failed = answer.is_none();
        }
        if answer.is_some() {
            self.known = answer;
        }
    }
}

impl Source {
    async fn ask(&self) -> Option<FreshKeys> {
        // Before the request: what changes meanwhile counts as not seen.
        let at = Instant::now();
        match self.http.fetch(&self.issuer).await {
            Ok(FetchedKeys { keys, fresh_for }) => {
                Some(FreshKeys { keys: Arc::new(keys), at, fresh_for })
            }
            Err(error) => {
                tracing::warn!(issuer = self.name, %error, "the keys of an issuer cannot be \
                    fetched");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(at: Instant) -> FreshKeys {
        let set = r#"{"keys": [{"kid": "k", "kty": "RSA", "n": "AQAB", "e": "AQAB"}]}"#;
        FreshKeys {
            keys: Arc::new(KeySet::parse(set.as_bytes()).unwrap()),
            at,
            fresh_for: Duration::from_mins(10),
        }
    }

    fn state(at: Instant, last: Option<(Instant, bool)>) -> State {
        let last = last.map(|(began, has_failed)| Attempt { began, has_failed });
        State { known: Some(known(at)), last, asking: None }
    }

    fn silent() -> KeyFetch {
        std::future::pending().boxed().shared()
    }

    #[test]
    fn an_issuer_is_asked_when_it_has_to_be_and_not_too_often() {
        let start = Instant::now();
        let later = |seconds: u64| start + Duration::from_secs(seconds);
        let mut nothing = State::default();
        assert!(matches!(nothing.next("k", start), KeyDecision::Ask));
        nothing.last = Some(Attempt { began: start, has_failed: true });
        assert!(
            matches!(nothing.next("k", later(9)), KeyDecision::Refuse),
            "it has just not answered"
        );
        assert!(matches!(nothing.next("k", later(10)), KeyDecision::Ask));

        let mut fresh = state(start, Some((start, false)));
        assert!(matches!(fresh.next("k", later(599)), KeyDecision::Use(_)));
        assert!(
            matches!(fresh.next("other", later(9)), KeyDecision::Use(_)),
            "it has just said that there is no other"
        );
        assert!(
            matches!(fresh.next("other", later(11)), KeyDecision::Ask),
            "there may be a new key"
        );
        assert!(matches!(fresh.next("k", later(600)), KeyDecision::Ask), "they are old");
    }

    #[test]
    fn old_keys_are_good_for_a_day_while_the_issuer_is_silent() {
        let start = Instant::now();
        let later = |seconds: u64| start + Duration::from_secs(seconds);
        let mut failed = state(start, Some((later(3_600), true)));
        assert!(matches!(failed.next("k", later(3_605)), KeyDecision::Use(_)));
        assert!(matches!(failed.next("other", later(3_605)), KeyDecision::Refuse), "nobody knows");
        assert!(matches!(failed.next("k", later(3_610)), KeyDecision::Ask));
        failed.asking = Some(silent());
        assert!(
            matches!(failed.next("k", later(3_611)), KeyDecision::Use(_)),
            "nobody waits who need not"
        );
        assert!(matches!(failed.next("other", later(3_611)), KeyDecision::Wait(_)));
        assert!(matches!(failed.next("k", later(86_400)), KeyDecision::Wait(_)), "too old");
    }
}
