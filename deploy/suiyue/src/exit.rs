//! What does the exit code say?
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done; for `code verify`: PASS or CAUTION |
//! | 1 | failed: the line on stderr says what, where, and what to do |
//! | 2 | the command line or a file it names is wrong |
//! | 3 | a guard refused it: the line on stderr names what did, and why; nothing was changed |
//! | 4 | `code verify`: DENY or UNKNOWN, do not let the holder through on this code |
//! | 130 | stopped by Ctrl-C |

use std::process::ExitCode;

/// How the program ends when nothing broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Done, and what was asked turned out bad: failed calls in a load run or a demo.
    Bad,
    /// `code verify`: the verdict is DENY or UNKNOWN.
    Refused,
    /// Stopped by Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The code of the process.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Bad => 1,
            Self::Refused => 4,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A wrong command line or configuration: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// A guard refused a change: exit code 3. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Guarded(pub String);

/// The code for an error: 2 where somebody must correct what they wrote, 3 where a guard refused it,
/// otherwise 1.
#[must_use]
pub fn of_error(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<Usage>()) {
        2
    } else if error.chain().any(|cause| cause.is::<Guarded>()) {
        3
    } else {
        1
    }
}
