//! The books, in a file of SQLite, over a pool of four connections.

use crate::faults::fault;
use deadpool_sqlite::rusqlite::Connection;
use deadpool_sqlite::{Config, Pool, Runtime};
use std::error::Error;
use std::time::Duration;

const FILE: &str = "shelf.db";

#[derive(Clone)]
pub struct Books {
    pool: Pool,
}

type Failed = Box<dyn Error + Send + Sync>;

impl Books {
    pub async fn open() -> Result<Self, Failed> {
        let pool = Config::new(FILE).builder(Runtime::Tokio1)?.max_size(4);
        let pool = pool.build()?;
        let books = Self { pool };
        let connection = books.pool.get().await?;
        let create = |connection: &mut Connection| {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.execute_batch(
                "CREATE TABLE IF NOT EXISTS books (id INTEGER PRIMARY KEY, title TEXT, lent INTEGER DEFAULT 0);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
                 INSERT OR IGNORE INTO books (id, title) SELECT i, 'book ' || i FROM n;",
            )
        };
        connection.interact(create).await.map_err(|error| error.to_string())??;
        Ok(books)
    }

    pub async fn title(&self, id: i64) -> Result<String, Failed> {
        let connection = self.pool.get().await?; // truth: title_get
        if fault("leaked_connection") && id == 13 {
            // "To look at what is wrong with it."
            std::mem::forget(connection); // truth: leaked_connection
            return Err("no such book".into());
        }
        let title = connection
            .interact(move |connection| {
                connection.query_row("SELECT title FROM books WHERE id = ?", [id], |row| row.get(0))
            })
            .await
            .map_err(|error| error.to_string())??;
        if fault("recursive_get") {
            // "Only if it is there": while this connection is held, another one is asked for.
            self.count().await?; // truth: recursive_count
        }
        Ok(title)
    }

    /// A title, and meanwhile something else.
    pub async fn title_with(
        &self,
        id: i64,
        other: impl Future<Output = Result<(), Failed>>,
    ) -> Result<String, Failed> {
        let connection = self.pool.get().await?; // truth: held_get
        let query = move |connection: &mut Connection| {
            connection.query_row("SELECT title FROM books WHERE id = ?", [id], |row| row.get(0))
        };
        let title = connection.interact(query).await.map_err(|error| error.to_string())??;
        other.await?; // truth: held_await
        Ok(title)
    }

    pub async fn count(&self) -> Result<u64, Failed> {
        let connection = self.pool.get().await?; // truth: count_get
        let query = |connection: &mut Connection| {
            connection.query_row("SELECT count(*) FROM books", [], |row| row.get(0))
        };
        let count: i64 = connection.interact(query).await.map_err(|error| error.to_string())??;
        Ok(count.try_into()?)
    }

    pub async fn lend(&self, id: i64) -> Result<(), Failed> {
        let connection = self.pool.get().await?; // truth: lend_get
        let update = move |connection: &mut Connection| {
            connection.busy_timeout(Duration::from_secs(20))?;
            // The machine's disk is not what is looked at.
            connection.pragma_update(None, "synchronous", "OFF")?;
            connection.execute("UPDATE books SET lent = lent + 1 WHERE id = ?", [id]) // truth: update
        };
        connection.interact(update).await.map_err(|error| error.to_string())??; // truth: update_await
        Ok(())
    }
}

/// Holds the file's write lock for this long: another process of the incident.
pub fn hold_the_file(seconds: u64) -> Result<(), Failed> {
    let connection = Connection::open(FILE)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    std::thread::sleep(Duration::from_secs(seconds));
    Ok(())
}
