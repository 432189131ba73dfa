//! Which certificate does the gateway show to etcd, and when does it change?
//!
//! Files that can be used make new clients: every call and every watch from then on shows the new
//! certificate. A watch that is open stays on its connection until it is lost or everything is listed again,
//! ten minutes later at most. Files that cannot be used change nothing.

use super::{Etcd, Members};
use crate::config::{EtcdFiles, EtcdTls};
use futures_util::FutureExt as _;
use rustls::{
    pki_types::{CertificateDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use std::{
    fs,
    path::Path,
    sync::{Arc, PoisonError},
};
use suiyue_proto::identity::{
    certificate::provider,
    files::{Followed, private_key},
};

/// Reads the files, as far as they fit together.
fn read(files: &EtcdFiles) -> Result<EtcdTls, String> {
    let text = |path: &Path| fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
    let chain = |path: &Path, text: &str| {
        let chain = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
        match chain {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            _ => Err(format!("{}: no certificates in PEM", path.display())),
        }
    };
    let ca = text(&files.ca)?;
    chain(&files.ca, &ca)?;
    let client = match &files.client {
        None => None,
        Some((cert, key)) => {
            let (shown, private) = (text(cert)?, private_key(key).map_err(|e| e.to_string())?);
            CertifiedKey::from_der(chain(cert, &shown)?, private, &provider())
                .map_err(|e| format!("{}: {e}", key.display()))?;
            Some((shown, text(key)?))
        }
    };
    Ok(EtcdTls { ca, client, files: files.clone() })
}

impl Etcd {
    /// Follows the files of the certificates, where there are any, until dropped.
    pub async fn keep(self: Arc<Self>) {
        let Some(files) = self.files.clone() else { return std::future::pending().await };
        let client = files.client.iter().flat_map(|(cert, key)| [cert.clone(), key.clone()]);
        let paths = std::iter::once(files.ca.clone()).chain(client).collect();
        Followed::new(paths).keep(|| self.reload(&files)).await;
    }

    fn reload(&self, files: &EtcdFiles) -> Result<(), String> {
        let tls = read(files)?;
        // No connection is made before it is needed: there is nothing to wait for.
        let members = Members::open(&self.endpoints, Some(&tls)).now_or_never();
        let members = members.ok_or("the clients are not ready")?.map_err(|e| e.to_string())?;
        *self.members.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(members);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::trust::tests::Realm;

    #[tokio::test]
    async fn files_that_do_not_fit_together_change_nothing() {
        let realm = Realm::new();
        let [cert, key, ca] = realm.paths("spiffe://lingnan/app/gateway");
        let files = EtcdFiles { ca, client: Some((cert.clone(), key)) };
        let tls = read(&files).unwrap();
        let etcd = Etcd::connect_with(&["https://127.0.0.1:1"], Some(&tls)).await.unwrap();
        let before = etcd.members();
        let refused = |part: &str| {
            let why = etcd.reload(&files).unwrap_err();
            assert!(why.contains(part), "{why}");
            assert!(Arc::ptr_eq(&etcd.members(), &before), "the old clients stay");
        };
        let whole = fs::read_to_string(&cert).unwrap();
        fs::write(&cert, realm.issue("spiffe://lingnan/app/gateway", |_| {}).cert).unwrap();
        refused("key");
        fs::write(&cert, "").unwrap();
        refused("no certificates in PEM");
        fs::write(&cert, whole).unwrap();
        realm.expose();
        refused("chmod 600");
        let again = realm.paths("spiffe://lingnan/app/gateway");
        assert_eq!(Some((again[0].clone(), again[1].clone())), files.client);
        etcd.reload(&files).unwrap();
        assert!(!Arc::ptr_eq(&etcd.members(), &before));
    }
}
