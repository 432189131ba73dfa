//! What does an order of break-glass mean?
//!
//! The order of a shift is checked as any other; half an hour, its way back included, is the end of all of
//! them. Pure.

use super::invalid;
use crate::{
    breakglass::{TTL, TTL_MAX, name},
    operator::{routing_exactly, shifts},
    registry::shift,
    table::Table,
};
use suiyue_proto::{
    reason::Reason,
    region::Code,
    v1::{
        self, BreakglassAction, BreakglassActor, OrderBreakglassRequest, ShiftMode, ShiftOrder,
        breakglass_action::What, order_breakglass_request::What as Asked,
    },
};
use tonic::Status;

/// The action that is asked for.
///
/// # Errors
/// What cannot be, with the field.
pub(super) fn action(
    asked: &OrderBreakglassRequest,
    actor: BreakglassActor,
    table: &Table,
    now: i64,
) -> Result<BreakglassAction, Status> {
    let most = u32::try_from(TTL_MAX.as_secs()).unwrap_or(u32::MAX);
    let ttl_s = match asked.ttl_s {
        0 => u32::try_from(TTL.as_secs()).unwrap_or(most),
        ttl_s if ttl_s <= most => ttl_s,
        _ => return Err(invalid("ttl_s", &format!("1 to {most} seconds (30 min)"))),
    };
    let ends = now.saturating_add(i64::from(ttl_s) * 1_000);
    let id = format!("bg-{now:012x}-{:08x}", rand::random::<u32>());
    let what = match &asked.what {
        None => return Err(invalid("what", "drain, undrain or shift: one of them")),
        Some(Asked::Drain(node)) => What::Drain(drained(node, true, table)?),
        Some(Asked::Undrain(node)) => What::Undrain(drained(node, false, table)?),
        Some(Asked::Shift(order)) => {
            let order = shifts::ordered(&ShiftOrder { ttl_s: Some(ttl_s), ..order.clone() }, table)?;
            let order = ShiftOrder { reason: asked.reason.clone(), ..order };
            What::Shift(v1::Shift { actor: name(&actor), ..begun(&id, order, (now, ends))? })
        }
    };
    Ok(BreakglassAction {
        id,
        what: Some(what),
        start_unix_ms: now,
        ends_unix_ms: ends,
        actor: Some(actor),
        reason: asked.reason.clone(),
        ..BreakglassAction::default()
    })
}

/// A node that is there, and is not as it is to be.
fn drained(name: &str, drained: bool, table: &Table) -> Result<String, Status> {
    let node = table.nodes.get(name).ok_or_else(|| Reason::NodeUnknown.with(&[("node", name)]))?;
    if !drained && !node.intent.drained {
        return Err(invalid("undrain", "a node that is drained"));
    }
    Ok(name.to_owned())
}

/// The shift, which begins to walk back so early that nothing is left of it in the end.
fn begun(id: &str, order: ShiftOrder, (now, ends): (i64, i64)) -> Result<v1::Shift, Status> {
    let expires = ends.saturating_sub(way_back_ms(&order));
    if expires <= now {
        let seconds = way_back_ms(&order) / 1_000;
        return Err(invalid("ttl_s", &format!("more than the {seconds} s that its way back takes")));
    }
    let order = ShiftOrder { ttl_s: u32::try_from((expires - now) / 1_000).ok().map(|s| s.max(1)), ..order };
    let shift = v1::Shift {
        id: id.to_owned(),
        order: Some(order),
        start_unix_ms: now,
        expires_unix_ms: expires,
        mode: ShiftMode::Breakglass.into(),
        ..v1::Shift::default()
    };
    let order = shift.order.clone().unwrap_or_default();
    let code = Code::new(order.region).ok_or_else(|| Reason::RegionUnknown.status())?;
    // The table takes it by this very check.
    shift::check(&shift, code, &order.from).map_err(|problem| shifts::refusal(&problem))?;
    Ok(shift)
}

/// Milliseconds that a whole shift takes to walk back: its first step back is made at once.
pub(super) fn way_back_ms(order: &ShiftOrder) -> i64 {
    let (step, every_s) = (order.step.unwrap_or(100.0), order.every_s.unwrap_or(0));
    let steps = (order.percent / step).ceil().clamp(1.0, 1e6) as i64;
    (steps - 1).saturating_mul(i64::from(every_s) * 1_000)
}

/// Regions whose calls an action may move.
pub(super) fn region(action: &BreakglassAction) -> Option<Code> {
    let Some(What::Shift(shift)) = &action.what else { return None };
    let region = shift.order.as_ref().map_or(0, |order| order.region);
    routing_exactly(region).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_is_as_long_as_its_steps() {
        let order = |percent, step, every_s| ShiftOrder {
            percent,
            step: Some(step),
            every_s: Some(every_s),
            ..ShiftOrder::default()
        };
        assert_eq!(way_back_ms(&order(40.0, 10.0, 30)), 90_000);
        assert_eq!(way_back_ms(&order(45.0, 10.0, 30)), 120_000);
        assert_eq!(way_back_ms(&order(5.0, 10.0, 30)), 0);
        assert_eq!(way_back_ms(&order(100.0, 1.0, 0)), 0);
        assert_eq!(way_back_ms(&order(100.0, 0.001, 3_600)), 99_999 * 3_600_000);
    }
}
