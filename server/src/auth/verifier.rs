//! Verifies tokens against keys and revocations that are at most a few seconds old.
//!
//! Invariant: a token is refused for a key that is not there only after a load that began when the
//! token had come already. So a token works from the moment on in which it was made, on every
//! server. Loads for unknown keys are shared by all that wait, and begin [`LOAD_PAUSE`] apart, so
//! that invented key ids cause few reads.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::claims::Signer;
use super::keys::Ring;
use super::revocations::Revocations;
use super::{AuthError, Token, TokenKey, TokenUses, Trust};
use crate::db::{self, Db, DbError};
use crate::secrets::{Sealer, SecretString};

/// How old keys and revocations may be; less than the 5 s within which a revocation holds
/// everywhere.
const MAX_AGE: Duration = Duration::from_secs(3);
/// The least time from the beginning of one load to that of the next.
const LOAD_PAUSE: Duration = Duration::from_millis(50);

/// Verifies tokens. Clones share what they know.
#[derive(Clone)]
pub struct Verifier {
    db: Db,
    sealer: Sealer,
    trust: Arc<Trust>,
    current: Arc<RwLock<LoadedKeys>>,
    loading: Arc<tokio::sync::Mutex<LastLoad>>,
    uses: TokenUses,
}

#[derive(Clone)]
struct LoadedKeys {
    ring: Arc<Ring>,
    at: Instant,
}

/// The load that began last, whatever came of it.
#[derive(Default)]
struct LastLoad {
    began: Option<Instant>,
    error: Option<Arc<DbError>>,
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
    /// See [`AuthError`]; [`AuthError::Database`] when the keys are too old and cannot be read
    /// anew.
    pub async fn verify(&self, token: &SecretString, now: i64) -> Result<Token, AuthError> {
        let asked = Instant::now();
        if let Some(issuer) = self.trust.issuers.named_by(token.expose()) {
            let token = issuer.verify(token.expose(), now).await?;
            self.within(MAX_AGE).await?.check_revoked(&token, now)?;
            return Ok(token);
        }
        let verified = match self.within(MAX_AGE).await?.verify(token.expose(), now) {
            // The key may have been made by a command or another server a moment ago.
            Err(AuthError::UnknownKey) => {
                self.begun_since(asked).await?.verify(token.expose(), now)
            }
            result => result,
        };
        self.note(verified, now)
    }

    /// As [`Verifier::verify`], with the keys that are known here: neither an issuer nor, for a key
    /// that is unknown, the database is waited for. For a caller who can do without the token.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub async fn verify_at_hand(&self, token: &SecretString, now: i64) -> Result<Token, AuthError> {
        if let Some(issuer) = self.trust.issuers.named_by(token.expose()) {
            let token = issuer.verify_at_hand(token.expose(), now)?;
            self.within(MAX_AGE).await?.check_revoked(&token, now)?;
            return Ok(token);
        }
        self.note(self.within(MAX_AGE).await?.verify(token.expose(), now), now)
    }

    /// Checks a session against its issuer's rules, and notes that a token was used: that of a
    /// session is the one that it began with.
    fn note(&self, verified: Result<Token, AuthError>, now: i64) -> Result<Token, AuthError> {
        let mut token = verified?;
        let Some(session) = token.session() else {
            self.uses.note(&token.jti, now);
            return Ok(token);
        };
        match &session.first.signer {
            Signer::Key { .. } => self.uses.note(&session.first.jti, now),
            Signer::Issuer { url, claims } => {
                let issuer = self.trust.issuers.at(url).ok_or(AuthError::UnknownKey)?;
                let grants = session.grants_within(&issuer.grants(claims)?);
                token.grants = grants;
            }
        }
        Ok(token)
    }

    /// When tokens were used last, as far as the database does not know it yet.
    #[must_use]
    pub const fn uses(&self) -> &TokenUses {
        &self.uses
    }

    /// Keys and revocations that are at most so old.
    async fn within(&self, age: Duration) -> Result<Arc<Ring>, AuthError> {
        let now = Instant::now();
        // A machine that has been up for less has nothing older.
        self.load_unless_begun_since(now.checked_sub(age).unwrap_or(now), now).await
    }

    /// Keys and revocations as a load found them that began at this time or later.
    async fn begun_since(&self, asked: Instant) -> Result<Arc<Ring>, AuthError> {
        self.load_unless_begun_since(asked, asked).await
    }

    /// What a load found that began at `since` or later. One loads, the others wait for it and
    /// share what comes of it: also its failure, if it began at `asked` or later.
    async fn load_unless_begun_since(
        &self,
        since: Instant,
        asked: Instant,
    ) -> Result<Arc<Ring>, AuthError> {
        if let Some(ring) = self.current_since(since) {
            return Ok(ring);
        }
        let mut last = self.loading.lock().await;
        if let Some(ring) = self.current_since(since) {
            return Ok(ring);
        }
        if let Some(error) =
            last.error.as_ref().filter(|_| last.began.is_some_and(|began| began >= asked))
        {
            return Err(AuthError::Shared(Arc::clone(error)));
        }
        if let Some(began) = last.began {
            tokio::time::sleep_until((began + LOAD_PAUSE).into()).await;
        }
        *last = LastLoad { began: Some(Instant::now()), error: None };
        let loaded = load(&self.db, &self.sealer, &self.trust, |error| {
            tracing::error!(%error, "a token key cannot be opened; its tokens are refused");
            Ok(())
        });
        match loaded.await {
            Ok(loaded) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded.clone();
                Ok(loaded.ring)
            }
            Err(AuthError::Database(error)) => {
                let error = Arc::new(error);
                last.error = Some(Arc::clone(&error));
                Err(AuthError::Shared(error))
            }
            Err(error) => Err(error),
        }
    }

    fn current_since(&self, since: Instant) -> Option<Arc<Ring>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        (current.at >= since).then(|| Arc::clone(&current.ring))
    }
}

/// Reads keys and revocations; `on_bad_key` decides whether a key that does not open is the end.
async fn load(
    db: &Db,
    sealer: &Sealer,
    trust: &Trust,
    on_bad_key: impl Fn(AuthError) -> Result<(), AuthError>,
) -> Result<LoadedKeys, AuthError> {
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
    // Where an id stands for two keys, it is the database's, which can be retired without a
    // restart.
    let ring = Ring::new(trust.file_keys.iter().chain(&keys), revoked)
        .with_sessions(trust.max_session_seconds)
        .with_legacy(trust.legacy.clone());
    Ok(LoadedKeys { ring: Arc::new(ring), at })
}
