//! What happened to every call, and when?
//!
//! A [`Load`](crate::load::Load) keeps one [`Ended`] a call. Here stands what tests ask of them: slow
//! calls, the longest time without an answer, quantiles.

use std::time::{Duration, Instant};
use tonic::Code;

/// Calls that take longer are counted as slow.
pub const SLOW: Duration = Duration::from_millis(100);

/// One call that has ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its name in the journals of nodes.
    pub call_id: String,
    /// It must not be executed twice.
    pub once: bool,
    /// When it was made.
    pub begun: Instant,
    /// When it ended.
    pub ended: Instant,
    /// The gRPC code; `None`: no answer came.
    pub code: Option<Code>,
    /// Node that answered, as the answer says; empty if none did.
    pub node: String,
    /// Tier of that node.
    pub tier: Option<u32>,
    /// Attempts that it took; 0 where the answer does not say.
    pub attempt: u32,
}

impl Ended {
    /// How long it took.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.ended - self.begun
    }

    /// It ended OK.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.code == Some(Code::Ok)
    }

    /// It took longer than [`SLOW`].
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.took() > SLOW
    }
}

/// Longest time in which no call ended OK, between the first and the last that did.
#[must_use]
pub fn longest_gap(calls: &[Ended]) -> Duration {
    let mut ok: Vec<_> = calls.iter().filter(|call| call.is_ok()).map(|call| call.ended).collect();
    ok.sort_unstable();
    ok.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// From the first to the last call that fits, by the moment when it was made.
#[must_use]
pub fn span(calls: &[Ended], fits: impl Fn(&Ended) -> bool) -> Duration {
    let begun = || calls.iter().filter(|call| fits(call)).map(|call| call.begun);
    begun().max().zip(begun().min()).map_or(Duration::ZERO, |(last, first)| last - first)
}

/// A quantile of the time that calls took which ended OK and were made within `from..until`.
#[must_use]
pub fn quantile(calls: &[Ended], q: f64, from: Instant, until: Instant) -> Duration {
    let within = calls.iter().filter(|call| call.is_ok() && call.begun >= from && call.begun < until);
    let mut took: Vec<_> = within.map(Ended::took).collect();
    took.sort_unstable();
    let at = (took.len().saturating_sub(1) as f64 * q).round() as usize;
    took.get(at).copied().unwrap_or_default()
}
