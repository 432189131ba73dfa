//! What did a node do at each point?
//!
//! A point that failed carries the request that shows it, to be sent again by hand. Subjects stand in
//! requests because they are those of test holders.

use serde::Serialize;

/// How a point came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As promised.
    Passed,
    /// Not as promised.
    Failed,
    /// It could not be tried.
    Skipped,
}

/// One promise, and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// Names the promise; a region or a level it is about stands at the end.
    pub name: String,
    /// How it came out.
    pub outcome: Outcome,
    /// What was asked.
    pub asked: String,
    /// What the contract promises.
    pub expected: String,
    /// What came.
    pub came: String,
    /// The request, for `grpcurl` where it can send it.
    pub request: String,
}

/// All points, in the order they were tried.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The node's port.
    pub address: String,
    /// The points.
    pub points: Vec<Point>,
}

/// What was asked and expected, before the answer.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) name: String,
    pub(super) asked: String,
    pub(super) expected: String,
    pub(super) request: String,
}

impl Report {
    pub(super) fn new(address: &str) -> Self {
        Self { address: address.to_owned(), points: Vec::new() }
    }

    /// Notes a point: `Ok` and `Err` both say what came.
    pub(super) fn note(&mut self, question: Question, came: Result<String, String>) {
        let outcome = if came.is_ok() { Outcome::Passed } else { Outcome::Failed };
        let Question { name, asked, expected, request } = question;
        let came = came.unwrap_or_else(|came| came);
        self.points.push(Point { name, outcome, asked, expected, came, request });
    }

    /// Notes a point that could not be tried, and why.
    pub(super) fn skipped(&mut self, name: &str, why: &str) {
        self.points.push(Point {
            name: name.to_owned(),
            outcome: Outcome::Skipped,
            asked: String::new(),
            expected: String::new(),
            came: why.to_owned(),
            request: String::new(),
        });
    }

    /// Points that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|point| point.outcome == Outcome::Failed)
    }

    /// Points with this outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.points.iter().filter(|point| point.outcome == outcome).count()
    }
}
