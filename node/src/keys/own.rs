//! With which key does this node sign now, and when does it change?
//!
//! The first key is made at the first start and kept in the data directory, readable by the owner
//! only. A key signs for seven days. Its successor is made, and published, a day before it takes
//! over, which is far more than the 25 minutes that a verifier without a network may lag.
//! Only a node that finds no key in force (first start, or off for longer than a key lives) signs
//! with a key that it has only just published.

use super::Verifying;
use crate::clock::Clock;
use aws_lc_rs::digest;
use aws_lc_rs::encoding::AsBigEndian as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use suiyue_proto::region::Code;
use suiyue_proto::sy1::{self, Claims};

const LIFETIME_S: i64 = 7 * 24 * 3600;
const AHEAD_S: i64 = 24 * 3600;
// Codes signed in a key's last second must still verify: ttl and skew, rounded up.
const KEEP_AFTER_S: i64 = 600;
const FILE: &str = "signing-keys.json";

/// Why the signing keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others than the owner may read the file.
    #[error("{0} may be read by others; set its mode to 0600, and replace the keys if they leaked")]
    Exposed(PathBuf),
    /// The file's content is no key file.
    #[error("{0} is damaged; restore it, or move it away and the node makes new keys")]
    Damaged(PathBuf),
    /// The cryptographic library refused.
    #[error("no key could be made")]
    Generate,
}

/// One signing key.
#[derive(Debug)]
pub struct Signing {
    pair: Ed25519KeyPair,
    verifying: Verifying,
}

impl Signing {
    /// The four bytes that name it.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        self.verifying.id
    }

    /// Signs what a code says.
    #[must_use]
    pub fn sign(&self, region: Code, claims: &Claims) -> [u8; sy1::SIGNATURE_LEN] {
        let signature = self.pair.sign(&sy1::signed_bytes(region, claims));
        let mut out = [0; sy1::SIGNATURE_LEN];
        out.copy_from_slice(signature.as_ref());
        out
    }

    fn from_seed(seed: &[u8], regions: &[Code], not_before: i64, not_after: i64) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public: [u8; 32] = pair.public_key().as_ref().try_into().ok()?;
        let hash = digest::digest(&digest::SHA256, &public);
        let id = hash.as_ref().first_chunk::<4>().copied()?;
        let verifying = Verifying {
            id,
            public,
            regions: regions.to_vec(),
            not_before_unix_s: not_before,
            not_after_unix_s: not_after,
        };
        Some(Self { pair, verifying })
    }
}

/// This node's signing keys.
#[derive(Debug)]
pub struct Own {
    regions: Vec<Code>,
    path: Option<PathBuf>,
    keys: RwLock<Vec<Arc<Signing>>>,
}

/// Did a rotation change the keys?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// A key was made or dropped: publish them again.
    Changed,
    /// Nothing to do yet.
    Unchanged,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    seed: String,
    not_before_unix_s: i64,
    not_after_unix_s: i64,
}

impl Own {
    /// Reads the keys from the data directory, or makes the first one. Without a directory they
    /// live as long as the process.
    ///
    /// # Errors
    /// [`Error`]: the file is unreadable, exposed or damaged.
    pub fn open(data_dir: Option<&Path>, regions: &[Code], clock: &Clock) -> Result<Self, Error> {
        let path = data_dir.map(|dir| dir.join(FILE));
        let keys = match &path {
            Some(path) => read(path, regions)?,
            None => Vec::new(),
        };
        let own = Self { regions: regions.to_vec(), path, keys: RwLock::new(keys) };
        own.rotate(clock.unix_s())?;
        Ok(own)
    }

    /// The key in force: of several, the one that began first.
    #[must_use]
    pub fn current(&self, now_unix_s: i64) -> Option<Arc<Signing>> {
        let keys = self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let in_force = keys.iter().filter(|key| in_force(&key.verifying, now_unix_s));
        in_force.min_by_key(|key| key.verifying.not_before_unix_s).cloned()
    }

    /// What others need to check this node's codes, the next key included.
    #[must_use]
    pub fn verifying(&self) -> Vec<Verifying> {
        let keys = self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        keys.iter().map(|key| key.verifying.clone()).collect()
    }

    /// Makes the next key when it is due and drops keys whose codes have all ended. Call it at
    /// least every hour.
    ///
    /// # Errors
    /// [`Error`]: the keys could not be made durable; then nothing changes.
    pub fn rotate(&self, now_unix_s: i64) -> Result<Rotation, Error> {
        let before = self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let mut keys = before.clone();
        keys.retain(|key| key.verifying.not_after_unix_s + KEEP_AFTER_S > now_unix_s);
        let last = keys.iter().map(|key| key.verifying.not_after_unix_s).max();
        if !keys.iter().any(|key| in_force(&key.verifying, now_unix_s)) {
            keys.push(self.generate(now_unix_s)?);
        } else if let Some(last) = last.filter(|last| last - now_unix_s <= AHEAD_S) {
            keys.push(self.generate(last)?);
        }
        if keys.len() == before.len() && keys.iter().zip(&before).all(|(a, b)| Arc::ptr_eq(a, b)) {
            return Ok(Rotation::Unchanged);
        }
        if let Some(path) = &self.path {
            write(path, &keys)?;
        }
        *self.keys.write().unwrap_or_else(std::sync::PoisonError::into_inner) = keys;
        Ok(Rotation::Changed)
    }

    fn generate(&self, not_before: i64) -> Result<Arc<Signing>, Error> {
        let pair = Ed25519KeyPair::generate().map_err(|_| Error::Generate)?;
        let seed = pair.seed().and_then(|seed| seed.as_be_bytes()).map_err(|_| Error::Generate)?;
        Signing::from_seed(seed.as_ref(), &self.regions, not_before, not_before + LIFETIME_S)
            .map(Arc::new)
            .ok_or(Error::Generate)
    }
}

fn in_force(key: &Verifying, now_unix_s: i64) -> bool {
    key.not_before_unix_s <= now_unix_s && now_unix_s < key.not_after_unix_s
}

fn read(path: &Path, regions: &[Code]) -> Result<Vec<Arc<Signing>>, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io(e)),
    };
    if fs::metadata(path).map_err(io)?.permissions().mode() & 0o077 != 0 {
        return Err(Error::Exposed(path.to_owned()));
    }
    let stored: Vec<Stored> = serde_json::from_str(&text).map_err(|_| Error::Damaged(path.to_owned()))?;
    stored
        .iter()
        .map(|key| {
            let seed = from_hex(&key.seed)?;
            Signing::from_seed(&seed, regions, key.not_before_unix_s, key.not_after_unix_s).map(Arc::new)
        })
        .collect::<Option<_>>()
        .ok_or_else(|| Error::Damaged(path.to_owned()))
}

// Written beside the file, made durable, then renamed: a crash leaves the old keys or the new ones.
fn write(path: &Path, keys: &[Arc<Signing>]) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut stored = Vec::new();
    for key in keys {
        let seed = key.pair.seed().and_then(|seed| seed.as_be_bytes()).map_err(|_| Error::Generate)?;
        stored.push(Stored {
            seed: seed.as_ref().iter().map(|b| format!("{b:02x}")).collect(),
            not_before_unix_s: key.verifying.not_before_unix_s,
            not_after_unix_s: key.verifying.not_after_unix_s,
        });
    }
    let text = serde_json::to_vec_pretty(&stored).map_err(|e| io(e.into()))?;
    let beside = path.with_extension("new");
    // A left-over from a crash may have any mode.
    let _ = fs::remove_file(&beside);
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(io)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&beside, path).map_err(io)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    fn region() -> Code {
        Code::new(440_100).unwrap()
    }

    #[test]
    fn the_next_key_is_published_a_day_before_it_signs() {
        let (clock, _) = Clock::manual(1_800_000_000_000);
        let start = clock.unix_s();
        let own = Own::open(None, &[region()], &clock).unwrap();
        let first = own.current(start).unwrap().id();
        assert_eq!(own.rotate(start + 6 * DAY - 1).unwrap(), Rotation::Unchanged);
        assert_eq!(own.rotate(start + 6 * DAY).unwrap(), Rotation::Changed);
        assert_eq!(own.verifying().len(), 2);
        assert_eq!(own.current(start + 7 * DAY - 1).unwrap().id(), first);
        let second = own.current(start + 7 * DAY).unwrap().id();
        assert_ne!(second, first);
        assert_eq!(own.rotate(start + 7 * DAY + KEEP_AFTER_S).unwrap(), Rotation::Changed);
        assert_eq!(own.verifying().iter().map(|k| k.id).collect::<Vec<_>>(), [second]);
    }

    #[test]
    fn a_node_that_was_off_for_long_makes_a_key_at_once() {
        let (clock, _) = Clock::manual(1_800_000_000_000);
        let own = Own::open(None, &[region()], &clock).unwrap();
        assert!(own.current(clock.unix_s() + 30 * DAY).is_none());
        own.rotate(clock.unix_s() + 30 * DAY).unwrap();
        assert!(own.current(clock.unix_s() + 30 * DAY).is_some());
    }

    #[test]
    fn keys_survive_a_restart_and_are_for_the_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let (clock, _) = Clock::manual(1_800_000_000_000);
        let first = Own::open(Some(dir.path()), &[region()], &clock).unwrap().verifying();
        let path = dir.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Own::open(Some(dir.path()), &[region()], &clock).unwrap().verifying(), first);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Own::open(Some(dir.path()), &[region()], &clock), Err(Error::Exposed(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "{}").unwrap();
        assert!(matches!(Own::open(Some(dir.path()), &[region()], &clock), Err(Error::Damaged(_))));
    }
}
