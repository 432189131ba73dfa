//! Does this node keep the contract?
//!
//! A conformance run against a node's own port, ours or somebody else's: every promise that gateways
//! and apps rely on is one named [`Point`], with what was asked, what was expected, what came, and the
//! request that shows it. Nothing is asked about anybody but the test holders of the [`Trial`]; nothing
//! is written; load is put on the node only when the trial says so.
//!
//! ```text
//!   reach → serving (health, reflection) → codes of every ready region → clock → bad calls → pace → load
//! ```

mod ask;
mod bad_calls;
mod clock;
mod codes;
mod levels;
mod load;
mod pace;
mod raw;
mod report;
mod serving;
mod trial;

#[cfg(test)]
mod tests;

pub use report::{Outcome, Point, Report};
pub use trial::{Golden, Load, Trial, read_golden};

use ask::Asker;
use codes::Shown;

/// The node could not be asked at all.
#[derive(Debug, thiserror::Error)]
#[error("{address} cannot be reached: {cause}")]
pub struct Unreachable {
    /// The address.
    pub address: String,
    /// What happened.
    pub cause: String,
}

/// Checks every point. It ends by itself: every call has a deadline, and so has the load.
///
/// # Errors
/// [`Unreachable`]; whatever a node answers is a point.
pub async fn verify(trial: &Trial) -> Result<Report, Unreachable> {
    let asker = Asker::reach(&trial.address, trial.own.as_ref()).await?;
    let mut report = Report::new(&trial.address);
    let ready = serving::check(&asker, trial, &mut report).await;
    let mut shown = Vec::<Shown>::new();
    for &region in &ready {
        shown.extend(levels::check(&asker, trial, region, &mut report).await);
    }
    for &region in &ready {
        let of_region: Vec<_> = shown.iter().filter(|shown| shown.holder.region == region).collect();
        codes::check(&asker, region, &of_region, &mut report).await;
    }
    codes::golden(&asker, &trial.golden, &mut report).await;
    if let Some(known) = shown.first() {
        clock::check(&asker, &known.holder, &mut report).await;
        bad_calls::check(&asker, known, &ready, &mut report).await;
        pace::check(&asker, &known.holder, trial, &mut report).await;
        if let Some(load) = &trial.load {
            load::check(&asker, &shown, load, trial.scan, &mut report).await;
        }
    } else {
        for name in ["clock", "bad calls", "not slow"] {
            report.skipped(name, "no test holder's code could be shown");
        }
    }
    Ok(report)
}
