//! How many bodies travel at once in one direction: fewer, once they slow each other down.
//!
//! On a slow link many bodies at once all come late, and each is near its timeout. So a lane begins
//! with all places, and has half as many once a body stalls among others, or takes longer than
//! `slow`. When the next bodies take as long as those before them, they were not slowed by each
//! other (each has its own limit, or the service takes its time): the places come back, and stay
//! for a while. A lane that is used by half or more gets a place more with each quick body.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A shorter body says little of the link.
const MIN_MEASURED_BYTES: u64 = 256 * 1024;
/// For how long a lane is not narrowed by slow bodies after that was found not to help.
const STEADY_TIME: Duration = Duration::from_mins(10);

/// Places for bodies.
#[derive(Debug)]
pub(super) struct Lane {
    state: Mutex<State>,
    freed: Notify,
}

/// A body's place, free again once dropped.
#[derive(Debug)]
pub(super) struct LanePlace<'a> {
    lane: &'a Lane,
    bytes: u64,
    began_at: Instant,
    companions: usize,
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Journey {
    Arrived,
    Stalled,
}

#[derive(Debug)]
struct State {
    /// A body that takes longer is slow.
    slow: Duration,
    most: usize,
    limit: usize,
    under_way: usize,
    /// Bodies that began before say nothing of the limit that holds now.
    narrowed_at: Option<Instant>,
    /// How many there were before the lane was narrowed, and how long they took.
    before: Option<(usize, Duration)>,
    steady_until: Option<Instant>,
}

impl Lane {
    /// `most` places at first and at most.
    pub(super) fn new(most: usize, slow: Duration) -> Self {
        let (narrowed_at, before, steady_until) = (None, None, None);
        let state =
            State { slow, most, limit: most, under_way: 0, narrowed_at, before, steady_until };
        Self { state: Mutex::new(state), freed: Notify::new() }
    }

    /// Waits for a place for a body of so many bytes.
    pub(super) async fn enter(&self, bytes: u64) -> LanePlace<'_> {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(companions) = self.state().enter() {
                return LanePlace { lane: self, bytes, began_at: Instant::now(), companions };
            }
            freed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LanePlace<'_> {
    /// The body begins now: what was waited for before does not count.
    pub(super) fn begin(&mut self) {
        self.began_at = Instant::now();
    }

    /// Notes how it ended.
    pub(super) fn finish(self, journey: Journey) {
        if self.bytes < MIN_MEASURED_BYTES && journey == Journey::Arrived {
            return;
        }
        let mut state = self.lane.state();
        let limit = state.limit;
        state.learn(journey, self.began_at, Instant::now(), self.companions);
        let new = state.limit;
        drop(state);
        if new < limit {
            tracing::info!(
                limit = new,
                "fewer bodies travel to or from the storage at once: they slow each other down"
            );
        }
        for _ in limit..new {
            self.lane.freed.notify_one();
        }
    }
}

impl Drop for LanePlace<'_> {
    fn drop(&mut self) {
        self.lane.state().under_way -= 1;
        self.lane.freed.notify_one();
    }
}

impl State {
    /// Takes a place; gives how many are taken then.
    fn enter(&mut self) -> Option<usize> {
        (self.under_way < self.limit).then(|| {
            self.under_way += 1;
            self.under_way
        })
    }

    /// Draws the conclusion from a body that began at `began_at` with `companions` (itself
    /// included) and ended now.
    fn learn(&mut self, journey: Journey, began_at: Instant, now: Instant, companions: usize) {
        if self.narrowed_at.is_some_and(|narrowed_at| began_at < narrowed_at) {
            return;
        }
        let took = now.duration_since(began_at);
        let companions = companions.max(self.under_way);
        if journey == Journey::Arrived && took <= self.slow {
            if took < self.slow / 3 && companions * 2 >= self.limit && self.limit < self.most {
                self.limit += 1;
            }
            return;
        }
        match self.before {
            Some((limit, before))
                if journey == Journey::Arrived
                    && took.as_secs_f64() > 0.7 * before.as_secs_f64() =>
            {
                self.limit = self.limit.max(limit);
                self.before = None;
                self.steady_until = Some(now + STEADY_TIME);
            }
            _ if companions < 2 => {}
            _ if journey == Journey::Arrived
                && self.steady_until.is_some_and(|until| now < until) => {}
            _ => {
                self.before = Some((companions.min(self.limit), took));
                self.limit = (companions.min(self.limit) / 2).max(1);
                self.narrowed_at = Some(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW_TIME: Duration = Duration::from_secs(30);

    /// A lane on which each body of a round begins once the last round has ended; gives the limit
    /// after each round. `took` says how long one of so many takes.
    fn rounds(state: &mut State, count: usize, took: impl Fn(usize) -> Duration) -> Vec<usize> {
        let mut now = Instant::now();
        let round = |_| {
            let companions = state.limit.min(8);
            state.under_way = companions;
            let end = now + took(companions);
            for _ in 0..companions {
                state.learn(Journey::Arrived, now, end, companions);
                state.under_way -= 1;
            }
            now = end + Duration::from_millis(1);
            state.limit
        };
        (0..count).map(round).collect()
    }

    fn state() -> State {
        let (narrowed_at, before, steady_until) = (None, None, None);
        State {
            slow: SLOW_TIME,
            most: 64,
            limit: 64,
            under_way: 0,
            narrowed_at,
            before,
            steady_until,
        }
    }

    #[test]
    fn bodies_that_share_a_slow_link_travel_one_by_one() {
        let one = Duration::from_secs(17);
        let limits = rounds(&mut state(), 6, |companions| one * u32::try_from(companions).unwrap());
        assert_eq!(limits, [4, 2, 1, 1, 1, 1]);
    }

    #[test]
    fn bodies_that_are_slow_by_themselves_travel_together() {
        let limits = rounds(&mut state(), 6, |_| Duration::from_secs(40));
        assert_eq!(limits, [4, 8, 8, 8, 8, 8]);
    }

    #[test]
    fn a_link_that_gets_quick_again_is_used_again() {
        let mut state = state();
        state.limit = 1;
        let limits = rounds(&mut state, 5, |_| Duration::from_secs(1));
        assert_eq!(
            limits,
            [2, 4, 8, 16, 17],
            "eight at a time do not fill half of a lane of seventeen"
        );
    }

    #[test]
    fn a_body_that_stalls_alone_says_nothing_of_others() {
        let (mut state, now) = (state(), Instant::now());
        state.under_way = 1;
        state.learn(Journey::Stalled, now, now + SLOW_TIME, 1);
        assert_eq!(state.limit, 64);
        state.under_way = 6;
        state.learn(Journey::Stalled, now, now + SLOW_TIME, 6);
        state.learn(Journey::Stalled, now, now + SLOW_TIME, 6);
        assert_eq!(state.limit, 3, "of those that began together, the first one counts");
    }

    #[tokio::test]
    async fn who_finds_no_place_waits_for_one() {
        let lane = Lane::new(1, SLOW_TIME);
        let first = lane.enter(1).await;
        let second = async { drop(lane.enter(1).await) };
        tokio::join!(second, async {
            tokio::task::yield_now().await;
            first.finish(Journey::Arrived);
        });
        assert_eq!(lane.state().under_way, 0);
    }
}
