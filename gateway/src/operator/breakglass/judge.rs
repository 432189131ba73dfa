//! What would an action of break-glass do?
//!
//! This gateway's calls move; those of the others stay where they are, and count as far as the others
//! answer. One that is silent is named, and holds nothing up.

use super::{Desk, order};
use crate::{
    breakglass::over::over,
    operator::{
        intents,
        shifts::{loads, preview},
        what_if,
    },
    snapshot::Snapshot,
    table::{Guards, Stage},
};
use std::{collections::BTreeMap, sync::Arc};
use suiyue_proto::{
    reason::Reason,
    v1::{BreakglassAction, NodeLoad, breakglass_action::What},
};
use tonic::Status;

/// What was found.
pub(super) struct Judged {
    /// Fraction of this gateway's calls of a region that moves; of several regions the most.
    pub(super) moves: f64,
    /// Guards that were overruled, one sentence each.
    pub(super) refusals: Vec<String>,
    /// What every node carries.
    pub(super) nodes: Vec<NodeLoad>,
    /// What may not be meant, one sentence each.
    pub(super) warnings: Vec<String>,
}

impl Desk {
    /// # Errors
    /// [`Reason::NobodyLeft`], whatever is asked; [`Reason::ShiftRefused`] with the number, unless by force.
    pub(super) async fn judge(
        &self,
        snapshot: &Snapshot,
        action: &BreakglassAction,
        actions: &[BreakglassAction],
        force: bool,
    ) -> Result<Judged, Status> {
        // Before its first plan a gateway routes nothing that could be moved.
        let inputs = snapshot.inputs.as_ref().ok_or_else(|| Reason::RegionNotJoined.status())?;
        let under = snapshot.table.under.as_ref().unwrap_or(&snapshot.table);
        let table = over(under, actions);
        let regions = match (&action.what, order::region(action)) {
            (_, Some(region)) => vec![region],
            (Some(What::Drain(name) | What::Undrain(name)), None) => {
                let node = table.nodes.get(name.as_str());
                node.map_or_else(Vec::new, |node| intents::regions(snapshot, node))
            }
            _ => Vec::new(),
        };
        let after = what_if::plan(snapshot, &table, &inputs.signals)?;
        intents::left(&snapshot.plans, &after, &regions, false)?;
        let (elsewhere, mut warnings) = self.elsewhere().await;
        let change = preview::Change {
            before: (&snapshot.table, &inputs.signals),
            after: (&table, &inputs.signals),
            inputs,
            demand: &loads::own(snapshot),
            elsewhere: &elsewhere,
            limit: limit(action),
        };
        let effect = change.effect(&regions, 1.0);
        if let Some(refusal) = effect.refusals.first().filter(|_| !force) {
            let number = effect.guards.iter().find(|guard| guard.refuses).map_or(0.0, |guard| guard.value);
            return Err(Reason::ShiftRefused.with(&[("guard", refusal), ("value", &format!("{number:.2}"))]));
        }
        warnings.extend(pointless(action, &table));
        let nodes = effect.nodes.into_iter().filter(|node| node.rps_before > 0.0 || node.rps_after > 0.0);
        Ok(Judged { moves: effect.moves, refusals: effect.refusals, nodes: nodes.collect(), warnings })
    }

    /// What the other gateways send to each node, and who does not say it.
    async fn elsewhere(&self) -> (BTreeMap<Arc<str>, f64>, Vec<String>) {
        let (mut sums, mut warnings) = (BTreeMap::new(), Vec::new());
        let others = loads::others(&self.operator);
        for (id, answer) in loads::ask_all(&self.operator, others).await {
            match answer {
                Ok(load) => {
                    for node in load.nodes.into_iter().filter(|node| node.rps.is_finite()) {
                        *sums.entry(node.node.into()).or_insert(0.0) += node.rps;
                    }
                }
                Err(why) => warnings.push(format!("{id} does not tell its load ({why}): it is left out")),
            }
        }
        (sums, warnings)
    }
}

/// As the order of a shift says, or as for everything else.
fn limit(action: &BreakglassAction) -> f64 {
    let order = match &action.what {
        Some(What::Shift(shift)) => shift.order.as_ref(),
        _ => None,
    };
    order.and_then(|order| order.max_utilization).unwrap_or(Guards::default().max_utilization)
}

/// An undrained node that gets no calls for another reason.
fn pointless(action: &BreakglassAction, table: &crate::table::Table) -> Option<String> {
    let Some(What::Undrain(name)) = &action.what else { return None };
    let node = table.nodes.get(name.as_str())?;
    let none = matches!(node.intent.stage, Stage::Test | Stage::Suspended);
    none.then(|| {
        format!("{name} is in a stage in which it gets no calls: break-glass does not change stages")
    })
}
