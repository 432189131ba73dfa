//! What became of one call?
//!
//! Every scheduled call ends in exactly one [`Record`], whatever happens to it, and every record goes
//! to one [`Observe`]. That is what makes `calls = rate x seconds` exact.

use super::mix::Kind;
use std::{borrow::Cow, sync::Arc, time::Duration};
use suiyue_proto::region::Code;
use tokio::time::Instant;

/// One call that has ended.
#[derive(Debug, Clone)]
pub struct Record {
    /// When it should have been sent. Latency counts from here, so that a driver or server that falls
    /// behind cannot hide it.
    pub due: Instant,
    /// What the app did.
    pub kind: Kind,
    /// The region that the call was routed by.
    pub region: Code,
    /// From the due time to the end of the answer.
    pub latency: Duration,
    /// Who answered, as far as anybody did.
    pub served: ServedBy,
    /// How it ended.
    pub outcome: Outcome,
}

/// The gateway's account of who answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServedBy {
    /// Metadata `suiyue-served-by`; absent when no node answered.
    pub node: Option<Arc<str>>,
    /// Metadata `suiyue-tier`.
    pub tier: Option<u8>,
    /// Metadata `suiyue-attempt`; 1 when the gateway did not say.
    pub attempt: u32,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// OK, and the answer makes sense.
    Ok,
    /// OK, but a code that was shown a moment ago got a verdict that its level does not explain.
    WrongVerdict(String),
    /// Not OK.
    Failed {
        /// gRPC code, as in the protocol, e.g. `UNAVAILABLE`.
        code: &'static str,
        /// Reason word of the answer, or one of the driver's own (`DRIVER_…`).
        reason: Cow<'static, str>,
    },
}

impl Outcome {
    /// A failure found by the driver itself.
    #[must_use]
    pub const fn driver(code: &'static str, reason: &'static str) -> Self {
        Self::Failed { code, reason: Cow::Borrowed(reason) }
    }
}

/// Takes the records of a run. Called from the driver's tasks: it must be quick and must not block.
pub trait Observe: Send + Sync + 'static {
    /// Takes one record.
    fn record(&self, record: &Record);
}

/// The word of a gRPC code, as in the protocol.
#[must_use]
pub const fn code_word(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
