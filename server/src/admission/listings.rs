//! Who may ask for listings, and how many are answered at the same time.
//!
//! A listing takes a connection of the database for a few milliseconds. Only a part of the
//! connections is for listings, so that narinfos, NARs and the health checks never wait for one;
//! half of that part is for callers without a token, so that whoever has one does not wait for
//! them. A caller without a token has a rate by its address, a token a number of requests at the
//! same time. Whoever finds no place waits for a moment, with no more than a bounded number of
//! others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::{ClientNetwork, Rates, Refusal};

/// How long a request waits for a place before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY_AFTER_SECONDS: u32 = 2;
/// Requests that wait or are answered at the same time.
const MAX_REQUESTS: usize = 256;

/// Who asks for a listing.
#[derive(Debug, Clone, Copy)]
pub enum Lister<'a> {
    /// Whoever has a valid token, by its id.
    Token(&'a str),
    /// Whoever has none, by where it is; `None` where that is not known.
    Anonymous(Option<ClientNetwork>),
}

/// The places of listings.
#[derive(Debug)]
pub struct Listings {
    requests: Arc<Semaphore>,
    places: Arc<Semaphore>,
    anonymous: Arc<Semaphore>,
    rates: Rates,
    per_token: usize,
    patience: Duration,
    tokens: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct ListingPlace {
    _held: [OwnedSemaphorePermit; 3],
}

impl Listings {
    /// `places` listings are answered at the same time; `anonymous_per_minute` of those without a
    /// token for each address, `per_token` at the same time of each token.
    #[must_use]
    pub fn new(places: usize, anonymous_per_minute: u32, per_token: usize) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            places: Arc::new(Semaphore::new(places.max(1))),
            anonymous: Arc::new(Semaphore::new((places / 2).max(1))),
            rates: Rates::new(anonymous_per_minute),
            per_token,
            patience: PATIENCE,
            tokens: Mutex::default(),
        }
    }

    /// A place for one listing.
    ///
    /// # Errors
    /// [`Refusal`] when the caller has asked for too many, or there was no place for some seconds.
    pub async fn admit(&self, lister: Lister<'_>) -> Result<ListingPlace, Refusal> {
        let share = match lister {
            Lister::Token(id) => self.of_token(id),
            Lister::Anonymous(network) => {
                if let Some(network) = network {
                    self.rates.take(network, Instant::now()).map_err(too_often)?;
                }
                Arc::clone(&self.anonymous)
            }
        };
        let request =
            Arc::clone(&self.requests).try_acquire_owned().map_err(|_| busy("requests"))?;
        // In one order, so that nobody who has a place waits for another one.
        let admitted = async {
            let share = share.acquire_owned().await?;
            Ok::<_, AcquireError>([request, share, Arc::clone(&self.places).acquire_owned().await?])
        };
        match tokio::time::timeout(self.patience, admitted).await {
            Ok(Ok(held)) => Ok(ListingPlace { _held: held }),
            // Nobody closes the semaphores.
            Ok(Err(_)) | Err(_) => Err(busy("places")),
        }
    }

    fn of_token(&self, id: &str) -> Arc<Semaphore> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, places| places.strong_count() > 0);
        tokens.get(id).and_then(Weak::upgrade).unwrap_or_else(|| {
            let places = Arc::new(Semaphore::new(self.per_token));
            tokens.insert(id.to_owned(), Arc::downgrade(&places));
            places
        })
    }
}

fn too_often(wait: Duration) -> Refusal {
    metrics::counter!("snowbank_refused_listings_total", "limit" => "anonymous-listings")
        .increment(1);
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    let reason = "answers no more listings to this address without a token for now (`[limits] \
        anonymous-listings`)";
    Refusal { reason, retry_after_seconds: seconds }
}

fn busy(limit: &'static str) -> Refusal {
    metrics::counter!("snowbank_refused_listings_total", "limit" => limit).increment(1);
    Refusal {
        reason: "is answering as many listings as it may",
        retry_after_seconds: RETRY_AFTER_SECONDS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANYONE: Lister<'static> = Lister::Anonymous(None);

    #[tokio::test]
    async fn callers_without_a_token_leave_places_to_those_with_one() {
        let listings =
            Listings { patience: Duration::from_millis(50), ..Listings::new(4, 1_000, 2) };
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(listings.admit(ANYONE).await.unwrap());
        }
        let refusal = listings.admit(ANYONE).await.unwrap_err();
        assert_eq!(refusal.retry_after_seconds, RETRY_AFTER_SECONDS);
        for _ in 0..2 {
            held.push(listings.admit(Lister::Token("one")).await.unwrap());
        }
        listings.admit(Lister::Token("one")).await.unwrap_err();
        listings.admit(Lister::Token("two")).await.unwrap_err();
        held.remove(0);
        held.push(listings.admit(Lister::Token("two")).await.unwrap());
    }

    #[tokio::test]
    async fn no_more_than_so_many_wait() {
        let patience = Duration::from_millis(500);
        let listings = Listings { patience, ..Listings::new(1, 1_000, 1) };
        let _held = listings.admit(ANYONE).await.unwrap();
        let waiting = (1..MAX_REQUESTS).map(|_| listings.admit(ANYONE));
        let mut waiting = std::pin::pin!(futures_util::future::join_all(waiting));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        let began = Instant::now();
        listings.admit(Lister::Token("one")).await.unwrap_err();
        assert!(began.elapsed() < patience, "it was told at once");
        assert!(waiting.await.iter().all(Result::is_err));
    }

    #[tokio::test]
    async fn an_address_has_its_rate() {
        let listings = Listings::new(4, 4, 2);
        let from = |text: &str| Lister::Anonymous(Some(ClientNetwork::of(text.parse().unwrap())));
        for _ in 0..2 {
            listings.admit(from("192.0.2.1")).await.unwrap();
        }
        let refusal = listings.admit(from("192.0.2.1")).await.unwrap_err();
        assert!(
            refusal.reason.contains("anonymous-listings") && refusal.retry_after_seconds > 10,
            "{refusal:?}"
        );
        listings.admit(from("192.0.2.2")).await.unwrap();
        listings.admit(Lister::Token("one")).await.unwrap();
    }
}
