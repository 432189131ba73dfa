//! Who answered which call of which phase?
//!
//! A call belongs to the phase in which it was due. Each phase notes when its event had happened; a
//! call due half a second after that is *settled*: from there on, a dead node must not matter to it.

use crate::load::{
    record::{Observe, Record},
    tally::Tally,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use suiyue_proto::region::Code;
use tokio::time::Instant;

use super::federation::GUANGZHOU;

/// From the event on, the gateway has this long to notice.
const SETTLED_AFTER: Duration = Duration::from_millis(500);

/// The account of a play.
#[derive(Default)]
pub(super) struct Ledger(Mutex<Books>);

#[derive(Default)]
struct Books {
    phases: Vec<Phase>,
    lately: BTreeMap<(Code, Arc<str>), Recent>,
    faults: BTreeMap<String, u64>,
}

/// One phase.
#[derive(Debug, Clone)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    pub(super) begun: Instant,
    event_over: Option<Instant>,
    pub(super) tally: Tally,
    pub(super) served_by: BTreeMap<Arc<str>, u64>,
    pub(super) guangzhou: BTreeMap<Arc<str>, u64>,
    pub(super) guangzhou_settled: BTreeMap<Arc<str>, u64>,
}

/// What one node did for one region since somebody last looked.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent {
    pub(super) tally: Tally,
    pub(super) tier: Option<u8>,
}

impl Ledger {
    /// A phase begins now.
    pub(super) fn begin(&self, name: &'static str) {
        self.books(|books| {
            books.phases.push(Phase {
                name,
                begun: Instant::now(),
                event_over: None,
                tally: Tally::default(),
                served_by: BTreeMap::new(),
                guangzhou: BTreeMap::new(),
                guangzhou_settled: BTreeMap::new(),
            });
        });
    }

    /// The event of the latest phase has happened now.
    pub(super) fn settle(&self) {
        self.books(|books| {
            if let Some(phase) = books.phases.last_mut() {
                phase.event_over = Some(Instant::now());
            }
        });
    }

    /// The phases so far.
    pub(super) fn phases(&self) -> Vec<Phase> {
        self.books(|books| books.phases.clone())
    }

    /// What went wrong so far, with how often.
    pub(super) fn faults(&self) -> BTreeMap<String, u64> {
        self.books(|books| books.faults.clone())
    }

    /// What happened since the last look.
    pub(super) fn lately(&self) -> BTreeMap<(Code, Arc<str>), Recent> {
        self.books(|books| std::mem::take(&mut books.lately))
    }

    fn books<T>(&self, act: impl FnOnce(&mut Books) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observe for Ledger {
    fn record(&self, record: &Record) {
        self.books(|books| books.add(record));
    }
}

impl Books {
    fn add(&mut self, record: &Record) {
        let node = record.served.node.clone().unwrap_or_else(|| "-".into());
        let recent = self.lately.entry((record.region, Arc::clone(&node))).or_default();
        recent.tally.add(record);
        recent.tier = record.served.tier.or(recent.tier);
        if let Some(fault) = fault(record) {
            *self.faults.entry(fault).or_default() += 1;
        }
        // A call that is due at the very moment the first phase begins belongs to it.
        let phase = self.phases.iter().rposition(|phase| phase.begun <= record.due).unwrap_or(0);
        if let Some(phase) = self.phases.get_mut(phase) {
            phase.add(record, node);
        }
    }
}

impl Phase {
    fn add(&mut self, record: &Record, node: Arc<str>) {
        self.tally.add(record);
        *self.served_by.entry(Arc::clone(&node)).or_default() += 1;
        if record.region != GUANGZHOU {
            return;
        }
        *self.guangzhou.entry(Arc::clone(&node)).or_default() += 1;
        if self.event_over.is_some_and(|over| record.due >= over + SETTLED_AFTER) {
            *self.guangzhou_settled.entry(node).or_default() += 1;
        }
    }
}

fn fault(record: &Record) -> Option<String> {
    use crate::load::record::Outcome;
    match &record.outcome {
        Outcome::Ok => None,
        Outcome::WrongVerdict(verdict) => Some(format!("WRONG_VERDICT {verdict}")),
        Outcome::Failed { code, reason } => Some(format!("{code} {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{
        mix::Kind,
        record::{Outcome, ServedBy},
    };

    fn call(due: Instant, node: &str) -> Record {
        Record {
            due,
            kind: Kind::Show,
            region: GUANGZHOU,
            latency: Duration::from_millis(1),
            served: ServedBy { node: Some(node.into()), tier: Some(0), attempt: 1 },
            outcome: Outcome::Ok,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_belongs_to_the_phase_in_which_it_was_due() {
        let ledger = Ledger::default();
        let early = Instant::now() - Duration::from_millis(1);
        ledger.begin("first");
        tokio::time::advance(Duration::from_secs(1)).await;
        let first = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        ledger.begin("second");
        // Its answer comes when the second phase has begun.
        for due in [early, first, Instant::now()] {
            ledger.record(&call(due, "suikang"));
        }
        let calls: Vec<_> = ledger.phases().iter().map(|phase| phase.tally.calls).collect();
        assert_eq!(calls, [2, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_settle_half_a_second_after_the_event() {
        let ledger = Ledger::default();
        ledger.begin("killed");
        ledger.record(&call(Instant::now() + Duration::from_secs(2), "before"));
        tokio::time::advance(Duration::from_secs(1)).await;
        ledger.settle();
        ledger.record(&call(Instant::now() + Duration::from_millis(499), "suikang"));
        ledger.record(&call(Instant::now() + Duration::from_millis(500), "yuekang"));
        let phase = &ledger.phases()[0];
        assert_eq!(phase.guangzhou.len(), 3);
        assert_eq!(phase.guangzhou_settled, [("yuekang".into(), 1)].into());
    }
}
