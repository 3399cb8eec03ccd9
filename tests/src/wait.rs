//! Waiting, where the API itself is eventually consistent.

use std::future::Future;
use std::time::Duration;

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// Polls until `condition` yields something.
///
/// # Panics
/// When it has not within `deadline`.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    deadline: Duration,
    mut condition: impl FnMut() -> F,
) -> T {
    let mut ticks = tokio::time::interval(INTERVAL);
    let polling = async {
        loop {
            ticks.tick().await;
            if let Some(value) = condition().await {
                return value;
            }
        }
    };
    match tokio::time::timeout(deadline, polling).await {
        Ok(value) => value,
        Err(_) => panic!("the condition did not hold within {deadline:?}"),
    }
}
