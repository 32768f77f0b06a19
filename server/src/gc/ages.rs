//! How old things are, for one that removes what is old: the clock is not trusted blindly.
//!
//! Servers note the time every minute. Where the clock is further from the last note than
//! `ALLOWANCE`, it has jumped or no server ran; either way the time between does not count as age,
//! so that a clock that is a year ahead for a while makes nothing a year old. Reads were not noted
//! before [`Ages::since`], so that nothing counts as unused for longer than that.

use serde::{Deserialize, Serialize};
use snowbank_core::units::Seconds;

use crate::db::{Db, DbError, Exec, settings};

const CLOCK: &str = "clock";
/// How far apart two notes may be.
const ALLOWANCE: i64 = 300;
/// Jumps that are remembered; of more, the oldest are taken together.
const MAX_JUMPS: usize = 64;

/// What is kept of the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Clock {
    /// When uses of paths were noted first.
    since: i64,
    /// The last note.
    noted: i64,
    /// Jumps ahead, oldest first.
    jumps: Vec<Jump>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Jump {
    /// The time to which the clock jumped.
    to: i64,
    /// Seconds that do not count.
    seconds: i64,
}

/// The ages of things at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ages {
    now: i64,
    clock: Clock,
}

impl Clock {
    fn note(&mut self, now: i64) {
        let passed = now.saturating_sub(self.noted);
        if passed > ALLOWANCE {
            self.jumps.push(Jump { to: now, seconds: passed });
        } else if passed < -ALLOWANCE {
            // What was jumped over lies ahead again.
            self.jumps.retain(|jump| jump.to <= now);
        }
        while self.jumps.len() > MAX_JUMPS {
            let oldest = self.jumps.remove(0);
            if let Some(next) = self.jumps.first_mut() {
                next.seconds = next.seconds.saturating_add(oldest.seconds);
            }
        }
        self.noted = now;
    }
}

impl Ages {
    /// What was pushed or read at the time that this gives, or before, is `age` old.
    #[must_use]
    pub fn cutoff(&self, age: Seconds) -> i64 {
        let age = i64::try_from(age.get()).unwrap_or(i64::MAX);
        let mut cutoff = self.now.saturating_sub(age);
        for jump in self.clock.jumps.iter().rev() {
            if jump.to <= cutoff {
                break;
            }
            cutoff = cutoff.saturating_sub(jump.seconds);
        }
        cutoff
    }

    /// When uses of paths were noted first.
    #[must_use]
    pub const fn since(&self) -> i64 {
        self.clock.since
    }

    /// The time of the note.
    #[must_use]
    pub const fn now(&self) -> i64 {
        self.now
    }

    /// How long ago the clock jumped ahead last, and how far, where that was within `age`.
    #[must_use]
    pub fn jumped_within(&self, age: Seconds) -> Option<(i64, i64)> {
        let age = i64::try_from(age.get()).unwrap_or(i64::MAX);
        let last = self.clock.jumps.last().filter(|jump| self.now.saturating_sub(jump.to) < age)?;
        Some((self.now.saturating_sub(last.to), last.seconds))
    }

    /// Believes the clock as it is: what it jumped over counts.
    fn trust(&mut self) {
        self.clock.jumps.clear();
    }
}

/// Notes the time; `trust` forgets that the clock ever jumped.
///
/// # Errors
/// When the database fails.
pub async fn note(db: &Db, now: i64, trust: bool) -> Result<Ages, DbError> {
    let mut tx = db.upkeep_tx().await?;
    let mut ages = Ages { now, clock: load(tx.exec(), now).await? };
    ages.clock.note(now);
    if trust {
        ages.trust();
    }
    let text = serde_json::to_string(&ages.clock)
        .map_err(|error| DbError::corrupt(format!("the clock: {error}")))?;
    settings::set(tx.exec(), CLOCK, &text).await?;
    tx.commit().await?;
    Ok(ages)
}

async fn load(exec: Exec<'_>, now: i64) -> Result<Clock, DbError> {
    let Some(text) = settings::lookup(exec, CLOCK).await? else {
        return Ok(Clock { since: now, noted: now, jumps: Vec::new() });
    };
    serde_json::from_str(&text)
        .map_err(|error| DbError::corrupt(format!("the setting `{CLOCK}`: {error}")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const YEAR: i64 = 365 * DAY;

    pub(in super::super) fn started(at: i64) -> Ages {
        Ages { now: at, clock: Clock { since: at, noted: at, jumps: Vec::new() } }
    }

    fn run(ages: &mut Ages, from: i64, seconds: i64) {
        for minute in 0..=seconds / 60 {
            ages.now = from + minute * 60;
            ages.clock.note(ages.now);
        }
    }

    fn age(seconds: i64) -> Seconds {
        Seconds::new(seconds.unsigned_abs())
    }

    #[test]
    fn time_that_passes_counts() {
        let mut ages = started(1_000_000);
        run(&mut ages, 1_000_000, 3 * DAY);
        assert_eq!(ages.cutoff(age(DAY)), ages.now - DAY);
        assert_eq!(ages.jumped_within(age(DAY)), None);
    }

    #[test]
    fn a_year_that_is_jumped_over_makes_nothing_old_and_coming_back_leaves_no_trace() {
        let mut ages = started(1_000_000);
        run(&mut ages, 1_000_000, 10 * DAY);
        let before = ages.now;
        run(&mut ages, before + YEAR, 2 * DAY);
        // A day of its own time after the jump, 22 h of it before.
        assert_eq!(ages.cutoff(age(DAY)), ages.now - DAY);
        assert_eq!(
            ages.cutoff(age(3 * DAY)),
            ages.now - YEAR - 3 * DAY,
            "what was there a day before the jump"
        );
        assert!(
            ages.cutoff(age(2 * DAY + 3_600)) < before,
            "what came an hour before the jump stays"
        );
        assert_eq!(ages.jumped_within(age(3 * DAY)), Some((2 * DAY, YEAR)));
        run(&mut ages, before + 2 * DAY, DAY);
        assert!(ages.clock.jumps.iter().all(|jump| jump.to <= ages.now), "{ages:?}");
        assert!(ages.cutoff(age(DAY)) <= ages.now - DAY);
    }

    #[test]
    fn nights_without_a_server_do_not_count() {
        let mut ages = started(0);
        for day in 0..100 {
            run(&mut ages, day * DAY, DAY / 2);
        }
        assert_eq!(ages.clock.jumps.len(), MAX_JUMPS);
        // Ten days of its time are twenty of the calendar's.
        let cutoff = ages.cutoff(age(10 * DAY));
        assert!((ages.now - 20 * DAY..=ages.now - 19 * DAY).contains(&cutoff), "{cutoff}");
        let all: i64 = ages.clock.jumps.iter().map(|jump| jump.seconds).sum();
        assert!((49 * DAY..=50 * DAY).contains(&all), "nothing of the oldest is forgotten");
    }

    #[test]
    fn a_clock_that_is_trusted_counts_all() {
        let mut ages = started(0);
        run(&mut ages, YEAR, 60);
        ages.trust();
        assert_eq!(ages.cutoff(age(DAY)), ages.now - DAY);
    }
}
