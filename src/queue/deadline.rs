//! An end to waiting for the database.
//!
//! The server ends a statement that takes too long, but a server that is gone ends
//! nothing: no answer comes, the connection is not closed, and the kernel needs a quarter
//! of an hour to notice. So whoever must go on waits no longer than this. What became of
//! the statement is then unknown, as with a lost connection: only statements that may be
//! repeated are given a deadline. The connection is not used again unless it answers soon
//! (the pool sees to that when it is given back).

use std::io;
use std::time::Duration;

/// Waits for `answer`, at most for `limit`. Too late is an [`sqlx::Error::Io`] of kind
/// [`io::ErrorKind::TimedOut`].
pub async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_elapsed| {
        let text = format!("expected the database to answer within {limit:?}, found silence");
        Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_becomes_an_error_and_an_answer_stays_one() {
        let limit = Duration::from_secs(5);
        let answered = within(limit, async { Ok(7) }).await;
        assert_eq!(answered.expect("an answer"), 7);
        let silent = within(limit, std::future::pending::<Result<(), _>>()).await;
        let Err(sqlx::Error::Io(error)) = silent else { panic!("{silent:?}") };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
