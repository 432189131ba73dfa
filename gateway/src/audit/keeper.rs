//! Which head of the audit has this gateway seen?
//!
//! Who owns the registry can write a whole new chain that is consistent in itself. So every gateway keeps
//! the last head on its own disk, and takes a newer one only where the records between them continue the
//! chain it knows. Otherwise it stays with what it has, says so, and `audit verify` names the entry.
//!
//! ```text
//!   a head is seen ──► newer, and linked back to the remembered one ──► remembered, on disk
//!                └───► anything else ──► the old one stays, an ERROR, a metric
//! ```
//! The first head that a gateway without a memory sees is believed.

use super::chain::{self, Head, Stored};
use crate::registry::{
    Change, Entry, Error, Registry, Update,
    keys::{Key, Prefix},
};
use rand::Rng as _;
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// First line of the file.
const MAGIC: &str = "suiyue audit head 1";
/// Between two looks after a loss, with jitter: from here …
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// … doubling up to here.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// What a gateway remembers of the audit. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Known>>);

/// What is remembered.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The last head that continued the chain.
    pub head: Option<Head>,
    /// When it was seen, in milliseconds since 1970.
    pub seen_ms: i64,
    /// It is kept on disk.
    pub on_disk: bool,
    /// What is wrong; `None`: all is well.
    pub problem: Option<String>,
}

impl Memory {
    /// What is remembered now.
    #[must_use]
    pub fn known(&self) -> Known {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the head.
pub struct Keeper {
    registry: Arc<dyn Registry>,
    prefix: Prefix,
    file: Option<PathBuf>,
    memory: Memory,
    /// The file holds something that is no memory: it is left for a person to look at.
    damaged: bool,
}

impl Keeper {
    /// A keeper that remembers in `dir`, or until the end of the process; `memory` shows what.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>, prefix: Prefix, dir: Option<&Path>, memory: Memory) -> Self {
        let file = dir.map(|dir| dir.join("head"));
        let mut keeper = Self { registry, prefix, file, memory, damaged: false };
        keeper.recall();
        keeper
    }

    fn recall(&mut self) {
        let Some(path) = &self.file else { return };
        let read = match fs::read_to_string(path) {
            Ok(text) => decode(&text).ok_or("it is no remembered head".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => Err(error.to_string()),
        };
        let mut known = self.memory.lock();
        match read {
            Ok((head, seen_ms)) => *known = Known { head: Some(head), seen_ms, on_disk: true, problem: None },
            Err(problem) => {
                let path = path.display();
                tracing::error!(%path, problem, "the remembered head of the audit cannot be read");
                known.problem = Some(format!("{path}: {problem}"));
                self.damaged = true;
            }
        }
    }

    /// Follows the head until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let follow = async {
            let mut backoff = BACKOFF_MIN;
            loop {
                if let Err(error) = self.round(&mut backoff).await {
                    tracing::debug!(%error, "the head of the audit cannot be followed at present");
                }
                let jittered = backoff.mul_f64(rand::rng().random_range(0.5..1.0));
                tokio::time::sleep(jittered).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        };
        shutdown.run_until_cancelled(follow).await.unwrap_or_default()
    }

    /// Reads the head and watches it until the watch is lost.
    async fn round(&mut self, backoff: &mut Duration) -> Result<(), Error> {
        let key = self.prefix.key(&Key::AuditHead);
        let listing = self.registry.list(&key).await?;
        self.see(find(listing.entries, &key)).await?;
        let mut updates = self.registry.watch(&key, listing.revision).await?;
        while let Some(update) = updates.recv().await {
            *backoff = BACKOFF_MIN;
            match update {
                Update::Heartbeat => {}
                Update::Lost(error) => return Err(error),
                Update::Changes { changes, .. } => {
                    // Of several the last one says it all: the records between are linked.
                    let last = changes.into_iter().filter_map(|change| match change {
                        Change::Put(entry) => (entry.key == key).then_some(Some(entry)),
                        Change::Delete { key: gone } => (gone == key).then_some(None),
                    });
                    if let Some(head) = last.last() {
                        self.see(head).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A head was seen, or that there is none.
    async fn see(&mut self, entry: Option<Entry>) -> Result<(), Error> {
        if self.damaged {
            return Ok(());
        }
        let remembered = self.memory.known().head;
        let problem = match (remembered, entry.map(|entry| Head::decode(&entry.value))) {
            (None, None) => None,
            (Some(old), None) => Some(format!("entry {} is remembered, and there is no head", old.sequence)),
            (_, Some(None)) => Some("what stands at the head is no head".to_owned()),
            (None, Some(Some(new))) => return self.remember(new).await,
            (Some(old), Some(Some(new))) if new == old => None,
            (Some(old), Some(Some(new))) => match self.linked(&old, &new).await? {
                None => return self.remember(new).await,
                Some(problem) => Some(problem),
            },
        };
        self.complain(problem);
        Ok(())
    }

    /// Walks from the new head back to the old one; why that does not lead there.
    async fn linked(&self, old: &Head, new: &Head) -> Result<Option<String>, Error> {
        let mut at = new.clone();
        while at.sequence > old.sequence {
            let key = self.prefix.key(&Key::Audit(at.id));
            let Some(entry) = find(self.registry.list(&key).await?.entries, &key) else {
                return Ok(Some(format!("entry {} is gone", at.sequence)));
            };
            let link = match chain::read(&Stored { id: at.id.to_string(), value: entry.value }) {
                Ok(link) if link.head == at => link.entry,
                Ok(_) => return Ok(Some(format!("entry {}: it is another one than expected", at.sequence))),
                Err(fault) => return Ok(Some(format!("entry {}: {}", at.sequence, fault.text()))),
            };
            let before = suiyue_proto::v1::AuditHead {
                id: link.previous_id,
                sequence: at.sequence - 1,
                hash: link.previous_hash,
            };
            let Some(before) = Head::of(&before) else { break };
            at = before;
        }
        let same = at == *old;
        Ok((!same).then(|| format!("entry {} was rewritten or cut off", old.sequence)))
    }

    async fn remember(&mut self, head: Head) -> Result<(), Error> {
        let seen_ms = crate::clock::unix_ms();
        let mut on_disk = false;
        if let Some(path) = self.file.clone() {
            let text = encode(&head, seen_ms);
            let written = tokio::task::spawn_blocking(move || write(&path, &text)).await;
            let failure = match written {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            on_disk = failure.is_none();
            if let Some(error) = failure {
                tracing::error!(error, "the head of the audit cannot be kept on disk");
            }
        }
        *self.memory.lock() = Known { head: Some(head), seen_ms, on_disk, problem: None };
        Ok(())
    }

    /// Said once, when it begins.
    fn complain(&self, problem: Option<String>) {
        let mut known = self.memory.lock();
        if let Some(problem) = &problem
            && known.problem.as_ref() != Some(problem)
        {
            tracing::error!(
                problem,
                "the audit in the registry does not continue the one that was seen here"
            );
        }
        known.problem = problem;
    }
}

fn find(entries: Vec<Entry>, key: &str) -> Option<Entry> {
    entries.into_iter().find(|entry| entry.key == *key)
}

fn encode(head: &Head, seen_ms: i64) -> String {
    let hash: String = head.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{MAGIC}\n{} {} {hash} {seen_ms}\n", head.sequence, head.id)
}

fn decode(text: &str) -> Option<(Head, i64)> {
    let mut lines = text.lines();
    if lines.next() != Some(MAGIC) {
        return None;
    }
    let parts: Vec<&str> = lines.next()?.split(' ').collect();
    let [sequence, id, hex, seen_ms] = parts[..] else { return None };
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut hash = chain::ZERO;
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
    }
    let sequence = sequence.parse().ok().filter(|&sequence| sequence > 0)?;
    Some((Head { id: id.parse().ok()?, sequence, hash }, seen_ms.parse().ok()?))
}

/// Written whole or not at all.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let draft = path.with_extension("draft");
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests;
