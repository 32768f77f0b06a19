//! How often each client may do something: so many times a minute, half of them at once.
//!
//! Of each client one instant is kept, the moment at which all that it has used up is there again
//! (the generic cell rate algorithm, <https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm>).
//! A client whose moment has passed need not be known. The table is bounded: clients that find no
//! place in it share one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::ClientNetwork;

/// Clients that are known at the same time, of some 50 bytes each.
const MAX_CLIENTS: usize = 16_384;
/// How often those that need not be known any more are looked for at most.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// What each client has used up.
#[derive(Debug)]
pub struct Rates {
    /// From one use to the next, in the long run.
    interval: Duration,
    /// How far ahead of that a client may be.
    tolerance: Duration,
    clients: Mutex<Clients>,
}

#[derive(Debug)]
struct Clients {
    restored_at: HashMap<ClientNetwork, Instant>,
    /// Of all that have no place.
    others: Instant,
    swept_at: Instant,
}

impl Rates {
    /// `per_minute` uses a minute for each client.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        let interval = MINUTE / per_minute.max(1);
        let now = Instant::now();
        Self {
            interval,
            tolerance: interval * (per_minute.max(1) / 2).max(1),
            clients: Mutex::new(Clients {
                restored_at: HashMap::new(),
                others: now,
                swept_at: now,
            }),
        }
    }

    /// Uses up one, at the time `now`.
    ///
    /// # Errors
    /// How long to wait for the next one, when nothing is left.
    pub fn take(&self, client: ClientNetwork, now: Instant) -> Result<(), Duration> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let restored_at = clients.of(client, now);
        let next = (*restored_at).max(now) + self.interval;
        match (next - now).checked_sub(self.tolerance) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *restored_at = next;
                Ok(())
            }
        }
    }
}

impl Clients {
    fn of(&mut self, client: ClientNetwork, now: Instant) -> &mut Instant {
        let is_full =
            self.restored_at.len() >= MAX_CLIENTS && !self.restored_at.contains_key(&client);
        if is_full && now.saturating_duration_since(self.swept_at) >= SWEEP_EVERY {
            self.swept_at = now;
            self.restored_at.retain(|_, at| *at > now);
        }
        if is_full && self.restored_at.len() >= MAX_CLIENTS {
            return &mut self.others;
        }
        self.restored_at.entry(client).or_insert(now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn client(number: u32) -> ClientNetwork {
        ClientNetwork::of(Ipv4Addr::from_bits(number).into())
    }

    #[test]
    fn half_a_minutes_worth_is_there_at_once_and_the_rest_comes_with_time() {
        let (rates, begin) = (Rates::new(60), Instant::now());
        let taken = |client, at| (0..100).take_while(|_| rates.take(client, at).is_ok()).count();
        assert_eq!(taken(client(1), begin), 30);
        let wait = rates.take(client(1), begin).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1));
        assert_eq!(taken(client(1), begin + Duration::from_secs(5)), 5);
        assert_eq!(taken(client(2), begin), 30, "others have their own");
        assert_eq!(
            taken(client(1), begin + Duration::from_hours(1)),
            30,
            "and no more after any time"
        );
    }

    #[test]
    fn one_a_minute_is_one_a_minute() {
        let (rates, begin) = (Rates::new(1), Instant::now());
        assert_eq!(rates.take(client(1), begin), Ok(()));
        assert_eq!(rates.take(client(1), begin), Err(MINUTE));
        assert_eq!(rates.take(client(1), begin + MINUTE), Ok(()));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_whoever_is_done() {
        let (rates, begin) = (Rates::new(60), Instant::now());
        let at_once = u32::try_from(MAX_CLIENTS).unwrap();
        for number in 0..at_once {
            rates.take(client(number), begin).unwrap();
        }
        let others = (at_once..at_once + 100)
            .filter(|number| rates.take(client(*number), begin).is_ok())
            .count();
        assert_eq!(others, 30, "all of them together");
        assert_eq!(rates.clients.lock().unwrap().restored_at.len(), MAX_CLIENTS);
        let later = begin + Duration::from_secs(2);
        rates.take(client(at_once), later).unwrap();
        assert_eq!(rates.clients.lock().unwrap().restored_at.len(), 1);
    }
}
