//! What time is it for others?
//!
//! The wall clock: for what is written down, signed, or compared with other machines. Time that passes here
//! is measured by `Instant`.

use std::time::SystemTime;

/// Milliseconds since 1970-01-01 UTC; 0 for a clock that stands before.
#[must_use]
pub fn unix_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
