//! What do others see of the follower, and what may they order?
//!
//! A [`Status`] is a handle on the follower's books: clones see the same. Operators' orders (freeze,
//! accept) change the books and wake the follower, which alone publishes.

use crate::registry::{
    Entry, Error,
    books::{Books, Freeze},
    guard::Held,
    keys::{Key, Prefix},
    last_known_good::Saved,
};
use prost::Message as _;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use suiyue_proto::v1;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// A registry that is away for this long needs a person.
pub(super) const ALARM: Duration = Duration::from_secs(3600);
/// Clocks of gateways that differ by more than this need a person: orders run by the clock.
const CLOCK_OFFSET: Duration = Duration::from_secs(30);

/// How fresh the table is.
#[derive(Debug, Clone, Default)]
pub struct Freshness {
    /// Revision up to which every change is known, presence of gateways included; 0: none yet.
    pub revision: i64,
    /// When the registry last said so.
    pub confirmed: Option<Instant>,
    /// What went wrong since; `None` while all is well.
    pub error: Option<Error>,
    /// When the copy was written that the table was made from, in milliseconds since 1970; `None` once
    /// the registry itself was heard.
    pub copied_unix_ms: Option<i64>,
}

impl Freshness {
    /// Time since the registry last said that it is so, as far back as the copy on disk goes.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let copied = self
            .copied_unix_ms
            .map(|at| unix_now().saturating_sub(Duration::from_millis(u64::try_from(at).unwrap_or(0))));
        self.confirmed.map(|at| at.elapsed()).or(copied)
    }

    /// When the registry last said that it is so, in milliseconds since 1970, by this machine's clock;
    /// `None`: never.
    #[must_use]
    pub fn heard_unix_ms(&self) -> Option<i64> {
        let heard = self.confirmed.map(|at| millis(unix_now().saturating_sub(at.elapsed())));
        heard.or(self.copied_unix_ms)
    }
}

/// What a person should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// One word, for programs.
    pub word: &'static str,
    /// One sentence.
    pub text: String,
}

/// Words of all alarms, in the order in which they are told.
pub const ALARMS: [&str; 8] = [
    "nothing_known",
    "registry_away",
    "registry_restored",
    "entries_held",
    "frozen",
    "copy_failed",
    "clock_offset",
    "limits_differ",
];

/// A gateway that is present.
#[derive(Debug, Clone, PartialEq)]
pub struct Present {
    /// Its id.
    pub id: String,
    /// What it says of itself.
    pub said: v1::GatewayPresence,
    /// How far its clock is ahead of ours, in milliseconds; `None`: it was not heard since we watch.
    pub offset_ms: Option<i64>,
}

/// Lets others see what the follower knows. Clones see the same.
#[derive(Debug, Clone)]
pub struct Status {
    known: Arc<Mutex<Known>>,
    /// Counts up with every table that was made from what the registry said.
    pub(super) changes: watch::Sender<u64>,
    /// An operator has changed the books.
    pub(super) ordered: Arc<Notify>,
}

#[derive(Debug)]
pub(super) struct Known {
    pub(super) prefix: Prefix,
    pub(super) freshness: Freshness,
    pub(super) books: Books,
    /// What the follower waits for while it knows nothing at all.
    pub(super) waiting: Option<String>,
    /// The registry itself was heard.
    pub(super) listed: bool,
    started: Instant,
    /// When a copy was last written, or that it failed.
    copied: Option<Result<i64, String>>,
    /// Clocks of other gateways, in milliseconds ahead of ours.
    offsets: BTreeMap<String, i64>,
}

impl Status {
    pub(super) fn new(prefix: Prefix, books: Books) -> Self {
        let known = Known {
            prefix,
            freshness: Freshness::default(),
            books,
            waiting: Some("the registry has not answered yet".to_owned()),
            listed: false,
            started: Instant::now(),
            copied: None,
            offsets: BTreeMap::new(),
        };
        Self {
            known: Arc::new(Mutex::new(known)),
            changes: watch::Sender::new(0),
            ordered: Arc::new(Notify::new()),
        }
    }

    /// One that has heard of nothing.
    #[cfg(test)]
    pub(crate) fn new_for_tests() -> Self {
        Self::new(Prefix::default(), Books::new(Prefix::default(), []))
    }

    /// How fresh the table is.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.known().freshness.clone()
    }

    /// Every entry below the prefix, as it is applied.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.known().books.applied().values().cloned().collect()
    }

    /// The entry of a key, as last heard of: what a write is compared with.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<Entry> {
        self.known().books.heard().get(key).cloned()
    }

    /// How many gateways are present, as last heard of.
    #[must_use]
    pub fn gateways(&self) -> u32 {
        let known = self.known();
        let present = |key: &&String| known.prefix.is_presence(key);
        let heard = known.books.heard();
        let missing = known.books.held().keys().filter(|key| !heard.contains_key(*key));
        let count = heard.keys().filter(present).count() + missing.filter(present).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Gateways that are present, by id.
    #[must_use]
    pub fn present(&self) -> Vec<Present> {
        let known = self.known();
        let heard = known.books.heard().values().filter(|entry| known.prefix.is_presence(&entry.key));
        let present = heard.filter_map(|entry| {
            let Ok(Key::Gateway(id)) = known.prefix.parse(&entry.key) else { return None };
            let said = v1::GatewayPresence::decode(entry.value.clone()).ok()?;
            Some(Present { offset_ms: known.offsets.get(&id).copied(), id, said })
        });
        present.collect()
    }

    /// Looks at the books.
    pub fn books<T>(&self, look: impl FnOnce(&Books) -> T) -> T {
        look(&self.known().books)
    }

    /// What is held, by key; presence of gateways is left out.
    #[must_use]
    pub fn held(&self) -> BTreeMap<String, Held> {
        let known = self.known();
        let held = known.books.held().iter().filter(|(key, _)| !known.prefix.is_silent(key));
        held.map(|(key, held)| (key.clone(), held.clone())).collect()
    }

    /// What the follower waits for, while it knows nothing at all.
    #[must_use]
    pub fn waiting(&self) -> Option<String> {
        self.known().waiting.clone()
    }

    /// When a copy was last written to the disk, in milliseconds since 1970; 0: not since the start.
    #[must_use]
    pub fn copied_unix_ms(&self) -> i64 {
        self.known().copied.as_ref().and_then(|copied| copied.as_ref().ok().copied()).unwrap_or(0)
    }

    /// What a person should look at, the worst first.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        self.known().alarms()
    }

    /// Keeps what is applied as it is, until [`thaw`](Self::thaw) or the end of the process; whether
    /// that is new.
    #[must_use]
    pub fn freeze(&self, reason: &str) -> bool {
        let new = self.known().books.freeze_now(reason.to_owned(), millis(unix_now()));
        if new {
            tracing::warn!(reason, "this gateway is frozen: it applies nothing that the registry says");
        }
        new
    }

    /// Goes on with what was heard meanwhile; whether it was frozen.
    #[must_use]
    pub fn thaw(&self) -> bool {
        let was = self.known().books.thaw();
        if was {
            tracing::warn!("the freeze is over: what the registry said meanwhile is applied");
            self.ordered.notify_one();
        }
        was
    }

    /// The freeze in force.
    #[must_use]
    pub fn frozen(&self) -> Option<Freeze> {
        self.known().books.freeze().cloned()
    }

    /// Applies the absences that are held back, if `is_shown` says of the books that it is still what was
    /// looked at; what was held, presence left out. `None`: it is something else, and nothing was done.
    #[must_use]
    pub fn accept(
        &self,
        reason: &str,
        is_shown: impl FnOnce(&Books) -> bool,
    ) -> Option<BTreeMap<String, Held>> {
        let mut known = self.known();
        if !is_shown(&known.books) {
            return None;
        }
        let mut held = known.books.accept();
        held.retain(|key, _| !known.prefix.is_silent(key));
        drop(known);
        tracing::warn!(entries = held.len(), reason, "an operator accepts the absences that were held");
        self.ordered.notify_one();
        Some(held)
    }

    /// Tells when the registry said something new; presence of gateways is nothing new.
    pub(in crate::registry) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What is applied now, for the disk or for another gateway; `None`: nothing yet.
    pub(in crate::registry) fn saved(&self, unix_ms: i64) -> Option<Saved> {
        let known = self.known();
        if known.books.revision() == 0 {
            return None;
        }
        let (entries, held) = known.books.copy();
        let (cluster, revision) = (known.books.cluster(), known.books.revision());
        Some(Saved { cluster, revision, unix_ms, entries, held })
    }

    /// A copy was written at this time, or could not be.
    pub(in crate::registry) fn note_copy(&self, copied: Result<i64, String>) {
        self.known().copied = Some(copied);
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Notes how far another gateway's clock is ahead: it has just written this.
    pub(super) fn note_clock(&mut self, entry: &Entry) {
        let Ok(Key::Gateway(id)) = self.prefix.parse(&entry.key) else { return };
        if let Ok(said) = v1::GatewayPresence::decode(entry.value.clone()) {
            self.offsets.insert(id, said.unix_ms.saturating_sub(millis(unix_now())));
        }
    }

    /// For how long the registry was not heard.
    pub(super) fn away(&self) -> Duration {
        self.freshness.confirmed.unwrap_or(self.started).elapsed()
    }

    fn alarms(&self) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        let mut say = |word, text| alarms.push(Alarm { word, text });
        if let Some(waiting) = &self.waiting {
            say("nothing_known", format!("no table yet: {waiting}"));
        }
        if self.away() >= ALARM {
            let minutes = self.away().as_secs() / 60;
            say(
                "registry_away",
                format!("the registry has been away for {minutes} min: changes are not seen"),
            );
        }
        if let Some(restored) = self.books.restored() {
            let text = format!("{restored}: what was known before is held until `suiyue registry accept`");
            say("registry_restored", text);
        }
        let held = self.books.held().keys().filter(|key| !self.prefix.is_silent(key)).count();
        if held > 0 {
            let text = format!("{held} keys are held although the registry has them no more, or otherwise");
            say("entries_held", text);
        }
        if let Some(freeze) = self.books.freeze() {
            say("frozen", format!("nothing that the registry says is applied: {}", freeze.reason));
        }
        if let Some(Err(error)) = &self.copied {
            say("copy_failed", format!("the registry cannot be copied to disk: {error}"));
        }
        let present =
            |id: &str| self.books.heard().contains_key(&self.prefix.key(&Key::Gateway(id.to_owned())));
        let off = |ms: i64| Duration::from_millis(ms.unsigned_abs()) > CLOCK_OFFSET;
        for (id, ms) in self.offsets.iter().filter(|(id, ms)| off(**ms) && present(id)) {
            say("clock_offset", format!("the clock of {id} is {} s ahead of this gateway's", ms / 1000));
        }
        if let Some(text) = self.limits_differ() {
            say("limits_differ", text);
        }
        alarms
    }
}

impl Known {
    /// Which limits of operators live gateways announce, where they are not the same.
    fn limits_differ(&self) -> Option<String> {
        let present = self.books.heard().values().filter(|entry| self.prefix.is_presence(&entry.key));
        let limits = present.filter_map(|entry| {
            let Ok(Key::Gateway(id)) = self.prefix.parse(&entry.key) else { return None };
            let limits = v1::GatewayPresence::decode(entry.value.clone()).ok()?.limits?;
            Some((id, format!("{} and {} s", limits.two_person_above, limits.canary_step_s)))
        });
        let mut by_limits: BTreeMap<String, Vec<String>> = BTreeMap::new();
        limits.for_each(|(id, limits)| by_limits.entry(limits).or_default().push(id));
        let sides = by_limits.iter().map(|(limits, ids)| format!("{limits} at {}", ids.join(" and ")));
        let sides: Vec<String> = sides.collect();
        (sides.len() > 1).then(|| {
            format!("gateways have other [shifts] (two_person_above, canary_step_s): {}", sides.join(", "))
        })
    }
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
