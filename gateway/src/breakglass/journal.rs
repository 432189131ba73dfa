//! What does a gateway know of break-glass after it was killed?
//!
//! Everything that was in force and everything that the audit does not have yet: one small file, written
//! under another name, on the disk before it is renamed, and the name on the disk before anything counts.
//! A file that is not the one that was written is moved aside, for a person to look at.

use crate::clock::unix_ms;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use prost::Message as _;
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};
use suiyue_proto::v1::BreakglassJournal;

/// What the file begins with: its kind, and the layout of the rest (SHA-256, then the message).
const MAGIC: &[u8; 8] = b"suiyueB1";

/// The journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}", path = path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

impl Error {
    /// The thread that wrote it died.
    pub(super) fn broken() -> Self {
        Self { path: PathBuf::from("journal"), source: io::Error::other("it could not be written") }
    }
}

/// The file of one gateway.
#[derive(Debug, Clone)]
pub struct Journal(PathBuf);

impl Journal {
    /// In this directory, which is made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(|source| Error { path: dir.to_owned(), source })?;
        Ok(Self(dir.join("journal")))
    }

    /// What stands there. A new one has an id of its own.
    ///
    /// # Errors
    /// The file is there and cannot be read, or cannot be moved aside where it is damaged.
    pub fn read(&self) -> Result<BreakglassJournal, Error> {
        let error = |source| Error { path: self.0.clone(), source };
        let bytes = match fs::read(&self.0) {
            Ok(bytes) => bytes,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(fresh()),
            Err(source) => return Err(error(source)),
        };
        if let Some(journal) = decode(&bytes) {
            return Ok(journal);
        }
        let aside = self.0.with_extension(format!("damaged-{}", unix_ms()));
        fs::rename(&self.0, &aside).map_err(error)?;
        let (path, aside) = (self.0.display(), aside.display());
        tracing::error!(%path, %aside,
            "the break-glass journal is damaged: nothing of it is in force, and what it had for the audit is not told");
        Ok(fresh())
    }

    /// Writes it whole; returns when it is on the disk.
    ///
    /// # Errors
    /// What stood there before still does, or this.
    pub fn write(&self, journal: &BreakglassJournal) -> Result<(), Error> {
        let write = || {
            let draft = self.0.with_extension("draft");
            let message = journal.encode_to_vec();
            let mut file = File::create(&draft)?;
            file.write_all(MAGIC)?;
            file.write_all(digest(&SHA256, &message).as_ref())?;
            file.write_all(&message)?;
            file.sync_all()?;
            fs::rename(&draft, &self.0)?;
            File::open(self.0.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|source| Error { path: self.0.clone(), source })
    }
}

fn fresh() -> BreakglassJournal {
    BreakglassJournal { id: format!("{:016x}", rand::random::<u64>()), ..BreakglassJournal::default() }
}

fn decode(bytes: &[u8]) -> Option<BreakglassJournal> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (hash, message) = rest.split_at_checked(SHA256_OUTPUT_LEN)?;
    if digest(&SHA256, message).as_ref() != hash {
        return None;
    }
    BreakglassJournal::decode(message).ok()
}
