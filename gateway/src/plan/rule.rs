//! Which rule included or excluded a candidate?
//!
//! [`Reason`] is the word that metadata and metrics carry, [`Rule`] the sentence that `explain` prints,
//! with the numbers that decided. Every candidate has both, always: old plans are explained, too.

use crate::table::Stage;
use std::{fmt, sync::Arc, time::Duration};
use suiyue_proto::method::Class;

/// Why a candidate gets what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// It stands in the first tier that has anyone.
    Primary,
    /// The region's policy gives it a weight.
    Policy,
    /// A shift moves calls to it.
    Shift,
    /// Another one is at its cap.
    Overflow,
    /// Earlier tiers cannot take everything: they are sick, returning or on trial.
    Failover,
    /// Nobody is healthy, and this class is tried all the same.
    FailOpen,
    /// Excluded: an operator drained it.
    Drained,
    /// Excluded: its stage does not let it serve.
    Suspended,
    /// Excluded: the region's policy does not name it for this class.
    NotNamed,
    /// Excluded: it has not loaded the region's holders.
    NotReady,
    /// Excluded: none of its endpoints is in rotation.
    Unhealthy,
    /// Excluded while fresher data can be had: its own are too old.
    Stale,
    /// Excluded for now: others carry everything.
    Standby,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::Primary,
        Self::Policy,
        Self::Shift,
        Self::Overflow,
        Self::Failover,
        Self::FailOpen,
        Self::Drained,
        Self::Suspended,
        Self::NotNamed,
        Self::NotReady,
        Self::Unhealthy,
        Self::Stale,
        Self::Standby,
    ];

    /// The word in metadata, metrics and `explain`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Policy => "policy",
            Self::Shift => "shift",
            Self::Overflow => "overflow",
            Self::Failover => "failover",
            Self::FailOpen => "fail_open",
            Self::Drained => "drained",
            Self::Suspended => "suspended",
            Self::NotNamed => "not_named",
            Self::NotReady => "not_ready",
            Self::Unhealthy => "unhealthy",
            Self::Stale => "stale",
            Self::Standby => "standby",
        }
    }

    /// The candidate must not get calls, not even when another fails. One whose data are too old may
    /// when all others fail.
    #[must_use]
    pub const fn excludes(self) -> bool {
        matches!(self, Self::Drained | Self::Suspended | Self::NotNamed | Self::NotReady | Self::Unhealthy)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A rule that included, excluded or limited a candidate, with its numbers. `Display` is a sentence
/// without a capital and without a full stop.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    // Excluded.
    /// An operator drained it; this outranks everything.
    Drained,
    /// Its stage lets it serve nobody.
    Stage(Stage),
    /// A peer that the policy names for other classes only.
    PeerNotNamed(Class),
    /// It does not say that the region's holders are loaded.
    NotReady,
    /// No endpoint is in rotation.
    NoEndpoint,
    /// Its data are older than the class allows, and those of another are not.
    Lag {
        /// Age of its data.
        lag: Duration,
        /// What the class allows; less for one that was out already, so that it does not flap.
        limit: Duration,
        /// Whose data are fresh.
        fresher: Arc<str>,
    },
    // Included.
    /// It stands in the first tier that has anyone.
    FirstTier,
    /// The region's policy gives it this weight.
    Weight(f64),
    /// Earlier tiers take this fraction only.
    EarlierTiersTake(f64),
    /// A shift moves calls to it.
    ShiftTarget(Arc<str>),
    /// This node is at its cap.
    OverflowOf(Arc<str>),
    /// Nobody is healthy and the class is tried all the same.
    NothingHealthy,
    /// Others carry everything.
    OthersCarry,
    // Limited: besides one of those above.
    /// Stage CANARY: at most so many percent.
    CanaryCap(u8),
    /// Stage CANARY, but nobody else can take the rest.
    CanaryAlone(u8),
    /// It returns, and gets this fraction of its usual share.
    Ramp(f64),
    /// A shift moves this fraction of its base share away.
    ShiftedAway {
        /// The shift.
        id: Arc<str>,
        /// Part of the base share, 0 to 1.
        part: f64,
    },
    /// Its cap at this gateway is reached: calls a second, after what higher classes use.
    CapReached(f64),
    /// Its cap is reached, and nobody has room: it keeps what nobody can take.
    NobodyHasRoom,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drained => f.write_str("drained by an operator"),
            Self::Stage(Stage::Test) => f.write_str("its stage is TEST"),
            Self::Stage(Stage::Suspended) => f.write_str("its stage is SUSPENDED"),
            Self::Stage(Stage::Active | Stage::Canary(_)) => f.write_str("its stage lets it serve"),
            Self::PeerNotNamed(class) => write!(f, "a peer that the policy does not name for {class}"),
            Self::NotReady => f.write_str("not ready: it has not loaded the region's holders"),
            Self::NoEndpoint => f.write_str("no endpoint in rotation"),
            Self::Lag { lag, limit, fresher } => write!(
                f,
                "data lag {} s over the limit of {} s while {fresher} is fresher",
                lag.as_secs(),
                limit.as_secs()
            ),
            Self::FirstTier => f.write_str("in the first tier that has anyone"),
            Self::Weight(weight) => write!(f, "the policy gives it the weight {weight}"),
            Self::EarlierTiersTake(part) if *part <= 0.0 => {
                f.write_str("nobody in an earlier tier can answer")
            }
            Self::EarlierTiersTake(part) => write!(f, "earlier tiers take only {:.0} %", part * 100.0),
            Self::ShiftTarget(id) => write!(f, "shift {id} moves calls to it"),
            Self::OverflowOf(node) => write!(f, "{node} is at its cap"),
            Self::NothingHealthy => f.write_str("nobody is healthy, and this class is tried all the same"),
            Self::OthersCarry => f.write_str("others carry everything"),
            Self::CanaryCap(percent) => write!(f, "canary cap {percent} %"),
            Self::CanaryAlone(percent) => write!(f, "canary cap {percent} % not kept: nobody else is there"),
            Self::Ramp(part) => write!(f, "returning, at {:.0} % of its share", part * 100.0),
            Self::ShiftedAway { id, part } => write!(f, "shift {id} moves {:.0} % of it away", part * 100.0),
            Self::CapReached(rps) => write!(f, "cap of {rps:.0} calls/s at this gateway reached"),
            Self::NobodyHasRoom => f.write_str("over its cap: nobody else has room"),
        }
    }
}
