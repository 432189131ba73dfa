//! What did the anchor say before this process began?
//!
//! A record of trust is replaced by a newer one only, and whoever can write into the registry has all the
//! older ones, each with a good signature: who was revoked stands in none of them. So the newest record of
//! every province that this gateway has believed is kept on its disk, one file a province, as it was
//! signed. A gateway that starts believes nothing older than that, and begins with it before the registry
//! has said a word.
//!
//! A file proves itself by the anchor's signature. One that does not (damaged, or of another anchor) is
//! named in the log, and the next record takes its place.

use super::{
    Roll, Trust,
    trust::{Province, Root},
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use suiyue_proto::region::Code;
use tokio_util::sync::CancellationToken;

const SUFFIX: &str = ".trust";
/// What a file is called until it is whole.
const DRAFT: &str = "draft";
/// A disk that fails is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);

/// The records of one gateway.
#[derive(Debug, Clone)]
pub struct Memory {
    dir: PathBuf,
}

impl Memory {
    /// Records in this directory, which is made if it is not there.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// What was believed last.
    ///
    /// # Errors
    /// The directory or a file in it cannot be read: who is revoked might be let in.
    pub fn recall(&self, root: &Root) -> io::Result<Arc<Roll>> {
        let mut provinces = BTreeMap::new();
        for file in fs::read_dir(&self.dir)? {
            let path = file?.path();
            let Some(code) = province_of(&path) else { continue };
            match Province::read(&root.anchor, &root.federation, code, &fs::read(&path)?) {
                Ok(province) => drop(provinces.insert(code, Arc::new(province))),
                Err(why) => {
                    let path = path.display();
                    tracing::warn!(%path, why, "a record of trust on disk cannot be used");
                }
            }
        }
        Ok(Arc::new(Roll::new(provinces)))
    }

    /// Writes what is believed, whenever that changes, until `shutdown`. A disk that fails is complained of
    /// once, and tried again.
    pub async fn keep(self, trust: Trust, shutdown: CancellationToken) {
        let mut rolls = trust.rolls();
        rolls.mark_changed();
        let mut written = BTreeMap::new();
        let mut failed = false;
        while let Some(Ok(())) = shutdown.run_until_cancelled(rolls.changed()).await {
            let roll = rolls.borrow_and_update().clone();
            let (memory, known) = (self.clone(), written.clone());
            let saved = tokio::task::spawn_blocking(move || memory.save(&roll, known)).await;
            match saved {
                Ok(Ok(now)) => (written, failed) = (now, false),
                Ok(Err(error)) => {
                    if !std::mem::replace(&mut failed, true) {
                        tracing::error!(%error, dir = %self.dir.display(),
                            "a record of trust cannot be written to disk: a restart could believe an older one");
                    }
                    rolls.mark_changed();
                    shutdown.run_until_cancelled(tokio::time::sleep(RETRY)).await;
                }
                Err(_) => {}
            }
        }
    }

    /// Writes the provinces whose serials are other ones than those; the serials on disk now.
    fn save(&self, roll: &Roll, mut written: BTreeMap<Code, u64>) -> io::Result<BTreeMap<Code, u64>> {
        for (&code, province) in roll.provinces() {
            if written.get(&code) != Some(&province.serial) {
                self.write(code, province.signed())?;
                written.insert(code, province.serial);
            }
        }
        Ok(written)
    }

    fn write(&self, code: Code, bytes: &[u8]) -> io::Result<()> {
        let draft = self.dir.join(DRAFT);
        let mut file = File::create(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, self.dir.join(format!("{code}{SUFFIX}")))?;
        // The name must be on the disk, too.
        File::open(&self.dir)?.sync_all()
    }
}

fn province_of(path: &Path) -> Option<Code> {
    path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::trust::tests::{FEDERATION, Realm};

    fn province(realm: &Realm, serial: u64) -> Arc<Roll> {
        let (anchor, code) = (realm.anchor.public(), Code::new(440_000).unwrap());
        let record = realm.record(|record| record.serial = serial);
        let province = Province::read(&anchor, FEDERATION, code, &record).unwrap();
        Arc::new(Roll::new([(code, Arc::new(province))].into()))
    }

    fn serials(roll: &Roll) -> Vec<u64> {
        roll.provinces().values().map(|province| province.serial).collect()
    }

    #[tokio::test]
    async fn what_was_believed_last_is_believed_after_a_restart() {
        let (realm, dir) = (Realm::new(), tempfile::tempdir().unwrap());
        let trust = realm.trust();
        let root = trust.root().unwrap().clone();
        let memory = Memory::open(&dir.path().join("trust")).unwrap();
        assert!(serials(&memory.recall(&root).unwrap()).is_empty());
        let stop = CancellationToken::new();
        let keeping = tokio::spawn(memory.clone().keep(trust.clone(), stop.clone()));
        for serial in [1, 7] {
            trust.publish(province(&realm, serial));
            while serials(&memory.recall(&root).unwrap()) != [serial] {
                tokio::task::yield_now().await;
            }
        }
        stop.cancel();
        keeping.await.unwrap();
        assert_eq!(fs::read_dir(&memory.dir).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn what_the_anchor_has_not_signed_is_not_recalled() {
        let (realm, dir) = (Realm::new(), tempfile::tempdir().unwrap());
        let root = realm.trust().root().unwrap().clone();
        let memory = Memory::open(dir.path()).unwrap();
        memory.save(&province(&realm, 3), BTreeMap::new()).unwrap();
        let other = Realm::new().trust().root().unwrap().clone();
        assert!(serials(&memory.recall(&other).unwrap()).is_empty());
        let path = dir.path().join("440000.trust");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(serials(&memory.recall(&root).unwrap()).is_empty());
        // Under the name of another province.
        fs::write(dir.path().join("610000.trust"), &whole).unwrap();
        assert!(serials(&memory.recall(&root).unwrap()).is_empty());
        fs::write(&path, &whole).unwrap();
        assert_eq!(serials(&memory.recall(&root).unwrap()), [3]);
    }
}
