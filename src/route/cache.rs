//! Answers remembered by name until they expire, asked for once however many
//! wait for them, and bounded in number.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::Instant;

/// Remembered answers.
#[derive(Debug)]
pub(super) struct Cache<V: Clone + Debug> {
    answers: quick_cache::sync::Cache<String, Answer<V>>,
}

#[derive(Debug, Clone)]
struct Answer<V> {
    value: V,
    until: Instant,
}

impl<V: Clone + Debug> Cache<V> {
    /// Remembers about `capacity` answers; the least used go first.
    pub(super) fn new(capacity: usize) -> Self {
        Self { answers: quick_cache::sync::Cache::new(capacity) }
    }

    /// The remembered answer, or what `ask` finds out with how long to believe
    /// it. Others who want the same name wait for that; if the asker is
    /// dropped, one of them asks.
    pub(super) async fn get(&self, name: &str, ask: impl AsyncFnOnce() -> (V, Duration)) -> V {
        loop {
            match self.answers.get_value_or_guard_async(name).await {
                Ok(answer) if Instant::now() < answer.until => return answer.value,
                Ok(_) => {
                    self.answers.remove_if(name, |answer| answer.until <= Instant::now());
                }
                Err(guard) => {
                    let (value, lifetime) = ask().await;
                    let until = Instant::now() + lifetime;
                    // Refused only if the entry was removed meanwhile; the answer stands anyway.
                    let _ = guard.insert(Answer { value: value.clone(), until });
                    return value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_believed_until_it_expires() {
        let cache = Cache::new(10);
        assert_eq!(cache.get("a", async || (1, MINUTE)).await, 1);
        tokio::time::advance(Duration::from_millis(59_999)).await;
        assert_eq!(cache.get("a", async || (2, MINUTE)).await, 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(cache.get("a", async || (3, MINUTE)).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_wait_for_one_question() {
        let (cache, asked, go) = (Cache::new(10), AtomicU32::new(0), Notify::new());
        let all = join_all((0..1000).map(|_| {
            cache.get("a", async || {
                asked.fetch_add(1, Ordering::Relaxed);
                go.notified().await;
                (7, MINUTE)
            })
        }));
        let (values, ()) = tokio::join!(all, async { go.notify_one() });
        assert!(values.into_iter().all(|value| value == 7));
        assert_eq!(asked.into_inner(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_asker_that_goes_away_is_replaced() {
        let cache = Cache::new(10);
        let never = cache.get("a", async || std::future::pending().await);
        assert!(tokio::time::timeout(MINUTE, never).await.is_err());
        assert_eq!(cache.get("a", async || (2, MINUTE)).await, 2);
    }

    #[tokio::test]
    async fn the_number_of_answers_is_bounded() {
        let cache = Cache::new(100);
        for n in 0..10_000 {
            cache.get(&n.to_string(), async || (n, MINUTE)).await;
        }
        assert!(cache.answers.len() <= 100);
    }
}
