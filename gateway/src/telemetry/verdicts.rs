//! What did the nodes judge the codes to be?
//!
//! Nodes say it in their answers' metadata ([`suiyue_proto::verdict`]). Like calls, verdicts are counted by
//! each worker in places of its own and added up by a scrape.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use suiyue_proto::verdict::{Kind, Tally};

/// Codes of one region judged by one node, counted by one worker.
#[derive(Debug, Default)]
pub(super) struct Judged([AtomicU64; Kind::ALL.len()]);

impl Judged {
    /// Counts one answer. Only the worker that owns the counters may do so.
    pub(super) fn count(&self, tally: Tally) {
        for (counter, kind) in self.0.iter().zip(Kind::ALL) {
            let n = tally.of(kind);
            if n > 0 {
                counter.store(counter.load(Relaxed).wrapping_add(n.into()), Relaxed);
            }
        }
    }
}

type Cells = HashMap<(Arc<str>, u32), Vec<(usize, Arc<Judged>)>>;

/// All workers' counters, by node and region.
#[derive(Debug, Default)]
pub(super) struct Verdicts(Mutex<Cells>);

impl Verdicts {
    /// A worker's counters for a node and a region.
    pub(super) fn of(&self, worker: usize, node: &Arc<str>, region: u32) -> Arc<Judged> {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by_worker = cells.entry((node.clone(), region)).or_default();
        if let Some((_, judged)) = by_worker.iter().find(|(owner, _)| *owner == worker) {
            return judged.clone();
        }
        let judged = Arc::new(Judged::default());
        by_worker.push((worker, judged.clone()));
        judged
    }

    /// The sums, by node and region, in the order of [`Kind::ALL`].
    pub(super) fn sums(&self) -> BTreeMap<(Arc<str>, u32), [u64; Kind::ALL.len()]> {
        let cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |by_worker: &Vec<(usize, Arc<Judged>)>| {
            Kind::ALL.map(|kind| by_worker.iter().map(|(_, j)| j.0[kind as usize].load(Relaxed)).sum())
        };
        cells.iter().map(|(key, by_worker)| (key.clone(), sum(by_worker))).collect()
    }
}
