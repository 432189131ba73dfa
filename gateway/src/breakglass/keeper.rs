//! Does the audit hear of it, and does everybody notice?
//!
//! What was done is told to the audit in the registry as soon as that can be written, in its order, each
//! entry once: one transaction writes the entry and raises the number in `breakglass/{journal}`, and only from
//! the number before. Who does not know whether it was written reads that number. While anything is in force
//! the log says so every minute.

use super::{Glass, told};
use crate::{
    audit::{
        Audit, Failure, Value, What,
        actor::{Actor, Deed},
    },
    registry::{
        Outcome, Registry, Txn,
        keys::{Key, Prefix},
    },
};
use prost::Message as _;
use std::{sync::Arc, time::Duration};
use suiyue_proto::v1::{BreakglassEntry, BreakglassTold};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What is in force is said this often.
const ALARM: Duration = Duration::from_secs(60);
/// A registry that cannot be written is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);
/// A write that takes longer is looked at again.
const WRITE_WITHIN: Duration = Duration::from_secs(5);

/// What an entry of the journal was done by; others are of another version.
const METHODS: [&str; 3] = [super::ORDERED, super::CANCELLED, super::GUARDED];

/// Where the audit is.
#[derive(Clone)]
pub struct Books {
    /// What writes entries.
    pub audit: Audit,
    /// The registry.
    pub registry: Arc<dyn Registry>,
    /// Where its keys begin.
    pub prefix: Prefix,
    /// Name of this gateway.
    pub gateway: String,
}

/// Keeps the journal tidy, tells the audit, and says what is in force, until `shutdown`.
pub async fn keep(glass: Glass, books: Option<Books>, shutdown: CancellationToken) {
    let keeping = async {
        let mut said = None;
        loop {
            let tidied = glass.tidy().await;
            let mut behind = tidied.is_err();
            match tidied {
                Ok(over) => over.iter().for_each(|action| {
                    tracing::warn!(id = %action.id, "break-glass is over: {}", told(action));
                }),
                Err(error) => tracing::error!(%error, "the break-glass journal cannot be written"),
            }
            if let Some(books) = &books {
                behind |= !tell_all(&glass, books).await;
            }
            alarm(&glass, &mut said);
            wait(&glass, behind, said).await;
        }
    };
    shutdown.run_until_cancelled(keeping).await.unwrap_or_default()
}

/// Until something has changed or is due.
async fn wait(glass: &Glass, behind: bool, said: Option<Instant>) {
    let now = Instant::now();
    let due = [
        glass.next_end().map(Instant::from_std).filter(|end| *end > now),
        behind.then_some(now + RETRY),
        said.map(|said| said + ALARM),
    ];
    let due = due.into_iter().flatten().min();
    tokio::select! {
        () = glass.changed() => {}
        () = async { tokio::time::sleep_until(due.unwrap_or(now)).await }, if due.is_some() => {}
    }
}

/// Says it when it begins, and every minute.
fn alarm(glass: &Glass, said: &mut Option<Instant>) {
    let in_force = glass.sentences();
    if in_force.is_empty() {
        *said = None;
    } else if said.is_none_or(|said| said.elapsed() >= ALARM) {
        let (count, untold) = (in_force.len(), glass.untold());
        tracing::warn!(count, untold, "BREAK-GLASS IN FORCE at this gateway only: {}", in_force.join("; "));
        *said = Some(Instant::now());
    }
}

/// The audit has everything now.
async fn tell_all(glass: &Glass, books: &Books) -> bool {
    while let Some((journal, entry)) = glass.first_untold() {
        let told = tokio::time::timeout(WRITE_WITHIN, books.tell(&journal, &entry)).await;
        match told {
            Ok(Ok(true)) => {}
            // Somebody else wrote at the same time, or it is not known: it is read again.
            Ok(Ok(false)) | Err(_) => return false,
            Ok(Err(error)) => {
                tracing::debug!(%error, number = entry.number, "the audit does not hear of break-glass yet");
                return false;
            }
        }
        tracing::info!(number = entry.number, "the audit has heard of break-glass: {}", entry.text);
        if let Err(error) = glass.has_told(entry.number).await {
            tracing::error!(%error, "the break-glass journal cannot be written");
            return false;
        }
    }
    true
}

impl Books {
    /// Writes an entry if the audit does not have it; false: it may not have it yet.
    async fn tell(&self, journal: &str, entry: &BreakglassEntry) -> Result<bool, Failure> {
        let key = self.prefix.key(&Key::Breakglass(journal.to_owned()));
        let listing = self.registry.list(&key).await?;
        let present = listing.entries.into_iter().find(|present| present.key == key);
        let known = present.as_ref().and_then(|present| BreakglassTold::decode(present.value.clone()).ok());
        if known.is_some_and(|known| known.number >= entry.number) {
            return Ok(true);
        }
        let message = BreakglassTold { gateway: self.gateway.clone(), number: entry.number };
        let change = Txn {
            expect: vec![(key.clone(), present.map_or(0, |present| present.mod_revision))],
            puts: vec![(key, message.encode_to_vec().into(), 0)],
            deletes: Vec::new(),
        };
        let value = Value { bytes: entry.encode_to_vec().into(), text: entry.text.clone() };
        let what = What {
            key: format!("breakglass/{journal}/{}", entry.action),
            after: Some(value),
            ..What::default()
        };
        let method = METHODS.into_iter().find(|method| *method == entry.method).unwrap_or("Breakglass");
        let deed = Deed::new(Actor::local(&entry.actor), method, entry.reason.clone());
        Ok(matches!(self.audit.commit(&deed, &what, &change).await?, Outcome::Committed(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        breakglass::{journal::Journal, tests::drain},
        registry::embedded::Embedded,
    };

    async fn glass(dir: &std::path::Path) -> Glass {
        Glass::open(Journal::open(dir).unwrap(), true).unwrap()
    }

    fn books(registry: &Embedded) -> Books {
        let registry: Arc<dyn Registry> = Arc::new(registry.clone());
        let (prefix, gateway) = (Prefix::default(), "gw-1".to_owned());
        let audit = Audit::new(registry.clone(), prefix.clone(), &gateway);
        Books { audit, registry, prefix, gateway }
    }

    fn entry(text: &str) -> BreakglassEntry {
        let (method, actor) = (super::super::ORDERED.to_owned(), "root@gw-1".to_owned());
        BreakglassEntry { method, actor, text: text.to_owned(), action: "a".to_owned(), ..Default::default() }
    }

    async fn told(registry: &Embedded) -> Vec<String> {
        let records = registry.list("/suiyue/v1/audit/").await.unwrap().entries;
        let records = records.into_iter().filter(|entry| !entry.key.ends_with("/head"));
        let text = |entry: crate::registry::Entry| {
            let record = suiyue_proto::v1::AuditRecord::decode(entry.value).unwrap();
            suiyue_proto::v1::AuditEntry::decode(record.entry).unwrap().after
        };
        records.map(text).collect()
    }

    #[tokio::test]
    async fn the_audit_hears_of_everything_in_its_order_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let (glass, registry) = (glass(dir.path()).await, Embedded::new());
        for (id, text) in [("a", "one"), ("b", "two"), ("c", "three")] {
            glass.order(drain(id, id, 60), entry(text)).await.unwrap();
        }
        let books = books(&registry);
        // The process dies after the first is told, before the journal knows.
        let (journal, first) = glass.first_untold().unwrap();
        assert!(books.tell(&journal, &first).await.unwrap());
        assert_eq!(glass.untold(), 3);
        let again = self::glass(dir.path()).await;
        assert!(tell_all(&again, &books).await);
        assert!(tell_all(&again, &books).await);
        assert_eq!(told(&registry).await, ["one", "two", "three"]);
        assert_eq!((again.untold(), self::glass(dir.path()).await.untold()), (0, 0));
        // Another journal of the same gateway counts for itself.
        let other = tempfile::tempdir().unwrap();
        let other = self::glass(other.path()).await;
        other.order(drain("d", "d", 60), entry("four")).await.unwrap();
        assert!(tell_all(&other, &books).await);
        assert_eq!(told(&registry).await.len(), 4);
    }
}
