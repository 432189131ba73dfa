//! What did a test node really execute?
//!
//! The node appends one line to its journal for each execution, each cancellation and each end, with
//! one write to a file opened for appending: what was written survives a SIGKILL of the node. A test
//! reads the journals of all nodes and counts.

use std::{
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The word before the call id when a handler begins.
const BEGUN: &str = "begun";
/// The word before the call id when a handler has ended by itself.
const ENDED: &str = "ended";
/// The word before the call id when a handler was dropped before its end.
const CANCELLED: &str = "cancelled";
/// The word before the call id when a call was refused without being executed.
const REFUSED: &str = "refused";
/// The word before the call id for each [`SENT_STEP`] messages of a stream of answers.
const SENT: &str = "sent";
/// Messages between two notes of progress.
pub const SENT_STEP: u64 = 100;

/// The writing side.
#[derive(Debug, Clone)]
pub struct Journal {
    file: Arc<File>,
}

impl Journal {
    /// Opens a journal for appending.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self { file: Arc::new(OpenOptions::new().create(true).append(true).open(path)?) })
    }

    /// Notes that a call is executed now; what becomes of it is noted by the result.
    #[must_use]
    pub fn begin(&self, call: &str) -> Execution {
        self.note(BEGUN, call);
        Execution { journal: self.clone(), call: call.to_owned(), ended: false }
    }

    /// Notes that a call was refused, and not executed.
    pub fn refused(&self, call: &str) {
        self.note(REFUSED, call);
    }

    fn note(&self, word: &str, call: &str) {
        // A node that cannot keep its journal must not look like one that executed nothing.
        let line = format!("{word} {call}\n");
        (&*self.file).write_all(line.as_bytes()).expect("the journal of a test node can be written");
    }
}

/// One execution: dropped before [`Execution::end`] it is a cancellation.
#[derive(Debug)]
pub struct Execution {
    journal: Journal,
    call: String,
    ended: bool,
}

impl Execution {
    /// Names the execution after the first message of a stream came.
    pub fn rename(&mut self, call: &str) {
        call.clone_into(&mut self.call);
    }

    /// Notes that so many answers were sent.
    pub fn sent(&self, number: u64) {
        if number.is_multiple_of(SENT_STEP) {
            self.journal.note(SENT, &self.call);
        }
    }

    /// It came to its end.
    pub fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.journal.note(if self.ended { ENDED } else { CANCELLED }, &self.call);
    }
}

/// The reading side: everything a journal says.
#[derive(Debug, Clone, Default)]
pub struct Executions {
    lines: Vec<(String, String)>,
}

impl Executions {
    /// Reads a journal; a node that has not written yet has executed nothing.
    #[must_use]
    pub fn read(path: &PathBuf) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        Self { lines: lines.map(|(word, call)| (word.to_owned(), call.to_owned())).collect() }
    }

    /// How often each call was begun.
    pub fn count_into(&self, counts: &mut HashMap<String, u32>) {
        for (_, call) in self.lines.iter().filter(|(word, _)| word == BEGUN) {
            *counts.entry(call.clone()).or_default() += 1;
        }
    }

    /// How often a call was begun.
    #[must_use]
    pub fn count(&self, call: &str) -> usize {
        self.lines.iter().filter(|(word, id)| word == BEGUN && id == call).count()
    }

    /// Calls that came in so far: begun or refused.
    #[must_use]
    pub fn arrived(&self) -> usize {
        self.of(BEGUN) + self.of(REFUSED)
    }

    /// Ids of the calls refused so far.
    #[must_use]
    pub fn refused(&self) -> HashSet<String> {
        self.lines.iter().filter(|(word, _)| word == REFUSED).map(|(_, call)| call.clone()).collect()
    }

    /// Calls begun so far.
    #[must_use]
    pub fn begun(&self) -> usize {
        self.of(BEGUN)
    }

    /// Calls begun that have neither ended nor been cancelled. After a SIGKILL of the node: the calls
    /// that it took with it.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.of(BEGUN).saturating_sub(self.of(ENDED) + self.of(CANCELLED))
    }

    /// Calls whose ids begin with `prefix` and that were begun and have neither ended nor been cancelled.
    #[must_use]
    pub fn unfinished_of(&self, prefix: &str) -> usize {
        let of = |word: &str| self.lines.iter().filter(|(w, id)| w == word && id.starts_with(prefix)).count();
        of(BEGUN).saturating_sub(of(ENDED) + of(CANCELLED))
    }

    /// The call was dropped before its end.
    #[must_use]
    pub fn cancelled(&self, call: &str) -> bool {
        self.lines.iter().any(|(word, id)| word == CANCELLED && id == call)
    }

    /// At least so many messages of the call's answer were handed to the transport.
    #[must_use]
    pub fn sent(&self, call: &str) -> u64 {
        let notes = self.lines.iter().filter(|(word, id)| word == SENT && id == call).count();
        notes as u64 * SENT_STEP
    }

    fn of(&self, word: &str) -> usize {
        self.lines.iter().filter(|(w, _)| w == word).count()
    }
}
