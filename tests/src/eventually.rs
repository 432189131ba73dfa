//! How does a test wait?
//!
//! For a condition, never for a time. The deadline only bounds how long a broken build takes to say
//! so; no assertion depends on it.

use anyhow::{Context as _, anyhow};
use std::time::{Duration, Instant};

/// How long a condition may take before the test gives up. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// Looks at `check` until it succeeds.
///
/// # Errors
/// What `check` said last, after [`PATIENCE`].
pub async fn eventually<T>(
    what: &str,
    mut check: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut last = anyhow!("it was not looked at");
    while start.elapsed() < PATIENCE {
        ticks.tick().await;
        let left = PATIENCE.saturating_sub(start.elapsed());
        match tokio::time::timeout(left.max(INTERVAL), check()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            Err(_) => last = last.context("the last look did not end"),
        }
    }
    // Said at once too: a complaint about a log, made later, would hide the error that came first.
    eprintln!("{what}: not within {PATIENCE:?}; last seen: {last:#}");
    Err(last).with_context(|| format!("{what}: not within {PATIENCE:?}; last seen"))
}

/// Awaits `future`, which must end by itself.
///
/// # Errors
/// When it has not ended after [`PATIENCE`].
pub async fn ends<T>(what: &str, future: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, future)
        .await
        .map_err(|_| anyhow!("{what}: has not ended within {PATIENCE:?}"))
}
