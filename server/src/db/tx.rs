//! Connections that read and transactions that write.

use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres, Sqlite, Transaction};
use tokio::sync::Notify;

use super::counters::{self, Counter};
use super::{DbError, Exec};

/// A connection for reading; each statement sees what was committed when it began.
#[derive(Debug)]
pub struct Conn(pub(super) ConnInner);

#[derive(Debug)]
pub(super) enum ConnInner {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

impl Conn {
    /// The connection, for one query function.
    pub fn exec(&mut self) -> Exec<'_> {
        match &mut self.0 {
            ConnInner::Sqlite(conn) => Exec::Sqlite(conn),
            ConnInner::Postgres(conn) => Exec::Postgres(conn),
        }
    }
}

/// A transaction. Dropped without [`Tx::commit`], also by a cancelled future, it leaves nothing
/// behind.
#[derive(Debug)]
pub struct Tx(pub(super) TxInner);

#[derive(Debug)]
pub(super) enum TxInner {
    Sqlite {
        tx: Transaction<'static, Sqlite>,
        /// Told of every commit.
        folding: Arc<Notify>,
    },
    Postgres {
        tx: Transaction<'static, Postgres>,
        /// Connections on which ids are taken.
        counters: PgPool,
    },
}

impl Tx {
    /// The transaction's connection, for one query function.
    pub fn exec(&mut self) -> Exec<'_> {
        match &mut self.0 {
            TxInner::Sqlite { tx, .. } => Exec::Sqlite(tx),
            TxInner::Postgres { tx, .. } => Exec::Postgres(tx),
        }
    }

    /// Takes `count` neighbouring ids and gives the first; of none, any number. On PostgreSQL
    /// nobody waits for this transaction because of it, and ids that it does not use are lost.
    pub async fn reserve(&mut self, counter: Counter, count: u32) -> Result<i64, DbError> {
        match &mut self.0 {
            _ if count == 0 => Ok(0),
            TxInner::Sqlite { tx, .. } => counters::reserve(Exec::Sqlite(tx), counter, count).await,
            TxInner::Postgres { counters, .. } => {
                counters::reserve_apart(counters, counter, count).await
            }
        }
    }

    /// Allows the transaction to stand still for a minute, for one that waits for the storage.
    pub async fn allow_idle(&mut self) -> Result<(), DbError> {
        if let TxInner::Postgres { tx, .. } = &mut self.0 {
            sqlx::query("SET LOCAL idle_in_transaction_session_timeout = '60s'")
                .execute(&mut **tx)
                .await?;
        }
        Ok(())
    }

    /// Makes everything in it visible and durable.
    ///
    /// # Errors
    /// When the database could not make it so; after [`DbError::Unavailable`] it may have happened
    /// nevertheless.
    pub async fn commit(self) -> Result<(), DbError> {
        match self.0 {
            TxInner::Sqlite { tx, folding } => {
                tx.commit().await?;
                folding.notify_one();
            }
            TxInner::Postgres { mut tx, .. } => {
                // After a failed statement PostgreSQL answers COMMIT with a rollback and no error.
                // A statement before it does fail then, so that a lost transaction is never taken
                // for a committed one.
                sqlx::query("SELECT 1").execute(&mut *tx).await?;
                tx.commit().await?;
            }
        }
        Ok(())
    }
}
