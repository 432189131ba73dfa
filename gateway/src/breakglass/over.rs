//! What does the table look like with break-glass over it?
//!
//! Pure. A drain counts instead of the node's intent, a shift instead of the registry's shift from the same
//! source. What is about a node that is not there changes nothing.

use crate::{
    registry::shift,
    table::{Node, Table},
};
use std::sync::Arc;
use suiyue_proto::{
    region::Code,
    v1::{self, BreakglassAction, breakglass_action::What},
};

/// The table with these actions, which knows the one beneath.
#[must_use]
pub fn over(base: &Arc<Table>, actions: &[BreakglassAction]) -> Table {
    let mut table = Table { under: Some(base.clone()), ..Table::clone(base) };
    for action in actions {
        match &action.what {
            Some(What::Drain(name)) => drain(&mut table, name, true),
            Some(What::Undrain(name)) => drain(&mut table, name, false),
            Some(What::Shift(shift)) => add(&mut table, shift),
            None => {}
        }
    }
    table
}

fn drain(table: &mut Table, name: &str, drained: bool) {
    if let Some(node) = table.nodes.get_mut(name) {
        let mut changed = Node::clone(node);
        changed.intent.drained = drained;
        *node = Arc::new(changed);
    }
}

fn add(table: &mut Table, stored: &v1::Shift) {
    let Some(order) = &stored.order else { return };
    let Some(code) = Code::new(order.region) else { return };
    match shift::check(stored, code, &order.from) {
        Ok(shift) => {
            table.shifts.retain(|other| !(other.region == code && other.from == shift.from));
            table.shifts.push(Arc::new(shift));
        }
        // It was checked when it was ordered: the journal is of another version.
        Err(problem) => tracing::error!(id = %stored.id, %problem, "a shift of the journal cannot be used"),
    }
}
