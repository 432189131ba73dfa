//! Does a node on trial hurt anybody?
//!
//! Stage CANARY is a shift of stage: what the node does is measured against what the node that carries most
//! of its regions' calls did when the trial step began. A breach takes the node one step back (25 % to 5 %
//! to 1 % to TEST), for all gateways, with an entry of the audit. Whoever wants it on trial again promotes it.

use super::{Shifts, guard::Watch};
use crate::{
    audit::actor::{Actor, Deed},
    operator::swap::{Also, Present, Swap},
    registry::keys::{Key, Part},
    shifts::measure::{Breach, Gauge, Measured, breach},
    snapshot::Snapshot,
    table::{Guards, Node, Stage},
};
use prost::Message as _;
use std::{collections::BTreeMap, sync::Arc};
use suiyue_proto::{reason::Reason, v1};
use tonic::Status;

/// What a node on trial is measured by.
pub(super) struct Trial {
    stage: Stage,
    before: Option<Measured>,
}

impl Watch {
    /// Keeps what each trial is measured by, and finds the nodes that hurt.
    pub(super) fn trials(
        &mut self,
        snapshot: &Snapshot,
        rates: &BTreeMap<Arc<str>, f64>,
    ) -> Vec<(Arc<Node>, Breach)> {
        let nodes = &snapshot.table.nodes;
        let on_trial = |node: &Node| matches!(node.intent.stage, Stage::Canary(_));
        self.trials.retain(|name, trial| {
            nodes.get(name).is_some_and(|node| on_trial(node) && node.intent.stage == trial.stage)
        });
        let mut hurting = Vec::new();
        for node in nodes.values().filter(|node| on_trial(node)) {
            let reference = || {
                let others = nodes.values().filter(|other| {
                    other.name != node.name && other.scopes.iter().any(|code| node.scopes.contains(code))
                });
                let rate = |node: &Arc<Node>| rates.get(&node.name).copied().unwrap_or(0.0);
                let most = others.max_by(|a, b| rate(a).total_cmp(&rate(b)))?;
                self.gauges.get(&most.name).and_then(Gauge::read)
            };
            let stage = node.intent.stage;
            let trial = match self.trials.get(&node.name) {
                Some(trial) => trial,
                None => {
                    let before = reference();
                    self.trials.entry(node.name.clone()).or_insert(Trial { stage, before })
                }
            };
            let now = self.gauges.get(&node.name).and_then(Gauge::read);
            let rps_max = node.rps_max.filter(|max| *max > 0);
            let utilization = rps_max.and_then(|max| Some(rates.get(&node.name)? / f64::from(max)));
            if let Some(breach) = breach(&Guards::default(), &node.name, now, trial.before, utilization) {
                hurting.push((node.clone(), breach));
            }
        }
        hurting
    }
}

/// One step less.
const fn down(stage: Stage) -> (v1::Stage, u32) {
    match stage {
        Stage::Canary(percent) if percent > 5 => (v1::Stage::Canary, 5),
        Stage::Canary(percent) if percent > 1 => (v1::Stage::Canary, 1),
        _ => (v1::Stage::Test, 0),
    }
}

impl Shifts {
    /// Takes a node one step back, if it still is where it was seen.
    pub(super) async fn step_down(&self, node: &Node, breach: &Breach) -> Result<(), Status> {
        let (registry, audit) = self.writable()?;
        let key = Key::Node { region: node.region, node: node.name.to_string(), part: Part::Intent };
        let present = super::read(&**registry, &self.0.prefix.key(&key)).await?;
        let Some(entry) = &present else { return Ok(()) };
        let intent = v1::NodeIntent::decode(entry.value.clone()).unwrap_or_default();
        let same = crate::registry::fold::read_stage(&intent).is_ok_and(|stage| stage == node.intent.stage);
        if !same {
            return Ok(());
        }
        let (stage, canary_percent) = down(node.intent.stage);
        let value = v1::NodeIntent { stage: stage.into(), canary_percent, ..intent };
        let Breach { guard, value: measured, limit, .. } = breach;
        let why = format!(
            "guard {guard} of {}: {measured:.2}, where the limit is {limit:.2}: one stage back",
            node.name
        );
        tracing::warn!(node = %node.name, guard, measured, limit, "a guard is breached: the node is trusted less");
        let deed = Deed::new(Actor::local(&format!("{}@guard", self.0.gateway)), "GuardStage", why);
        let swap = Swap { key, value, expected: entry.mod_revision, changed: Reason::IntentChanged };
        match swap.judge(present.as_ref())? {
            Present::Same(_) => Ok(()),
            Present::AsRead => {
                swap.write(&self.0.prefix, (audit, &deed), present, Also::default()).await.map(drop)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_lost_step_by_step() {
        let mut stage = Stage::Canary(25);
        let mut seen = Vec::new();
        while let Stage::Canary(_) = stage {
            let (next, percent) = down(stage);
            seen.push((next, percent));
            stage = match next {
                v1::Stage::Canary => Stage::Canary(u8::try_from(percent).unwrap()),
                _ => Stage::Test,
            };
        }
        assert_eq!(seen, [(v1::Stage::Canary, 5), (v1::Stage::Canary, 1), (v1::Stage::Test, 0)]);
    }
}
