//! What did somebody on this machine order past the registry?
//!
//! With etcd away, or while nobody can wait for it, a person on a gateway's machine may drain and undrain
//! nodes and shift calls at this one gateway ([`socket`]). An action lies over the table ([`over`]) until its
//! end, 30 minutes later at most, by the monotonic clock, or when it is cancelled; nothing renews it.
//!
//! ```text
//!   order ─► judged (operator) ─► journal, on the disk ─► over the table, at this gateway
//!                                    └─► the audit, when the registry can be written ([`keeper`])
//! ```
//! One action a subject: a node, or a source in a region. A later one takes its place, and an action counts
//! instead of what the registry says of the same subject, which is in force again when it ends. What is in
//! force survives the death of the process ([`journal`]); what is not on the disk was never in force.

pub mod journal;
pub mod keeper;
pub mod over;
pub mod socket;

use crate::{clock::unix_ms, table::Table};
use journal::Journal;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use suiyue_proto::v1::{self, BreakglassAction, BreakglassEntry, breakglass_action::What};
use tokio::sync::Notify;

/// No action lasts longer.
pub const TTL_MAX: Duration = Duration::from_secs(30 * 60);
/// An action lasts so long where the order says nothing.
pub const TTL: Duration = Duration::from_secs(15 * 60);
/// An action was ordered, ended, or held by a guard: words of the audit.
pub const ORDERED: &str = "OrderBreakglass";
/// See [`ORDERED`].
pub const CANCELLED: &str = "CancelBreakglass";
/// See [`ORDERED`].
pub const GUARDED: &str = "GuardBreakglass";
/// Actions that are in force at once.
pub const MAX_ACTIONS: usize = 64;
/// Entries that wait for the audit.
const MAX_UNTOLD: usize = 1_000;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Too much is in force, or waits for the audit.
    #[error("too much is in force or waits for the audit")]
    Full,
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

/// What is in force at this gateway past the registry. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Glass(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    journal: Option<Journal>,
    /// Entries are kept for the audit.
    audited: bool,
    state: Mutex<State>,
    /// Changes are written one after the other.
    writing: tokio::sync::Mutex<()>,
    changed: Notify,
    /// For whoever makes plans.
    turned: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// As it stands on the disk.
    kept: v1::BreakglassJournal,
    /// When actions end, by id.
    until: BTreeMap<String, Instant>,
    /// Raised with every change of the actions.
    version: u64,
    last: Option<Last>,
}

/// The table that was made last.
#[derive(Debug)]
struct Last {
    base: Arc<Table>,
    version: u64,
    in_force: usize,
    over: Arc<Table>,
}

impl Glass {
    /// With what the journal says was in force when the process ended. `audited`: there is a registry that
    /// is told later.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn open(journal: Journal, audited: bool) -> Result<Self, journal::Error> {
        let mut kept = journal.read()?;
        let (wall, now) = (unix_ms(), Instant::now());
        kept.actions.retain(|action| left(action, wall) > Duration::ZERO);
        let until = kept.actions.iter().map(|action| (action.id.clone(), now + left(action, wall))).collect();
        for action in &kept.actions {
            tracing::warn!(id = %action.id, "break-glass is in force since before the start: {}", told(action));
        }
        let state = Mutex::new(State { kept, until, ..State::default() });
        Ok(Self(Arc::new(Inner { journal: Some(journal), audited, state, ..Inner::default() })))
    }

    /// The table as it counts here. The very same one while nothing is in force.
    #[must_use]
    pub fn over(&self, base: &Arc<Table>, now: Instant) -> Arc<Table> {
        let mut state = self.state();
        if state.kept.actions.is_empty() {
            state.last = None;
            return base.clone();
        }
        let actions = state.in_force(now);
        let (version, in_force) = (state.version, actions.len());
        if let Some(last) = &state.last
            && Arc::ptr_eq(&last.base, base)
            && (last.version, last.in_force) == (version, in_force)
        {
            return last.over.clone();
        }
        let over = if in_force == 0 { base.clone() } else { Arc::new(over::over(base, &actions)) };
        state.last = Some(Last { base: base.clone(), version, in_force, over: over.clone() });
        over
    }

    /// What is in force, the oldest first.
    #[must_use]
    pub fn in_force(&self) -> Vec<BreakglassAction> {
        self.state().in_force(Instant::now())
    }

    /// One sentence for each action in force.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        self.in_force().iter().map(told).collect()
    }

    /// The shift of this id is one of these actions.
    #[must_use]
    pub fn owns(&self, id: &str) -> bool {
        self.state().kept.actions.iter().any(|action| action.id == id)
    }

    /// Entries that the audit does not have yet.
    #[must_use]
    pub fn untold(&self) -> usize {
        self.state().kept.untold.len()
    }

    /// The actions with this one, and those that it takes the place of.
    #[must_use]
    pub fn with(&self, action: &BreakglassAction) -> (Vec<BreakglassAction>, Vec<BreakglassAction>) {
        let (replaced, mut stay): (Vec<_>, Vec<_>) =
            self.in_force().into_iter().partition(|other| same_subject(other, action));
        stay.push(action.clone());
        (stay, replaced)
    }

    /// Puts an action in force, once it is on the disk. Not cancel safe: what was begun is done.
    ///
    /// # Errors
    /// Nothing is in force then that was not before.
    pub async fn order(&self, action: BreakglassAction, entry: BreakglassEntry) -> Result<(), Failure> {
        self.change(move |kept| {
            kept.actions.retain(|other| !same_subject(other, &action));
            // What ends something is always taken: only what begins waits for room.
            if kept.actions.len() >= MAX_ACTIONS || kept.untold.len() >= MAX_UNTOLD {
                return Err(Failure::Full);
            }
            kept.actions.push(action);
            Ok(vec![entry])
        })
        .await
    }

    /// Replaces actions by what they have become; `None`: nothing is left of it.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub async fn replace(
        &self,
        changed: Vec<(String, Option<BreakglassAction>)>,
        entries: Vec<BreakglassEntry>,
    ) -> Result<(), Failure> {
        self.change(move |kept| {
            for (id, action) in changed {
                let Some(at) = kept.actions.iter().position(|other| other.id == id) else { continue };
                match action {
                    Some(action) => kept.actions[at] = action,
                    None => drop(kept.actions.remove(at)),
                }
            }
            Ok(entries)
        })
        .await
    }

    /// Forgets actions whose time is over. Those that were.
    ///
    /// # Errors
    /// They are not in force all the same.
    pub async fn tidy(&self) -> Result<Vec<BreakglassAction>, Failure> {
        let now = Instant::now();
        let over: Vec<BreakglassAction> = {
            let state = self.state();
            let over = |action: &&BreakglassAction| !state.is_in_force(action, now);
            state.kept.actions.iter().filter(over).cloned().collect()
        };
        if !over.is_empty() {
            self.replace(over.iter().map(|action| (action.id.clone(), None)).collect(), Vec::new()).await?;
        }
        Ok(over)
    }

    /// The journal's id and the first entry that the audit does not have yet.
    #[must_use]
    pub fn first_untold(&self) -> Option<(String, BreakglassEntry)> {
        let state = self.state();
        state.kept.untold.first().map(|entry| (state.kept.id.clone(), entry.clone()))
    }

    /// The audit has the entries up to this number.
    ///
    /// # Errors
    /// The journal cannot be written: they are told again, which the registry finds out.
    pub async fn has_told(&self, number: u64) -> Result<(), Failure> {
        self.change(move |kept| {
            kept.untold.retain(|entry| entry.number > number);
            Ok(Vec::new())
        })
        .await
    }

    /// When the next action ends.
    #[must_use]
    pub fn next_end(&self) -> Option<Instant> {
        let state = self.state();
        state.kept.actions.iter().filter_map(|action| state.until.get(&action.id)).min().copied()
    }

    /// Tells whoever makes plans that the table counts otherwise now.
    #[must_use]
    pub fn turned(&self) -> Arc<Notify> {
        self.0.turned.clone()
    }

    /// The table is the one that counts here now.
    #[must_use]
    pub fn is_over(&self, table: &Arc<Table>) -> bool {
        let state = self.state();
        match &state.last {
            Some(last) => last.version == state.version && Arc::ptr_eq(&last.over, table),
            None => state.kept.actions.is_empty() && table.under.is_none(),
        }
    }

    /// Waits for a change. Cancel safe.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Changes a copy, writes it, and takes it over; what is told of it waits for the audit.
    async fn change(
        &self,
        change: impl FnOnce(&mut v1::BreakglassJournal) -> Result<Vec<BreakglassEntry>, Failure>,
    ) -> Result<(), Failure> {
        let _turn = self.0.writing.lock().await;
        let Some(journal) = self.0.journal.clone() else { return Err(Failure::Full) };
        let mut kept = self.state().kept.clone();
        let entries = change(&mut kept)?;
        for entry in entries.into_iter().filter(|_| self.0.audited) {
            kept.last += 1;
            kept.untold.push(BreakglassEntry { number: kept.last, ..entry });
        }
        let written = kept.clone();
        let result = tokio::task::spawn_blocking(move || journal.write(&written)).await;
        result.map_err(|_| journal::Error::broken())??;
        self.state().take(kept);
        self.0.changed.notify_one();
        self.0.turned.notify_one();
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_in_force(&self, action: &BreakglassAction, now: Instant) -> bool {
        self.until.get(&action.id).is_some_and(|until| *until > now)
    }

    fn in_force(&self, now: Instant) -> Vec<BreakglassAction> {
        self.kept.actions.iter().filter(|action| self.is_in_force(action, now)).cloned().collect()
    }

    /// An action that stands already keeps its end by the monotonic clock, unless its end was moved.
    fn take(&mut self, kept: v1::BreakglassJournal) {
        let (wall, now) = (unix_ms(), Instant::now());
        let until = kept.actions.iter().map(|action| {
            let before = self.kept.actions.iter().find(|known| known.id == action.id);
            let stays = before.filter(|known| known.ends_unix_ms == action.ends_unix_ms);
            let until = stays.and_then(|_| self.until.get(&action.id).copied());
            (action.id.clone(), until.unwrap_or_else(|| now + left(action, wall)))
        });
        self.until = until.collect();
        if self.kept.actions != kept.actions {
            self.version += 1;
        }
        self.kept = kept;
    }
}

/// The time that an action still has; never more than it was given, whatever the wall clock says.
fn left(action: &BreakglassAction, wall_ms: i64) -> Duration {
    let given = action.ends_unix_ms.saturating_sub(action.start_unix_ms);
    let left = action.ends_unix_ms.saturating_sub(wall_ms).min(given);
    Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(TTL_MAX)
}

/// Both are about the same node, or the same source in a region.
fn same_subject(a: &BreakglassAction, b: &BreakglassAction) -> bool {
    let source = |shift: &v1::Shift| shift.order.as_ref().map(|order| (order.region, order.from.clone()));
    match (&a.what, &b.what) {
        (Some(What::Shift(a)), Some(What::Shift(b))) => source(a) == source(b),
        (Some(What::Drain(a) | What::Undrain(a)), Some(What::Drain(b) | What::Undrain(b))) => a == b,
        _ => false,
    }
}

/// An action in words.
#[must_use]
pub fn told(action: &BreakglassAction) -> String {
    let what = match &action.what {
        None => "nothing".to_owned(),
        Some(What::Drain(node)) => format!("drain {node}"),
        Some(What::Undrain(node)) => format!("undrain {node}"),
        Some(What::Shift(shift)) => {
            let order = shift.order.clone().unwrap_or_default();
            let to: Vec<_> = order.to.iter().map(|to| to.target.as_str()).collect();
            let held = if shift.breach.is_some() { ", held by a guard" } else { "" };
            let (percent, from, region) = (order.percent, &order.from, order.region);
            format!("shift {percent} % of {from}'s calls of {region} to {}{held}", to.join(", "))
        }
    };
    let who = action.actor.as_ref().map(name).unwrap_or_default();
    let seconds = action.ends_unix_ms.saturating_sub(action.start_unix_ms) / 1_000;
    format!("{what}, by {who}, for {seconds} s: {}", action.reason)
}

/// The name of a user, as the audit has it.
#[must_use]
pub fn name(actor: &v1::BreakglassActor) -> String {
    let user = if actor.user.is_empty() { format!("uid-{}", actor.uid) } else { actor.user.clone() };
    if actor.says.is_empty() { user } else { format!("{user} (says {})", actor.says) }
}

#[cfg(test)]
mod tests;
