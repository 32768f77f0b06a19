//! Verifies tokens against keys and revocations that are at most a few seconds old.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::keys::Ring;
use super::revocations::Revocations;
use super::{AuthError, Token, TokenKey, TokenUses, Trust};
use crate::db::{self, Db};
use crate::secrets::{Sealer, SecretString};

/// How old keys and revocations may be; less than the 5 s within which a revocation holds everywhere.
const MAX_AGE: Duration = Duration::from_secs(3);
/// How old they have to be for an unknown key to be worth another look, so that wrong tokens cause few reads.
const MIN_AGE: Duration = Duration::from_millis(250);

/// Verifies tokens. Clones share what they know.
#[derive(Clone)]
pub struct Verifier {
    db: Db,
    sealer: Sealer,
    trust: Arc<Trust>,
    current: Arc<RwLock<Loaded>>,
    loading: Arc<tokio::sync::Mutex<()>>,
    uses: TokenUses,
}

#[derive(Clone)]
struct Loaded {
    ring: Arc<Ring>,
    at: Instant,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

impl Verifier {
    /// Loads the database's keys, all of which have to open; nobody else's are believed.
    ///
    /// # Errors
    /// When the database fails, or a key was sealed with another server key.
    pub async fn open(db: Db, sealer: Sealer) -> Result<Self, AuthError> {
        Self::open_with(db, sealer, Trust::default()).await
    }

    /// As [`Verifier::open`], with whom else the settings believe.
    ///
    /// # Errors
    /// As [`Verifier::open`].
    pub async fn open_with(db: Db, sealer: Sealer, trust: Trust) -> Result<Self, AuthError> {
        let loaded = load(&db, &sealer, &trust, Err).await?;
        Ok(Self {
            db,
            sealer,
            trust: Arc::new(trust),
            current: Arc::new(RwLock::new(loaded)),
            loading: Arc::default(),
            uses: TokenUses::default(),
        })
    }

    /// Verifies a token at the time `now`, in Unix seconds.
    ///
    /// # Errors
    /// See [`AuthError`]; [`AuthError::Database`] when the keys are too old and cannot be read anew.
    pub async fn verify(&self, token: &SecretString, now: i64) -> Result<Token, AuthError> {
        if let Some(issuer) = self.trust.issuers.named_by(token.expose()) {
            let token = issuer.verify(token.expose(), now).await?;
            self.at_most(MAX_AGE).await?.check_revoked(&token, now)?;
            return Ok(token);
        }
        let ring = self.at_most(MAX_AGE).await?;
        let verified = match ring.verify(token.expose(), now) {
            // The key may have been made by a command or another server a moment ago.
            Err(AuthError::UnknownKey) => self.at_most(MIN_AGE).await?.verify(token.expose(), now),
            result => result,
        };
        if let Ok(token) = &verified {
            self.uses.note(&token.jti, now);
        }
        verified
    }

    /// When tokens were used last, as far as the database does not know it yet.
    #[must_use]
    pub const fn uses(&self) -> &TokenUses {
        &self.uses
    }

    async fn at_most(&self, age: Duration) -> Result<Arc<Ring>, AuthError> {
        if let Some(ring) = self.current_within(age) {
            return Ok(ring);
        }
        // One loads, the others wait for it and then find it fresh.
        let _loading = self.loading.lock().await;
        if let Some(ring) = self.current_within(age) {
            return Ok(ring);
        }
        let loaded = load(&self.db, &self.sealer, &self.trust, |error| {
            tracing::error!(%error, "a token key cannot be opened; its tokens are refused");
            Ok(())
        })
        .await?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded.clone();
        Ok(loaded.ring)
    }

    fn current_within(&self, age: Duration) -> Option<Arc<Ring>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        (current.at.elapsed() < age).then(|| Arc::clone(&current.ring))
    }
}

/// Reads keys and revocations; `on_bad_key` decides whether a key that does not open is the end.
async fn load(
    db: &Db,
    sealer: &Sealer,
    trust: &Trust,
    on_bad_key: impl Fn(AuthError) -> Result<(), AuthError>,
) -> Result<Loaded, AuthError> {
    // Taken before the reads: what is committed during them counts as not seen.
    let at = Instant::now();
    let mut conn = db.reader().await?;
    let rows = db::keys::token_keys(conn.exec()).await?;
    let revoked = Revocations::new(db::revocations::list(conn.exec()).await?);
    drop(conn);
    let mut keys = Vec::with_capacity(rows.len());
    for row in &rows {
        match TokenKey::open(row, sealer) {
            Ok(key) => keys.push(key),
            Err(error) => on_bad_key(error)?,
        }
    }
    // Where an id stands for two keys, it is the database's, which can be retired without a restart.
    Ok(Loaded { ring: Arc::new(Ring::new(trust.file_keys.iter().chain(&keys), revoked)), at })
}
