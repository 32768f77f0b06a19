//! When tokens were used last: noted in memory, and written by whoever takes it, so that no request
//! writes (R2).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Tokens that are noted between two writes; of more, some uses are not noted.
const MAX_TOKENS: usize = 10_000;

/// Uses that were not written yet. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct TokenUses(Arc<Mutex<HashMap<String, i64>>>);

impl TokenUses {
    pub(super) fn note(&self, jti: &str, now: i64) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = uses.get_mut(jti) {
            *at = now;
        } else if uses.len() < MAX_TOKENS {
            uses.insert(jti.to_owned(), now);
        }
    }

    /// Everything that was noted, which is forgotten here.
    #[must_use]
    pub fn take(&self) -> Vec<(String, i64)> {
        let mut uses: Vec<_> =
            std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
                .into_iter()
                .collect();
        // Always in the same order, so that two servers that write do not wait for each other.
        uses.sort_unstable();
        uses
    }
}
