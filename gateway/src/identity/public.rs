//! Which certificate does the data port show to apps?
//!
//! An ordinary one, of whatever authority apps believe. Its files are followed like those of the gateway's
//! own identity: new ones are shown to new connections, bad ones change nothing.

use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};
use suiyue_proto::identity::{certificate::provider, files::Followed};

/// A certificate in files.
#[derive(Debug)]
pub struct Public {
    cert: PathBuf,
    key: PathBuf,
    shown: RwLock<Arc<CertifiedKey>>,
}

fn read(cert: &PathBuf, key: &PathBuf) -> Result<Arc<CertifiedKey>, String> {
    let of = |path: &PathBuf| {
        let shown = path.display().to_string();
        move |why: &dyn std::fmt::Display| format!("{shown}: {why}")
    };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|e| of(cert)(&e))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| of(key)(&e))?;
    let key = CertifiedKey::from_der(chain, private, &provider()).map_err(|e| of(key)(&e))?;
    Ok(Arc::new(key))
}

impl Public {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the file.
    pub fn open(cert: PathBuf, key: PathBuf) -> Result<Self, String> {
        let shown = RwLock::new(read(&cert, &key)?);
        Ok(Self { cert, key, shown })
    }

    /// Follows the files until dropped.
    pub async fn keep(self: Arc<Self>) {
        let files = Followed::new(vec![self.cert.clone(), self.key.clone()]);
        files.keep(|| self.reload()).await;
    }

    fn reload(&self) -> Result<(), String> {
        let new = read(&self.cert, &self.key)?;
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

impl ResolvesServerCert for Public {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::trust::tests::Realm;
    use std::fs;

    #[test]
    fn new_files_are_shown_and_half_of_a_pair_changes_nothing() {
        let (realm, dir) = (Realm::new(), tempfile::tempdir().unwrap());
        let (cert, key) = (dir.path().join("cert"), dir.path().join("key"));
        let one = realm.issue("spiffe://lingnan/gateway/gw-1", |_| {});
        let two = realm.issue("spiffe://lingnan/gateway/gw-1", |_| {});
        fs::write(&cert, &one.cert).unwrap();
        fs::write(&key, &one.key).unwrap();
        let public = Public::open(cert.clone(), key.clone()).unwrap();
        let shown = |public: &Public| public.shown.read().unwrap().cert[0].clone();
        let first = shown(&public);
        fs::write(&cert, &two.cert).unwrap();
        assert!(public.reload().unwrap_err().contains("key"));
        assert_eq!(shown(&public), first);
        fs::write(&key, &two.key).unwrap();
        public.reload().unwrap();
        assert_ne!(shown(&public), first);
        fs::write(&cert, "").unwrap();
        assert!(public.reload().is_err());
    }
}
