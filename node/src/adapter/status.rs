//! How is a status read where the old system has the say?
//!
//! One question, one answer. It decides by its own means and tells nobody of changes: deciding and
//! watching are refused.

use super::codes::refuse;
use super::deadline;
use super::mapping::{Vars, Word};
use super::system::System;
use crate::population::hex;
use crate::scope::{self, Scope};
use futures_util::Stream;
use std::pin::Pin;
use std::sync::Arc;
use suiyue_proto::reason::Reason;
use suiyue_proto::v1;
use suiyue_proto::v1::status_service_server::StatusService;
use tonic::{Request, Response, Status};

/// Characters of a reason that is passed on.
const REASON_MAX: usize = 64;

/// The status service of a node in front of another system.
#[derive(Debug, Clone)]
pub struct Service {
    /// Who answers.
    pub scope: Arc<Scope>,
    /// The system behind.
    pub system: Arc<System>,
}

#[tonic::async_trait]
impl StatusService for Service {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let subject = hex(&scope::subject(&asked.subject)?);
        let deadline = deadline::of(&metadata)?;
        let (region, served) = self.scope.admit(&metadata, asked.region, asked.max_staleness_s)?;
        let mapping = &self.system.mapping;
        let division = mapping.division(region).unwrap_or("");
        let vars = Vars { region: region.get(), division, subject: &subject, ..Vars::default() };
        let ask = mapping.status.ask(&vars);
        let reply = self.system.ask(ask, deadline).await.map_err(|fault| fault.status())?;
        refuse(&reply)?;
        let document = &reply.document;
        let level = match mapping.level(document, &mapping.status.level) {
            Word::Known(level) => level.number().into(),
            Word::Missing => 0,
            Word::Unmapped(word) => {
                self.system.unmapped.note("status.level", &word);
                0
            }
        };
        let decided = mapping.status.decided.as_ref().and_then(|decided| decided.of(document));
        let reason = mapping.status.reason.as_ref().and_then(|pointer| super::read::word(document, pointer));
        let status = v1::Status {
            level,
            decided_unix_ms: decided.unwrap_or(0),
            reason: reason.map(|reason| as_word(&reason)).unwrap_or_default(),
            epoch: 0,
            seq: 0,
        };
        Ok(Response::new(v1::GetStatusResponse { served: Some(served), status: Some(status) }))
    }

    type WatchStatusStream = Pin<Box<dyn Stream<Item = Result<v1::WatchStatusResponse, Status>> + Send>>;

    async fn watch_status(
        &self,
        _: Request<v1::WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        Err(Reason::SystemLacks.status())
    }

    async fn commit_status(
        &self,
        _: Request<v1::CommitStatusRequest>,
    ) -> Result<Response<v1::CommitStatusResponse>, Status> {
        Err(Reason::SystemLacks.status())
    }
}

/// Its reason as a short machine-readable word: other characters become one '-'.
fn as_word(text: &str) -> String {
    let mut word = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        let c = if c.is_alphanumeric() { c } else { '-' };
        if c != '-' || !(word.is_empty() || word.ends_with('-')) {
            word.push(c);
        }
    }
    word.chars().take(REASON_MAX).collect::<String>().trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_becomes_a_word() {
        let check = |text: &str, expected: &str| assert_eq!(as_word(text), expected);
        check("Test Overdue!", "test-overdue");
        check("密接", "密接");
        check("  a -- b\u{1b}[0m", "a-b-0m");
        check(&"x".repeat(100), &"x".repeat(64));
    }
}
