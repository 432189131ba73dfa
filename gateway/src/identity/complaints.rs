//! Was this cause of a refusal named a moment ago?
//!
//! Whoever is refused tries again, and many may be refused for one cause: the log names each cause once a
//! minute. Nothing of it goes into the registry.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A cause is named this often.
const EVERY: Duration = Duration::from_secs(60);
/// Causes that are told apart; beyond them nothing is named until a minute is over.
const CAUSES: usize = 64;

/// The causes of the last minute.
#[derive(Debug, Default)]
pub struct Complaints(Mutex<HashMap<String, Instant>>);

impl Complaints {
    /// The cause has not been named within the last minute, and counts as named now.
    pub fn is_due(&self, cause: &str, now: Instant) -> bool {
        let mut named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        named.retain(|_, at| now.saturating_duration_since(*at) < EVERY);
        if named.contains_key(cause) || named.len() >= CAUSES {
            return false;
        }
        named.insert(cause.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_named_once_a_minute_and_a_flood_of_them_not_at_all() {
        let (complaints, start) = (Complaints::default(), Instant::now());
        let due = |cause: &str, after: u64| complaints.is_due(cause, start + Duration::from_secs(after));
        assert!(due("expired", 0) && due("revoked", 0));
        assert!(!due("expired", 59) && due("expired", 60));
        let flood = (0..1000).filter(|n| due(&n.to_string(), 61)).count();
        assert_eq!(flood, CAUSES - 1, "one was named a second before");
    }
}
