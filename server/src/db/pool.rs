//! How pools of connections are set up, on either database.

use std::time::Duration;

use sqlx::pool::PoolOptions;

/// How long a statement waits for another process's lock on SQLite, or for a connection to come
/// free.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A pool whose connections live as long as it does, since a new one would begin with a cold cache.
pub(super) fn pool_options<DB: sqlx::Database>(connections: u32) -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(PATIENCE)
        .max_lifetime(None)
        .idle_timeout(None)
}
