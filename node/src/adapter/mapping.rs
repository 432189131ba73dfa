//! How does the old system say what we ask and answer?
//!
//! One reviewed TOML file: paths and fields of its requests and answers, its words for levels, reasons,
//! errors and divisions. `file` is the file as written, with unknown fields refused; [`Mapping`] is what
//! holds after checks. An error names the file, the line, the field, and what to do. What the file does
//! not say is not guessed at run time either: see [`Failure::Unmapped`] and the verdict NOT_MAPPED.

mod check;
mod file;
mod template;

#[cfg(test)]
mod tests;

pub use template::{Ask, Vars, Verb};

use super::read;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use suiyue_proto::region::Code;
use suiyue_proto::sy1::Level;
use suiyue_proto::v1::VerdictReason;
use template::Template;

/// Why a mapping cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{file}: {problem}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        problem: String,
    },
    /// Something stands in the file that cannot be.
    #[error("{file}, line {line}: {problem}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The field, what is wrong, and what to do.
        problem: String,
    },
}

/// A mapping that holds.
#[derive(Debug)]
pub struct Mapping {
    /// Its codes begin with one of these.
    pub code_prefixes: Vec<String>,
    result: Option<Expected>,
    errors: HashMap<String, Failure>,
    levels: HashMap<String, Level>,
    reasons: HashMap<String, VerdictReason>,
    divisions: BTreeMap<Code, String>,
    /// How a code is shown.
    pub show: Show,
    /// How a code is verified.
    pub verify: Verify,
    /// How a status is read.
    pub status: Status,
    health: Health,
}

/// A field and the words in it that mean that all is well.
#[derive(Debug)]
struct Expected {
    pointer: String,
    ok: Vec<String>,
}

/// How its interface is asked whether it is well.
#[derive(Debug)]
struct Health {
    ask: Ask,
    expected: Option<Expected>,
}

/// A field with an instant.
#[derive(Debug)]
pub struct Instant {
    pointer: String,
    /// Milliseconds in one of its units.
    unit_ms: i64,
}

/// How a code is shown.
#[derive(Debug)]
pub struct Show {
    template: Template,
    /// Where the QR text stands.
    pub code: String,
    /// Where the level stands.
    pub level: String,
    /// Where the time of issue stands; absent: it is now.
    pub issued: Option<Instant>,
    /// A code is valid for so many seconds.
    pub ttl_s: u32,
    /// Ask for a new one after so many.
    pub refresh_after_s: u32,
}

/// How a code is verified.
#[derive(Debug)]
pub struct Verify {
    template: Template,
    /// Where the level stands.
    pub level: String,
    /// Where the reason for not judging by the level stands.
    pub reason: Option<String>,
    /// Where the code's division stands.
    pub division: Option<String>,
    /// Where the time of issue stands.
    pub issued: Option<Instant>,
    /// Where the end of the code stands.
    pub expires: Option<Instant>,
}

/// How a status is read.
#[derive(Debug)]
pub struct Status {
    template: Template,
    /// Where the level stands.
    pub level: String,
    /// Where the time of the decision stands.
    pub decided: Option<Instant>,
    /// Where the reason stands; it is passed on as a word.
    pub reason: Option<String>,
}

/// What an answer means that is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It knows no such holder.
    HolderNotFound,
    /// The code is bad, for this reason.
    Code(VerdictReason),
    /// It has too much to do.
    Overloaded,
    /// It cannot answer.
    Unavailable,
    /// Nobody has said what this means.
    Unmapped,
}

/// A word of the old system in ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word<T> {
    /// It is mapped.
    Known(T),
    /// It is not.
    Unmapped(String),
    /// The answer does not have the field.
    Missing,
}

impl Mapping {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`Error`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|why| Error::Read { file: file.clone(), problem: why.to_string() })?;
        Self::parse(&file, &text)
    }

    /// Checks a text, under the name that errors use.
    ///
    /// # Errors
    /// [`Error`].
    pub fn parse(file: &str, text: &str) -> Result<Self, Error> {
        check::mapping(file, text)
    }

    /// Its word for a region.
    #[must_use]
    pub fn division(&self, region: Code) -> Option<&str> {
        self.divisions.get(&region).map(String::as_str)
    }

    /// The region that its word stands for.
    #[must_use]
    pub fn region(&self, answer: &Value, pointer: &str) -> Word<Code> {
        word(answer, pointer, |word| {
            self.divisions.iter().find(|(_, division)| *division == word).map(|(region, _)| *region)
        })
    }

    /// The level that its word stands for.
    #[must_use]
    pub fn level(&self, answer: &Value, pointer: &str) -> Word<Level> {
        word(answer, pointer, |word| self.levels.get(word).copied())
    }

    /// The reason that its word stands for.
    #[must_use]
    pub fn reason(&self, answer: &Value, pointer: &str) -> Word<VerdictReason> {
        word(answer, pointer, |word| self.reasons.get(word).copied())
    }

    /// It is a code of the old system.
    #[must_use]
    pub fn is_its_code(&self, text: &str) -> bool {
        self.code_prefixes.iter().any(|prefix| text.starts_with(prefix.as_str()))
    }

    /// What an HTTP answer means; the word that is not mapped, where that is the trouble.
    ///
    /// # Errors
    /// It is no result.
    pub fn judge(&self, http: u16, answer: &Value) -> Result<(), (Failure, Option<String>)> {
        let said = self.result.as_ref().and_then(|expected| read::word(answer, &expected.pointer));
        let fine = self
            .result
            .as_ref()
            .is_none_or(|expected| said.as_ref().is_some_and(|said| expected.ok.iter().any(|ok| ok == said)));
        if (200..300).contains(&http) && fine {
            return Ok(());
        }
        let status = format!("http {http}");
        let known = said.as_ref().and_then(|said| self.errors.get(said)).or_else(|| self.errors.get(&status));
        match (known, http) {
            (Some(failure), _) => Err((*failure, None)),
            (None, 429) => Err((Failure::Overloaded, None)),
            (None, 500..) => Err((Failure::Unavailable, None)),
            (None, 200..300) => Err((Failure::Unmapped, Some(said.unwrap_or_else(|| "nothing".to_owned())))),
            (None, _) => Err((Failure::Unmapped, Some(said.unwrap_or(status)))),
        }
    }

    /// The request that asks it whether it is well.
    #[must_use]
    pub fn ask_health(&self) -> &Ask {
        &self.health.ask
    }

    /// Its answer to that says that it is.
    #[must_use]
    pub fn is_well(&self, http: u16, answer: &Value) -> bool {
        let said_so = self.health.expected.as_ref().is_none_or(|expected| {
            read::word(answer, &expected.pointer).is_some_and(|said| expected.ok.contains(&said))
        });
        (200..300).contains(&http) && said_so
    }
}

impl Show {
    /// The request.
    #[must_use]
    pub fn ask(&self, vars: &Vars<'_>) -> Ask {
        self.template.fill(vars)
    }
}

impl Verify {
    /// The request.
    #[must_use]
    pub fn ask(&self, vars: &Vars<'_>) -> Ask {
        self.template.fill(vars)
    }
}

impl Status {
    /// The request.
    #[must_use]
    pub fn ask(&self, vars: &Vars<'_>) -> Ask {
        self.template.fill(vars)
    }
}

impl Instant {
    /// Milliseconds since 1970-01-01 UTC, where the answer has the field as a number.
    #[must_use]
    pub fn of(&self, answer: &Value) -> Option<i64> {
        read::number(answer, &self.pointer).and_then(|number| number.checked_mul(self.unit_ms))
    }
}

fn word<T>(answer: &Value, pointer: &str, find: impl FnOnce(&str) -> Option<T>) -> Word<T> {
    match read::word(answer, pointer) {
        None => Word::Missing,
        Some(said) => find(&said).map_or(Word::Unmapped(said), Word::Known),
    }
}
