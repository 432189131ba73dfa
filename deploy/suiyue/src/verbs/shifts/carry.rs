//! May this plan be carried out, and says another person yes to it? (`suiyue shift apply|approve`)

use super::{
    Shifts,
    list::Line,
    plan::{self, Order, hex},
};
use crate::{
    cli::{ApplyShift, ApproveShift},
    verbs::{
        audit::utc,
        output::{self, Format},
    },
};
use serde::Serialize;
use suiyue_proto::v1::{ApplyShiftRequest, ApproveShiftRequest};

/// The document of `shift apply -o json`.
#[derive(Debug, Serialize)]
pub struct Applied {
    /// The shift; with `dry_run` as it would be.
    pub shift: Line,
    /// Revision that it was written at; 0: it was not.
    pub revision: i64,
    /// Nothing was to be written.
    pub dry_run: bool,
    /// The registry was written; false also where the same plan had been applied before.
    pub written: bool,
}

/// The document of `shift approve -o json`.
#[derive(Debug, Serialize)]
pub struct Approved {
    /// What is approved.
    pub order: Order,
    /// Name of the plan, in hex.
    pub plan_hash: String,
    /// Until when, in milliseconds since 1970.
    pub until_unix_ms: i64,
}

/// Begins a shift.
///
/// # Errors
/// As [`super::run`].
pub async fn apply(flags: &ApplyShift) -> anyhow::Result<()> {
    let plan = plan::read(&flags.plan)?;
    let mut shifts = Shifts::connect(&flags.ask.gateways(), &flags.account).await?;
    let asked = ApplyShiftRequest { force: flags.force, dry_run: flags.dry_run, ..plan };
    let answer = shifts.apply(asked).await?;
    let shift = Line::of(&answer.shift.unwrap_or_default());
    let (revision, dry_run, written) = (answer.revision, flags.dry_run, answer.written);
    let document = Applied { shift, revision, dry_run, written };
    if flags.ask.output == Format::Json {
        return output::json(&document);
    }
    let Line { id, order, expires, .. } = &document.shift;
    output::line(&match (written, dry_run) {
        (true, _) => format!("shift {id} begins: {order}; it walks back from {expires} on"),
        (false, true) => format!("dry run: the shift can begin: {order}"),
        (false, false) => format!("nothing written: this plan is applied already, as shift {id}"),
    })
}

/// Approves a plan.
///
/// # Errors
/// As [`super::run`].
pub async fn approve(flags: &ApproveShift) -> anyhow::Result<()> {
    let plan = plan::read(&flags.plan)?;
    let mut shifts = Shifts::connect(&flags.ask.gateways(), &flags.account).await?;
    let ApplyShiftRequest { order, plan_hash, read, .. } = plan;
    let asked = ApproveShiftRequest { plan_hash, order, read, ..Default::default() };
    let order = Order::from(&asked.order.clone().unwrap_or_default());
    let plan_hash = hex(&asked.plan_hash);
    let until_unix_ms = shifts.approve(asked).await?.until_unix_ms;
    let document = Approved { order, plan_hash, until_unix_ms };
    if flags.ask.output == Format::Json {
        return output::json(&document);
    }
    let until = utc(until_unix_ms);
    output::line(&format!("approved until {until}, for once: {}", document.order))
}
