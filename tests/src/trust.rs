//! How does a test get a federation's certificates?
//!
//! A [`Desk`] has the anchor and the authority of Guangdong, issues certificates into its directory, good
//! ones and bad ones, and writes the sections of configuration that name them.

use crate::gateway::Gateway;
use anyhow::Context as _;
use prost::Message as _;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use suiyue_proto::{
    identity::{
        Files, Identity, Usage,
        files::now,
        issue::{AnchorKey, Authority, Order},
        signed::{self, Kind},
    },
    metadata,
    v1::{ProvinceTrust, PublishTrustRequest, SignedRecord},
};
use tempfile::TempDir;
use tonic::metadata::MetadataValue;

/// Name of every test federation.
pub const FEDERATION: &str = "lingnan";

/// Anchor and authority.
pub struct Desk {
    dir: TempDir,
    anchor: AnchorKey,
    authority: Authority,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("dir", &self.dir.path()).finish_non_exhaustive()
    }
}

impl Desk {
    /// A new federation.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        let dir = TempDir::new()?;
        let (authority, _) = Authority::new("Guangdong", now() - 300, now() + 30 * 24 * 3600)?;
        fs::write(dir.path().join("ca.pem"), authority.cert())?;
        Ok(Self { dir, anchor: AnchorKey::generate()?, authority })
    }

    /// A file of its directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Issues a certificate, good but for one change, as `NAME.pem` and `NAME.key`; renewing one replaces
    /// the files as an operator would: each whole, one after the other.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn issue(&self, name: &str, uri: &str, change: impl FnOnce(&mut Order)) -> anyhow::Result<Files> {
        let mut order = Order {
            uris: vec![uri.to_owned()],
            hosts: vec!["127.0.0.1".to_owned()],
            uses: vec![Usage::Client, Usage::Server],
            not_before_unix_s: now() - 300,
            not_after_unix_s: now() + 20 * 24 * 3600,
        };
        change(&mut order);
        let issued = self.authority.issue(&order)?;
        let files = self.files(name);
        replace(&files.key, &issued.key, 0o600)?;
        replace(&files.cert, &issued.cert, 0o644)?;
        Ok(files)
    }

    /// Where a name's certificate is.
    #[must_use]
    pub fn files(&self, name: &str) -> Files {
        let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        Files { cert, key, trust: self.path("ca.pem") }
    }

    /// `[identity]` and `[trust]` of a gateway.
    ///
    /// # Errors
    /// When its certificate cannot be written.
    pub fn gateway(&self, id: &str) -> anyhow::Result<String> {
        let files = self.issue(id, &format!("spiffe://{FEDERATION}/gateway/{id}"), |_| {})?;
        let anchor = self.anchor.public();
        Ok(format!("{}[trust]\nfederation = \"{FEDERATION}\"\nanchor = \"{anchor}\"\n", section(&files)))
    }

    /// `[identity]` of a node.
    ///
    /// # Errors
    /// When its certificate cannot be written.
    pub fn node(&self, region: u32, name: &str) -> anyhow::Result<String> {
        Ok(section(&self.issue(name, &node_id(region, name), |_| {})?))
    }

    /// An operator.
    ///
    /// # Errors
    /// When the certificate cannot be written.
    pub fn operator(&self) -> anyhow::Result<Identity> {
        let uri = format!("spiffe://{FEDERATION}/operator/operator/li");
        Ok(Identity::open(self.issue("li", &uri, |order| order.uses = vec![Usage::Client])?)?)
    }

    /// The record of Guangdong with a serial number, but for one change.
    #[must_use]
    pub fn record(&self, serial: u64, change: impl FnOnce(&mut ProvinceTrust)) -> Vec<u8> {
        let mut trust = ProvinceTrust {
            federation: FEDERATION.to_owned(),
            province: 440_000,
            serial,
            authorities: vec![self.authority.der().to_vec().into()],
            code_prefixes: vec!["44".to_owned()],
            signed_unix_s: now(),
            ..Default::default()
        };
        change(&mut trust);
        let payload = trust.encode_to_vec();
        let signature = self.anchor.sign(Kind::Trust, &payload).into();
        SignedRecord { payload: payload.into(), signature, chain: Vec::new() }.encode_to_vec()
    }

    /// Brings a record to the registry.
    ///
    /// # Errors
    /// What the gateway says.
    pub async fn publish(&self, gateway: &Gateway, record: Vec<u8>) -> anyhow::Result<()> {
        let mut request = tonic::Request::new(PublishTrustRequest { record: record.into() });
        request.metadata_mut().insert_bin(metadata::CHANGE_REASON, MetadataValue::from_bytes(b"a trial"));
        gateway.operator().await?.publish_trust(request).await.context("PublishTrust")?;
        Ok(())
    }
}

/// Signs a message with the certificate of these files, as the node that has them would.
///
/// # Errors
/// When the files cannot be used.
pub fn sign(files: &Files, kind: Kind, message: &impl prost::Message) -> anyhow::Result<SignedRecord> {
    // Read by hand: a test signs with certificates, too, that nobody would open.
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
    let chain = suiyue_proto::identity::certificate::chain_from_pem(&fs::read(&files.cert)?)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)?;
    let provider = suiyue_proto::identity::certificate::provider();
    let key = provider.key_provider.load_private_key(key)?;
    let payload = message.encode_to_vec();
    let signature = signed::sign(&*key, kind, &payload)?.into();
    let chain = chain.iter().map(|cert| cert.as_ref().to_vec().into()).collect();
    Ok(SignedRecord { payload: payload.into(), signature, chain })
}

/// The id of a node.
#[must_use]
pub fn node_id(region: u32, name: &str) -> String {
    format!("spiffe://{FEDERATION}/region/{region}/node/{name}")
}

/// `[identity]` with these files.
#[must_use]
pub fn section(files: &Files) -> String {
    format!("[identity]\ncert = {:?}\nkey = {:?}\ntrust = {:?}\n", files.cert, files.key, files.trust)
}

fn replace(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, text)?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(mode))?;
    fs::rename(&beside, path)?;
    Ok(())
}
