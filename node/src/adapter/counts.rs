//! What did the old system say that nobody has mapped?
//!
//! A word that has no mapping is worth a line a minute, not one a call. Words come from outside, so few
//! are remembered and control characters are shown as what they are.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

const EVERY: Duration = Duration::from_secs(60);
const WORDS: usize = 64;
const LONGEST: usize = 40;

/// Words without a mapping.
#[derive(Debug, Default)]
pub(super) struct Unmapped {
    answers: AtomicU64,
    said: Mutex<HashMap<(&'static str, String), Instant>>,
}

impl Unmapped {
    /// Notes that a field had this word.
    pub(super) fn note(&self, field: &'static str, word: &str) {
        let answers = self.answers.fetch_add(1, Relaxed) + 1;
        let word: String = word.chars().take(LONGEST).flat_map(char::escape_debug).collect();
        let now = Instant::now();
        {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            said.retain(|_, at| now.saturating_duration_since(*at) < EVERY);
            let key = (field, word.clone());
            if said.len() >= WORDS || said.contains_key(&key) {
                return;
            }
            said.insert(key, now);
        }
        tracing::warn!(field, word, answers, "the system behind said something that has no mapping");
    }

    /// Answers with such a word since the start.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_counts_and_few_words_are_remembered() {
        let unmapped = Unmapped::default();
        for n in 0..200 {
            unmapped.note("level", &format!("word\n{n}"));
        }
        assert_eq!(unmapped.answers(), 200);
        assert_eq!(unmapped.said.lock().unwrap().len(), WORDS);
        assert!(unmapped.said.lock().unwrap().keys().all(|(_, word)| !word.contains('\n')));
    }
}
