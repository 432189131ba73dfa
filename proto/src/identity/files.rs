//! Which certificate does this process show, and when does it change?
//!
//! [`Identity`] holds what stands in three files: certificate chain, private key, and the authorities
//! that vouch for others (the trust bundle). [`Identity::keep`] looks at the files every second. New ones
//! are used for every connection from then on, and nothing that is open ends. Files that cannot be used
//! change nothing: the old certificate stays, and the log says so once, after a second look, because a
//! certificate and its key are two files and cannot be replaced in one step.

use super::{
    Authorities, Leaf, Refused,
    certificate::{chain_from_pem, provider},
    signed::{self, Kind},
};
use rustls::{
    client::ResolvesClientCert,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::watch;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A certificate that ends within this time is warned of.
pub const SOON_S: i64 = 7 * 24 * 3600;

/// Where a process's identity stands. PEM, all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Its certificate, and intermediate ones after it.
    pub cert: PathBuf,
    /// The certificate's private key; for the owner only.
    pub key: PathBuf,
    /// Certificates of the authorities that vouch for others.
    pub trust: PathBuf,
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others than the owner may read the private key.
    #[error("{path}: the private key may be read by others than its owner: chmod 600 {path}", path = .0.display())]
    Exposed(PathBuf),
    /// The private key cannot be used.
    #[error("{path}: {why}", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A certificate cannot be used.
    #[error("{path}: {why}", path = path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        why: Refused,
    },
    /// The new certificate is somebody else's.
    #[error("{path}: the certificate is of {is}, but this process is {was}", path = path.display())]
    Another {
        /// The file.
        path: PathBuf,
        /// Whom the process started as.
        was: String,
        /// Whom the file names.
        is: String,
    },
}

/// What stands in the files.
#[derive(Debug)]
pub struct Shown {
    /// The certificate, as others read it.
    pub leaf: Leaf,
    /// The certificate's chain with its key.
    pub key: Arc<CertifiedKey>,
    /// Who vouches for others.
    pub bundle: Arc<Authorities>,
}

impl Shown {
    fn read(files: &Files) -> Result<Self, Error> {
        let read =
            |path: &Path| fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source });
        let bad_cert = |path: &Path| {
            let path = path.to_owned();
            |why| Error::Certificate { path, why }
        };
        let key = private_key(&files.key)?;
        let chain = chain_from_pem(&read(&files.cert)?).map_err(bad_cert(&files.cert))?;
        let leaf = chain.first().map(AsRef::as_ref).unwrap_or_default();
        let leaf = Leaf::parse(leaf).map_err(bad_cert(&files.cert))?;
        if leaf.not_after_unix_s <= now() {
            return Err(bad_cert(&files.cert)(Refused::Time));
        }
        let key = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|e| Error::Key { path: files.key.clone(), why: e.to_string() })?;
        let bundle = Authorities::from_pem(&read(&files.trust)?).map_err(bad_cert(&files.trust))?;
        Ok(Self { leaf, key: Arc::new(key), bundle: Arc::new(bundle) })
    }

    /// Signs a record with the certificate's key.
    ///
    /// # Errors
    /// [`Refused::Key`].
    pub fn sign(&self, kind: Kind, payload: &[u8]) -> Result<Vec<u8>, Refused> {
        signed::sign(&*self.key.key, kind, payload)
    }

    /// The chain in DER, the certificate first.
    #[must_use]
    pub fn chain(&self) -> Vec<Vec<u8>> {
        self.key.cert.iter().map(|cert| cert.as_ref().to_vec()).collect()
    }
}

/// Reads a private key that only its owner may read.
///
/// # Errors
/// [`Error`].
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let unread = |source| Error::Read { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(unread)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Error::Exposed(path.to_owned()));
    }
    let pem = fs::read(path).map_err(unread)?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|e| Error::Key { path: path.to_owned(), why: format!("no private key in PEM: {e}") })
}

/// Who this process is, always as the files last said. Clones are the same.
#[derive(Debug, Clone)]
pub struct Identity {
    files: Arc<Files>,
    shown: watch::Sender<Arc<Shown>>,
}

impl Identity {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Error`] names the file.
    pub fn open(files: Files) -> Result<Self, Error> {
        let shown = Shown::read(&files)?;
        Ok(Self { files: Arc::new(files), shown: watch::Sender::new(Arc::new(shown)) })
    }

    /// What is shown now.
    #[must_use]
    pub fn shown(&self) -> Arc<Shown> {
        self.shown.borrow().clone()
    }

    /// Tells when something else is shown.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Shown>> {
        self.shown.subscribe()
    }

    /// Name of the federation.
    #[must_use]
    pub fn federation(&self) -> String {
        self.shown.borrow().leaf.id.federation.clone()
    }

    /// Reads the files again, and shows what stands there if it can be used.
    ///
    /// # Errors
    /// [`Error`]: what was shown before stays.
    pub fn reload(&self) -> Result<(), Error> {
        let new = Shown::read(&self.files)?;
        let was = self.shown().leaf.id.clone();
        if new.leaf.id != was {
            let (was, is) = (was.to_string(), new.leaf.id.to_string());
            return Err(Error::Another { path: self.files.cert.clone(), was, is });
        }
        self.shown.send_replace(Arc::new(new));
        Ok(())
    }

    /// Follows the files until dropped.
    pub async fn keep(self) {
        let mut keeper = self.keeper();
        keeper.remind(&self);
        loop {
            tokio::time::sleep(LOOK).await;
            keeper.look(&self);
        }
    }

    fn keeper(&self) -> Keeper {
        let Files { cert, key, trust } = &*self.files;
        Keeper { files: Followed::new([cert.clone(), key.clone(), trust.clone()].into()), warned: None }
    }
}

/// Looks after an identity.
struct Keeper {
    files: Followed,
    /// End of the certificate that was last warned of.
    warned: Option<i64>,
}

impl Keeper {
    fn look(&mut self, identity: &Identity) {
        if self.files.look(|| identity.reload()) {
            let shown = identity.shown();
            tracing::info!(
                id = %shown.leaf.id, serial = shown.leaf.serial, not_after_unix_s = shown.leaf.not_after_unix_s,
                "the certificate was read again"
            );
        }
        self.remind(identity);
    }

    /// Warns once of a certificate that ends soon.
    fn remind(&mut self, identity: &Identity) {
        let leaf = &identity.shown().leaf;
        let left_s = leaf.not_after_unix_s - now();
        if left_s < SOON_S && self.warned != Some(leaf.not_after_unix_s) {
            self.warned = Some(leaf.not_after_unix_s);
            tracing::warn!(id = %leaf.id, left_s, "this process's certificate ends soon: issue another one");
        }
    }
}

/// What tells whether a file was replaced.
type Stamp = Vec<Option<(u64, i64, i64, u64)>>;

/// Files of a certificate that are read again when they change.
#[derive(Debug)]
pub struct Followed {
    paths: Vec<PathBuf>,
    /// Of the files that are in use.
    stamp: Stamp,
    /// Of files that could not be used.
    bad: Option<Stamp>,
    /// They were complained of.
    complained: bool,
}

impl Followed {
    /// As they are now.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { stamp: stamp(&paths), paths, bad: None, complained: false }
    }

    /// Looks once, and reads them if they have changed; whether they were read and can be used. Of files
    /// that cannot be used the log speaks after a second look, once.
    pub fn look<E: std::fmt::Display>(&mut self, reload: impl FnOnce() -> Result<(), E>) -> bool {
        let stamp = stamp(&self.paths);
        if stamp == self.stamp {
            return false;
        }
        match reload() {
            Ok(()) => {
                (self.stamp, self.bad, self.complained) = (stamp, None, false);
                return true;
            }
            Err(error) if self.bad.as_ref() == Some(&stamp) => {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::error!(%error, "the new certificate cannot be used; the old one stays in use");
                }
            }
            Err(_) => (self.bad, self.complained) = (Some(stamp), false),
        }
        false
    }

    /// Looks every second until dropped.
    pub async fn keep<E: std::fmt::Display>(mut self, mut reload: impl FnMut() -> Result<(), E>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.look(&mut reload) {
                tracing::info!(files = ?self.paths, "a certificate was read again");
            }
        }
    }
}

fn stamp(paths: &[PathBuf]) -> Stamp {
    let stamp = |path: &PathBuf| {
        fs::metadata(path).ok().map(|data| (data.ino(), data.mtime(), data.mtime_nsec(), data.len()))
    };
    paths.iter().map(stamp).collect()
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown().key.clone())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.shown().key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Seconds since 1970-01-01 UTC, by this machine's clock.
#[must_use]
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() as i64)
}

#[cfg(test)]
#[path = "files/tests.rs"]
mod tests;
