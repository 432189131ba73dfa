//! Where do anchor, authorities and records stand?
//!
//! In one directory, by fixed names. Keys are written with mode 0600; nothing that is there is replaced
//! unless that is asked for, and never half: a file appears under its name when it is complete.

use crate::exit::Usage;
use anyhow::{Context as _, anyhow, bail};
use prost::Message as _;
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};
use suiyue_gateway::identity::trust::Province;
use suiyue_proto::{
    identity::issue::{AnchorKey, Authority},
    region::Code,
    v1,
};

/// May a file be replaced?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replace {
    Allowed,
    Refused,
}

impl Replace {
    pub(super) const fn when(force: bool) -> Self {
        if force { Self::Allowed } else { Self::Refused }
    }
}

/// The directory.
pub(super) struct Shelf(PathBuf);

impl Shelf {
    /// One that is there.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        if !dir.is_dir() {
            bail!(Usage(format!("{}: no such directory; `suiyue trust init` makes it", dir.display())));
        }
        Ok(Self(dir.to_owned()))
    }

    /// One that is made if need be, for its owner only.
    pub(super) fn make(dir: &Path) -> anyhow::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("{}: cannot be made", dir.display()))?;
        Ok(Self(dir.to_owned()))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn of(&self, what: &str, province: Code, ending: &str) -> PathBuf {
        self.path(&format!("{what}-{}.{ending}", province.get() / 10_000))
    }

    pub(super) fn authority(&self, province: Code) -> PathBuf {
        self.of("ca", province, "pem")
    }

    pub(super) fn authority_key(&self, province: Code) -> PathBuf {
        self.of("ca", province, "key")
    }

    pub(super) fn record(&self, province: Code) -> PathBuf {
        self.of("trust", province, "record")
    }

    /// Asked before anything is written, so that nothing is left half done.
    pub(super) fn must_be_free(&self, paths: &[&PathBuf], replace: Replace) -> anyhow::Result<()> {
        let taken = paths.iter().find(|path| path.exists());
        match taken {
            Some(path) if replace == Replace::Refused => {
                bail!(Usage(format!("{} is there already: --force replaces it", path.display())))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn write(&self, path: &Path, bytes: &[u8], replace: Replace) -> anyhow::Result<()> {
        self.put(path, bytes, 0o644, replace)
    }

    pub(super) fn write_secret(&self, path: &Path, bytes: &[u8], replace: Replace) -> anyhow::Result<()> {
        self.put(path, bytes, 0o600, replace)
    }

    fn put(&self, path: &Path, bytes: &[u8], mode: u32, replace: Replace) -> anyhow::Result<()> {
        self.must_be_free(&[&path.to_owned()], replace)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = self.path(&format!(".{name}.new"));
        let failed = || format!("{}: cannot be written", path.display());
        // A left-over from a crash may have any mode.
        let _ = fs::remove_file(&beside);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)
            .with_context(failed)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).with_context(failed)?;
        fs::rename(&beside, path).with_context(failed)
    }

    /// The anchor that is there, or a new one.
    pub(super) fn anchor_or_new(&self) -> anyhow::Result<AnchorKey> {
        let path = self.path("anchor.key");
        if path.exists() {
            return self.read_anchor();
        }
        let anchor = AnchorKey::generate()?;
        self.write_secret(&path, anchor.to_pem()?.as_bytes(), Replace::Refused)?;
        Ok(anchor)
    }

    pub(super) fn read_anchor(&self) -> anyhow::Result<AnchorKey> {
        let path = self.path("anchor.key");
        AnchorKey::from_pem(&secret(&path)?).with_context(|| path.display().to_string())
    }

    pub(super) fn read_authority(&self, province: Code) -> anyhow::Result<Authority> {
        let (cert, key) = (self.authority(province), self.authority_key(province));
        let text = fs::read_to_string(&cert).with_context(|| {
            format!("{}: `suiyue trust init --province {province}` makes it", cert.display())
        })?;
        Authority::from_pem(&text, &secret(&key)?).with_context(|| key.display().to_string())
    }

    /// The record of a province, if there is one that this anchor signed: nothing is built on another.
    pub(super) fn own_record(
        &self,
        province: Code,
        anchor: &AnchorKey,
    ) -> anyhow::Result<Option<v1::ProvinceTrust>> {
        let path = self.record(province);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.with_context(|| path.display().to_string())?,
        };
        let trust = decode(&bytes).with_context(|| path.display().to_string())?;
        Province::read(&anchor.public(), &trust.federation, province, &bytes)
            .map_err(|why| anyhow!("{}: {why}", path.display()))?;
        Ok(Some(trust))
    }

    pub(super) fn read_record(&self, province: Code) -> anyhow::Result<v1::ProvinceTrust> {
        let path = self.record(province);
        let bytes = fs::read(&path).with_context(|| {
            format!("{}: `suiyue trust init --province {province}` makes it", path.display())
        })?;
        decode(&bytes).with_context(|| path.display().to_string())
    }
}

/// What a record says; whether it is signed is another question.
pub(super) fn decode(bytes: &[u8]) -> anyhow::Result<v1::ProvinceTrust> {
    let none = |_| anyhow!("it is no record of trust");
    let record = v1::SignedRecord::decode(bytes).map_err(none)?;
    if record.signature.is_empty() {
        bail!("it is no record of trust: it is not signed");
    }
    v1::ProvinceTrust::decode(record.payload).map_err(none)
}

/// A key, from a file that only its owner may read.
fn secret(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let mode = fs::metadata(path).with_context(|| shown.to_string())?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!(Usage(format!(
            "{shown}: the private key may be read by others than its owner: chmod 600 {shown}"
        )));
    }
    fs::read_to_string(path).with_context(|| shown.to_string())
}
