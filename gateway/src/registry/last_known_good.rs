//! What does a gateway start from while the registry is away?
//!
//! From the newest whole copy of the registry on its own disk. A copy is written when something has
//! changed, at most once a second, under another name first and renamed when it is on the disk; five
//! are kept. A copy that is torn or altered does not have its SHA-256 any more: it is passed over for
//! the one before it, and the file is named in the log.
//!
//! A copy is never taken for the truth: it is published labelled, and the first successful listing
//! replaces it.

use super::{Entry, fold::Entries, follow::Status, keys::Prefix};
use crate::clock::unix_ms;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use prost::Message as _;
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};
use suiyue_proto::v1;
use tokio_util::sync::CancellationToken;

/// Copies that are kept.
const KEPT: usize = 5;
/// Between two copies.
const PACE: Duration = Duration::from_secs(1);
/// What a file begins with: its kind, and the layout of the rest.
const MAGIC: &[u8; 8] = b"suiyueR1";
const SUFFIX: &str = ".registry";
/// What a copy is called until it is whole; one that failed is written over.
const DRAFT: &str = "draft";

/// Why a copy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory or a file in it cannot be read or written.
    #[error("{path}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no copy, or not the one that was written.
    #[error("{path}: {problem}", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// What the registry said, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Cluster of etcd; 0: not known.
    pub cluster: u64,
    /// Revision.
    pub revision: i64,
    /// Milliseconds since 1970.
    pub unix_ms: i64,
    /// Everything below the prefix.
    pub entries: Entries,
    /// What was held when a restored registry had it no more, or otherwise.
    pub held: Entries,
}

/// The copies of one gateway.
#[derive(Debug, Clone)]
pub struct LastKnownGood {
    dir: PathBuf,
    prefix: Prefix,
}

impl LastKnownGood {
    /// Copies in this directory, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(dir: &Path, prefix: Prefix) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(|source| Error::Io { path: dir.to_owned(), source })?;
        Ok(Self { dir: dir.to_owned(), prefix })
    }

    /// The newest copy that is whole and of the same prefix. Damaged ones are named in the log.
    ///
    /// # Errors
    /// [`Error::Io`]: the directory cannot be read.
    pub fn newest(&self) -> Result<Option<Saved>, Error> {
        for path in self.files()?.into_iter().rev() {
            match read(&path, &self.prefix) {
                Ok(Some(saved)) => return Ok(Some(saved)),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "a copy of the registry cannot be used"),
            }
        }
        Ok(None)
    }

    /// Writes a copy, and forgets the oldest beyond five. Returns when it is on the disk.
    ///
    /// # Errors
    /// [`Error::Io`]; the earlier copies are untouched then.
    pub fn save(&self, saved: &Saved) -> Result<(), Error> {
        // A clock that goes back must not make the newest copy the oldest.
        let newest = self.files()?.last().and_then(|path| number(path));
        let name = newest.map_or(saved.unix_ms, |newest| saved.unix_ms.max(newest.saturating_add(1)));
        let path = self.dir.join(format!("{name:016}{SUFFIX}"));
        let draft = self.dir.join(DRAFT);
        let io = |source| Error::Io { path: path.clone(), source };
        write(&draft, &encode(saved, &self.prefix)).map_err(io)?;
        fs::rename(&draft, &path).map_err(io)?;
        // The name must be on the disk, too.
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        let files = self.files()?;
        for old in files.iter().rev().skip(KEPT) {
            fs::remove_file(old).map_err(|source| Error::Io { path: old.clone(), source })?;
        }
        Ok(())
    }

    /// Paths of the copies, oldest first.
    fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let io = |source| Error::Io { path: self.dir.clone(), source };
        let mut files = Vec::new();
        for file in fs::read_dir(&self.dir).map_err(io)? {
            let path = file.map_err(io)?.path();
            if path.to_str().is_some_and(|path| path.ends_with(SUFFIX)) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Writes a copy after each change until `shutdown`, and of what changed last. A disk that fails is
    /// complained of once, and has no effect on calls.
    pub async fn keep(self, status: Status, shutdown: CancellationToken) {
        let mut failed = false;
        let mut changes = status.changes();
        if *changes.borrow() > 0 {
            changes.mark_changed();
        }
        while let Some(Ok(())) = shutdown.run_until_cancelled(changes.changed()).await {
            self.copy(&status, &mut failed).await;
            shutdown.run_until_cancelled(tokio::time::sleep(PACE)).await;
        }
        if changes.has_changed().unwrap_or(false) {
            self.copy(&status, &mut failed).await;
        }
    }

    async fn copy(&self, status: &Status, failed: &mut bool) {
        let now = unix_ms();
        let Some(saved) = status.saved(now) else { return };
        let keeper = self.clone();
        match tokio::task::spawn_blocking(move || keeper.save(&saved)).await {
            Ok(Ok(())) => {
                *failed = false;
                status.note_copy(Ok(now));
            }
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
                status.note_copy(Err(format!("{error}: {cause}")));
                if !std::mem::replace(failed, true) {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(
                        error,
                        "the registry cannot be copied to disk: a start without etcd would be empty"
                    );
                }
            }
            Err(_) => {}
        }
    }
}

/// One entry of a copy.
pub(super) fn saved_entry(entry: &Entry, held: bool) -> v1::SavedEntry {
    let (key, value) = (entry.key.clone(), entry.value.clone());
    v1::SavedEntry { key, value, mod_revision: entry.mod_revision, lease: entry.lease, held }
}

/// The copy that these messages make.
pub(super) fn from_saved(head: &v1::RegistrySnapshot, saved: Vec<v1::SavedEntry>) -> Saved {
    let (mut entries, mut held) = (Entries::new(), Entries::new());
    for one in saved {
        let into = if one.held { &mut held } else { &mut entries };
        let (mod_revision, lease) = (one.mod_revision, one.lease);
        into.insert(one.key.clone(), Entry { key: one.key, value: one.value, mod_revision, lease });
    }
    let (cluster, revision, unix_ms) = (head.cluster_id, head.revision, head.saved_unix_ms);
    Saved { cluster, revision, unix_ms, entries, held }
}

/// All entries of a copy.
pub(super) fn all_saved(saved: &Saved) -> impl Iterator<Item = v1::SavedEntry> {
    let entries = saved.entries.values().map(|entry| saved_entry(entry, false));
    entries.chain(saved.held.values().map(|entry| saved_entry(entry, true)))
}

fn encode(saved: &Saved, prefix: &Prefix) -> Vec<u8> {
    let message = v1::RegistrySnapshot {
        prefix: prefix.root(),
        cluster_id: saved.cluster,
        revision: saved.revision,
        saved_unix_ms: saved.unix_ms,
        entries: all_saved(saved).collect(),
    };
    let body = message.encode_to_vec();
    [&MAGIC[..], digest(&SHA256, &body).as_ref(), &body].concat()
}

/// The number that a copy is called by.
fn number(path: &Path) -> Option<i64> {
    path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse().ok()
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// `None`: a copy of another prefix.
fn read(path: &Path, prefix: &Prefix) -> Result<Option<Saved>, Error> {
    let bytes = fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let damaged = |problem| Error::Damaged { path: path.to_owned(), problem };
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("it is no copy of a registry"))?;
    let (sum, body) = rest.split_at_checked(SHA256_OUTPUT_LEN).ok_or_else(|| damaged("it is cut off"))?;
    if digest(&SHA256, body).as_ref() != sum {
        return Err(damaged("its contents are not those that were written"));
    }
    let mut message = v1::RegistrySnapshot::decode(body).map_err(|_| damaged("it cannot be decoded"))?;
    if message.prefix != prefix.root() {
        return Ok(None);
    }
    let entries = std::mem::take(&mut message.entries);
    Ok(Some(from_saved(&message, entries)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(unix_ms: i64) -> Saved {
        let entry = |key: &str| Entry {
            key: key.to_owned(),
            value: "value".into(),
            mod_revision: 7,
            lease: i64::from(u32::MAX),
        };
        let entries = ["/suiyue/v1/a", "/suiyue/v1/b"].map(|key| (key.to_owned(), entry(key)));
        let held = [("/suiyue/v1/c".to_owned(), entry("/suiyue/v1/c"))];
        Saved { cluster: 3, revision: 9, unix_ms, entries: entries.into(), held: held.into() }
    }

    fn open(dir: &tempfile::TempDir) -> LastKnownGood {
        LastKnownGood::open(&dir.path().join("registry"), Prefix::default()).unwrap()
    }

    #[test]
    fn the_newest_copy_comes_back_and_five_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = open(&dir);
        assert_eq!(keeper.newest().unwrap(), None);
        for at in 1..=8 {
            keeper.save(&saved(at)).unwrap();
        }
        assert_eq!(keeper.newest().unwrap(), Some(saved(8)));
        assert_eq!(keeper.files().unwrap().len(), KEPT);
    }

    #[test]
    fn a_clock_that_goes_back_does_not_bring_back_an_old_copy() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = open(&dir);
        for at in 101..=105 {
            keeper.save(&saved(at)).unwrap();
        }
        for at in [3, 4] {
            keeper.save(&saved(at)).unwrap();
            assert_eq!(keeper.newest().unwrap(), Some(saved(at)));
        }
        assert_eq!(keeper.files().unwrap().len(), KEPT);
        assert_eq!(fs::read_dir(&keeper.dir).unwrap().count(), KEPT, "no draft is left");
    }

    #[test]
    fn a_damaged_copy_is_passed_over_for_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = open(&dir);
        for at in 1..=2 {
            keeper.save(&saved(at)).unwrap();
        }
        let newest = keeper.files().unwrap().pop().unwrap();
        let whole = fs::read(&newest).unwrap();
        // Every cut and every flipped bit is noticed.
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            for bad in [&whole[..at], &flipped] {
                fs::write(&newest, bad).unwrap();
                assert!(read(&newest, &Prefix::default()).is_err(), "at {at}");
            }
        }
        assert_eq!(keeper.newest().unwrap(), Some(saved(1)));
    }

    #[test]
    fn a_draft_is_no_copy_and_another_prefix_is_another_federation() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = open(&dir);
        keeper.save(&saved(1)).unwrap();
        fs::write(keeper.dir.join(DRAFT), b"half").unwrap();
        assert_eq!(keeper.newest().unwrap(), Some(saved(1)));
        let other = LastKnownGood::open(&keeper.dir, "/other".parse().unwrap()).unwrap();
        assert_eq!(other.newest().unwrap(), None);
    }
}
