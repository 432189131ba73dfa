//! What is noted of a call that is traced or logged?
//!
//! One [`Record`] a call, filled where things happen and sent off whole at the end. There is no room in it
//! for a subject: it holds no metadata and no message.

use super::context::Context;
use crate::{
    health::Vitals,
    retry::Failure,
    telemetry::{AnswerReason, End},
};
use std::{sync::Arc, time::Instant};
use suiyue_proto::method::{Class, Method};

/// Attempts that are noted of one call; it makes fewer.
const ATTEMPTS: usize = 16;

/// Everything that leaves the worker about one call.
#[derive(Debug)]
pub struct Record {
    /// The gateway's own place in the trace.
    pub context: Context,
    /// The caller's span; 0 where the trace begins here.
    pub parent: u64,
    /// It becomes spans.
    pub traced: bool,
    /// It becomes a line of the access log.
    pub logged: bool,
    /// The method; `None` where nobody lists it.
    pub method: Option<Arc<Method>>,
    /// The node that answered.
    pub node: Option<Arc<str>>,
    /// Generation of the plan; 0 where none was read.
    pub plan: u64,
    /// When the call's headers arrived.
    pub start: Instant,
    /// When it ended.
    pub finish: Instant,
    /// How it ended.
    pub end: End,
    /// Attempts at nodes, in order.
    pub attempts: Vec<Attempt>,
}

/// One attempt at one endpoint.
#[derive(Debug)]
pub struct Attempt {
    /// The endpoint.
    pub at: Arc<Vitals>,
    /// When it began.
    pub start: Instant,
    /// When it ended.
    pub finish: Option<Instant>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Not yet; at the end of the call: it was given up with it.
    Open,
    /// The node's answer was passed on, with this gRPC status.
    Answered(u8),
    /// Another attempt could follow.
    Failed(Failure),
}

impl Record {
    /// A call that begins.
    #[must_use]
    pub fn new(context: Context, start: Instant) -> Self {
        let end = End {
            region: 0,
            class: Class::Sync,
            tier: 0,
            reason: AnswerReason::Refused,
            code: tonic::Code::Unknown as u8,
            retried: false,
            streamed: false,
        };
        Self {
            context,
            parent: 0,
            traced: false,
            logged: false,
            method: None,
            node: None,
            plan: 0,
            start,
            finish: start,
            end,
            attempts: Vec::new(),
        }
    }

    /// The span of attempt number `index`, from 0.
    #[must_use]
    pub const fn attempt_span(&self, index: usize) -> u64 {
        let span = crate::plan::mix(self.context.span.wrapping_add(index as u64 + 1));
        if span == 0 { 1 } else { span }
    }

    /// An attempt begins. One that is still open was given up for it.
    pub fn attempt(&mut self, at: &Arc<Vitals>, now: Instant) {
        if self.attempts.len() < ATTEMPTS {
            let at = at.clone();
            self.attempts.push(Attempt { at, start: now, finish: None, outcome: Outcome::Open });
        }
    }

    /// The last attempt has ended.
    pub fn close(&mut self, outcome: Outcome, now: Instant) {
        if let Some(attempt) = self.attempts.last_mut().filter(|attempt| attempt.finish.is_none()) {
            (attempt.outcome, attempt.finish) = (outcome, Some(now));
        }
    }
}

impl Outcome {
    /// The word for an attempt without an answer.
    #[must_use]
    pub const fn failure(self) -> Option<&'static str> {
        match self {
            Self::Answered(_) => None,
            Self::Open => Some("abandoned"),
            Self::Failed(Failure::NotSent) => Some("not_sent"),
            Self::Failed(Failure::Refused) => Some("refused"),
            Self::Failed(Failure::Lost) => Some("connection_lost"),
            Self::Failed(Failure::Timeout) => Some("timeout"),
            Self::Failed(Failure::Unavailable) => Some("unavailable"),
            Self::Failed(Failure::Stalled) => Some("connection_stalled"),
            Self::Failed(Failure::Exhausted) => Some("exhausted"),
        }
    }
}
