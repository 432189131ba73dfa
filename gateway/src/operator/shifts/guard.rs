//! Does a running shift hurt anybody?
//!
//! Every gateway watches the nodes that a shift sends calls to: its targets while it grows or stands, its
//! source while it walks back. What they did before the stretch began is what they are measured by; the
//! utilization is that of all gateways together. A breach holds the shift here at once ([`Holds`]), then
//! at every gateway through the registry, with an entry of the audit; the write is tried until the shift
//! stands held. No gateway leads: of two that see a breach one is first, and the other finds it held.
//!
//! [`Holds`]: crate::shifts::Holds

use super::{Shifts, change, loads, read, trial::Trial};
use crate::{
    audit::actor::{Actor, Deed},
    clock::unix_ms,
    plan::ShiftSignal,
    registry::{Txn, keys::Key},
    shifts::{
        Hold,
        measure::{Breach, Gauge, Measured, Sample, breach},
    },
    snapshot::Snapshot,
    table::{Node, Shift, Stage},
};
use prost::Message as _;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use suiyue_proto::{
    reason::Reason,
    v1::{self, ShiftState},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// The guards look this often.
const LOOK: Duration = Duration::from_millis(500);
/// A write that takes longer is tried again.
const WRITE_WITHIN: Duration = Duration::from_secs(2);
/// Clocks of gateways that differ by more are an alarm.
const CLOCKS: i64 = 30_000;

/// What this gateway's guards remember.
#[derive(Default)]
pub(super) struct Watch {
    pub(super) gauges: BTreeMap<Arc<str>, Gauge>,
    /// Nodes on trial.
    pub(super) trials: BTreeMap<Arc<str>, Trial>,
    /// What nodes did before the stretch of a shift that is watched.
    before: BTreeMap<Arc<str>, Before>,
    /// A gateway whose clock is far off.
    off: Option<String>,
}

/// What the nodes did before a stretch of a shift.
struct Before {
    /// It walks back.
    back: bool,
    nodes: BTreeMap<Arc<str>, Measured>,
}

impl Shifts {
    /// Watches until `shutdown`. Without a registry there is nothing to watch.
    pub async fn guard(self, shutdown: CancellationToken) {
        if self.0.registry.is_none() {
            return shutdown.cancelled().await;
        }
        let watching = async {
            let mut watch = Watch::default();
            let mut ticks = tokio::time::interval(LOOK);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                self.look(&mut watch).await;
            }
        };
        shutdown.run_until_cancelled(watching).await.unwrap_or_default()
    }

    async fn look(&self, watch: &mut Watch) {
        let snapshot = self.0.snapshots.current();
        let now = Instant::now();
        watch.measure(self.samples(&snapshot, now), now);
        let Some(inputs) = &snapshot.inputs else { return };
        let running: Vec<(&Arc<Shift>, ShiftSignal)> = snapshot
            .table
            .shifts
            .iter()
            .filter_map(|shift| Some((shift, *inputs.signals.shifts.get(&shift.id)?)))
            .filter(|(shift, signal)| state(shift, signal) != ShiftState::Ended)
            .collect();
        watch.follow(&running);
        let on_trial = |node: &Arc<Node>| matches!(node.intent.stage, Stage::Canary(_));
        if running.is_empty() && !snapshot.table.nodes.values().any(on_trial) {
            watch.trials.clear();
            return;
        }
        let rates = self.rates(&snapshot, watch).await;
        for (node, breach) in watch.trials(&snapshot, &rates) {
            let told = tokio::time::timeout(WRITE_WITHIN, self.step_down(&node, &breach)).await;
            if !matches!(told, Ok(Ok(()))) {
                tracing::warn!(node = %node.name, "a node on trial could not be taken a stage back yet");
            }
        }
        for (shift, signal) in running {
            if self.0.holds.of(shift).is_none()
                && let Some(breach) = watch.breach(shift, &signal, &snapshot, &rates)
            {
                let Breach { guard, node, value, limit } = &breach;
                tracing::warn!(shift = %shift.id, guard, %node, value, limit, "a guard is breached: the shift is held");
                self.0.holds.hold(shift, Hold::new(shift, signal.now_ms, breach));
            }
            if let Some(hold) = self.0.holds.of(shift).filter(|hold| !stands(shift, hold)) {
                let told = tokio::time::timeout(WRITE_WITHIN, self.tell(shift, &hold)).await;
                if !matches!(told, Ok(Ok(()))) {
                    tracing::warn!(shift = %shift.id, "a breach is not in the registry yet: it holds here only");
                }
            }
        }
    }

    /// The counters of every node.
    fn samples(&self, snapshot: &Snapshot, now: Instant) -> BTreeMap<Arc<str>, Sample> {
        let latencies = self.0.metrics.latencies();
        let mut samples: BTreeMap<Arc<str>, Sample> = BTreeMap::new();
        for vitals in &snapshot.vitals {
            let sample = samples.entry(vitals.node.clone()).or_insert_with(|| Sample {
                buckets: latencies.get(&vitals.node).copied().unwrap_or_default(),
                ..Sample::default()
            });
            let tally = vitals.counted(now).tally;
            sample.judged += tally.judged();
            sample.failed += tally.failed();
        }
        samples
    }

    /// Calls a second of all gateways to every node. One that does not answer adds nothing: a guard that
    /// stopped for it would guard nothing.
    async fn rates(&self, snapshot: &Snapshot, watch: &mut Watch) -> BTreeMap<Arc<str>, f64> {
        let mut rates: BTreeMap<Arc<str>, f64> = loads::rates(snapshot).collect();
        let mut off = None;
        for (id, answer) in loads::ask_all(&self.0, loads::others(&self.0)).await {
            let Ok(answer) = answer else { continue };
            for node in answer.nodes.iter().filter(|node| node.rps.is_finite()) {
                if let Some(sum) = rates.get_mut(node.node.as_str()) {
                    *sum += node.rps;
                }
            }
            if (answer.unix_ms - unix_ms()).abs() > CLOCKS {
                off = Some(id);
            }
        }
        if let Some(gateway) = off.as_ref().filter(|_| off != watch.off) {
            tracing::error!(
                gateway,
                "its clock and ours differ by more than 30 s: shifts ramp and end apart"
            );
        }
        watch.off = off;
        rates
    }

    /// Makes a hold of this gateway's that of all.
    async fn tell(&self, shift: &Shift, hold: &Hold) -> Result<(), Status> {
        let (registry, _) = self.writable()?;
        let key = Key::Shift { region: shift.region, from: shift.from.to_string() };
        let entry = read(&**registry, &self.0.prefix.key(&key)).await?;
        let entry = entry.ok_or_else(|| Reason::ShiftNotFound.status())?;
        let stored = v1::Shift::decode(entry.value.clone()).map_err(|_| Reason::ShiftNotFound.status())?;
        let Some(held) = held(&stored, shift, hold, &self.0.gateway) else { return Ok(()) };
        let Breach { guard, node, value, limit } = &hold.breach;
        let why = format!("guard {guard} of {node}: {value:.2}, where the limit is {limit:.2}");
        let deed = Deed::new(Actor::local(&format!("{}@guard", self.0.gateway)), "GuardShift", why);
        let log = self.0.prefix.key(&Key::ShiftLog(held.id.clone()));
        let value = bytes::Bytes::from(held.encode_to_vec());
        let txn = Txn {
            expect: vec![(self.0.prefix.key(&key), entry.mod_revision)],
            puts: vec![(self.0.prefix.key(&key), value.clone(), 0), (log, value, 0)],
            deletes: Vec::new(),
        };
        self.commit(&deed, &key, &held, (Some(entry), txn)).await.map(drop)
    }
}

/// The stored shift with the hold; `None`: it is held, or no longer the one that was watched.
fn held(stored: &v1::Shift, shift: &Shift, hold: &Hold, gateway: &str) -> Option<v1::Shift> {
    let same = stored.id == *shift.id
        && (stored.start_unix_ms, stored.revert_paused_ms) == (shift.start_ms, shift.back.paused_ms);
    if !same {
        return None;
    }
    let mut held = if hold.rolls_back { change::taken_back(stored, hold.at_ms) } else { stored.clone() };
    let place = if hold.at_ms < stored.expires_unix_ms {
        &mut held.held_unix_ms
    } else {
        &mut held.revert_held_unix_ms
    };
    if *place != 0 || stored.at_once {
        return None;
    }
    *place = hold.at_ms;
    held.breach = Some(told(&hold.breach, gateway, hold.at_ms));
    Some(held)
}

/// A breach as it is told.
pub(super) fn told(breach: &Breach, gateway: &str, at_ms: i64) -> v1::ShiftBreach {
    v1::ShiftBreach {
        guard: breach.guard.to_owned(),
        node: breach.node.to_string(),
        gateway: gateway.to_owned(),
        value: breach.value,
        limit: breach.limit,
        unix_ms: at_ms,
    }
}

/// The object of the registry says the same as the hold.
fn stands(shift: &Shift, hold: &Hold) -> bool {
    let place = if hold.at_ms < shift.expires_at_ms { shift.held_ms } else { shift.back.held_ms };
    place.is_some() || shift.back.at_once
}

/// Where a shift stands here.
fn state(shift: &Shift, signal: &ShiftSignal) -> ShiftState {
    crate::registry::shift::state(&signal.seen(shift), signal.now_ms)
}

impl Watch {
    fn measure(&mut self, samples: BTreeMap<Arc<str>, Sample>, now: Instant) {
        self.gauges.retain(|node, _| samples.contains_key(node));
        for (node, sample) in samples {
            self.gauges.entry(node).or_default().feed(sample, now);
        }
    }

    /// Keeps what the nodes did before each shift that runs.
    fn follow(&mut self, running: &[(&Arc<Shift>, ShiftSignal)]) {
        self.before.retain(|id, _| running.iter().any(|(shift, _)| shift.id == *id));
        for (shift, signal) in running {
            let back = state(shift, signal) == ShiftState::Reverting;
            if self.before.get(&shift.id).is_none_or(|before| before.back != back) {
                let nodes = self.gauges.iter();
                let nodes = nodes.filter_map(|(node, gauge)| Some((node.clone(), gauge.read()?))).collect();
                self.before.insert(shift.id.clone(), Before { back, nodes });
            }
        }
    }

    /// The first guard that is breached. A node that had no calls before is measured by the shift's source.
    fn breach(
        &self,
        shift: &Shift,
        signal: &ShiftSignal,
        snapshot: &Snapshot,
        rates: &BTreeMap<Arc<str>, f64>,
    ) -> Option<Breach> {
        let before = self.before.get(&shift.id)?;
        let held = if before.back { shift.back.held_ms } else { shift.held_ms };
        if held.is_some() || shift.back.at_once || signal.held.is_some() {
            return None;
        }
        let source = [(shift.from.clone(), 1.0)];
        let receiving = if before.back { &source[..] } else { &shift.to[..] };
        receiving.iter().find_map(|(node, _)| {
            let own = before.nodes.get(node).copied();
            let then = own.or_else(|| before.nodes.get(&shift.from).copied());
            let rps_max = snapshot.table.nodes.get(node)?.rps_max.filter(|max| *max > 0);
            let utilization = rps_max.and_then(|max| Some(rates.get(node)? / f64::from(max)));
            let now = self.gauges.get(node).and_then(Gauge::read);
            breach(&shift.guards, node, now, then, utilization)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{registry::shift::tests::order, shifts::Holds};
    use suiyue_proto::{region::Code, v1::ShiftEnd};

    fn stored() -> v1::Shift {
        v1::Shift {
            id: "s1".to_owned(),
            order: Some(order()),
            start_unix_ms: 1_000,
            expires_unix_ms: 100_000,
            ..v1::Shift::default()
        }
    }

    fn shift(stored: &v1::Shift) -> Shift {
        crate::registry::shift::check(stored, Code::new(440_100).unwrap(), "suikang").unwrap()
    }

    fn breached() -> Breach {
        Breach { guard: "errors", node: "yuekang".into(), value: 9.0, limit: 2.0 }
    }

    #[test]
    fn a_hold_is_written_once_and_only_over_the_stretch_that_was_watched() {
        let table = shift(&stored());
        let hold = Hold::new(&table, 40_000, breached());
        let after = held(&stored(), &table, &hold, "gw-1").unwrap();
        assert_eq!((after.held_unix_ms, after.expires_unix_ms), (40_000, 100_000));
        assert_eq!(after.breach.as_ref().map(|breach| breach.gateway.as_str()), Some("gw-1"));
        assert!(!stands(&table, &hold) && stands(&shift(&after), &hold));
        assert_eq!(held(&after, &table, &hold, "gw-2"), None, "another gateway was first");
        let resumed = v1::Shift { start_unix_ms: 9_000, ..stored() };
        assert_eq!(held(&resumed, &table, &hold, "gw-1"), None);
        let holds = Holds::default();
        holds.hold(&table, hold);
        assert!(holds.of(&shift(&resumed)).is_none());
    }

    #[test]
    fn a_breach_takes_back_where_so_ordered_and_holds_the_way_back() {
        let back = v1::ShiftOrder { on_breach: v1::OnBreach::Rollback.into(), ..order() };
        let stored = v1::Shift { order: Some(back), ..stored() };
        let table = shift(&stored);
        let hold = Hold::new(&table, 40_000, breached());
        let after = held(&stored, &table, &hold, "gw-1").unwrap();
        assert_eq!((after.end(), after.at_once), (ShiftEnd::RolledBack, true));
        assert_eq!(shift(&after).percent_at(40_000), 0.0);
        // While it walks back there is nothing to take back.
        let hold = Hold::new(&table, 100_010, breached());
        let after = held(&stored, &table, &hold, "gw-1").unwrap();
        assert_eq!((after.revert_held_unix_ms, after.at_once), (100_010, false));
        assert!(stands(&shift(&after), &hold));
    }
}
