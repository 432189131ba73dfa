//! Which of this node's manifests is the newest?
//!
//! Whoever can write into the registry can put back a manifest that the node signed once. Gateways refuse
//! it by its serial, as far as a newer one has a higher serial. Nobody has to think of that: the serial
//! rises by itself when the manifest changes, and stays when it does not.
//!
//! It is the time of the change in milliseconds, or one more than the last serial, whichever is higher. So
//! it rises through a restart and through a clock that was set back (the last one stands in the data
//! directory), and also for a node that has lost its data directory, or never had one (the time is higher
//! than it was). Only a node without one whose clock goes back as well falls behind; the registrar's log
//! says so, and a serial in the configuration helps.

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use suiyue_proto::v1::Manifest;

const FILE: &str = "manifest-serial.json";

/// Why there is no serial.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no file of ours any more.
    #[error("{0} is damaged; restore it, or move it away and the serial begins with the time of now")]
    Damaged(PathBuf),
    /// The configuration's serial has been used up.
    #[error(
        "manifest_serial: {given} was signed before, or a higher one: {last} is this node's last, for another \
         manifest; write {} or more, or leave it out", last.saturating_add(1)
    )]
    Used {
        /// What the configuration says.
        given: u64,
        /// What was signed last.
        last: u64,
    },
}

/// The last manifest that was signed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    serial: u64,
    /// Of the manifest without its serial.
    sha256: String,
}

/// The serial of a manifest, which is remembered in the data directory, where there is one. `given`: the
/// operator of the node chooses it.
///
/// # Errors
/// [`Error`].
pub fn of(
    manifest: &Manifest,
    given: Option<u64>,
    data_dir: Option<&Path>,
    unix_ms: i64,
) -> Result<u64, Error> {
    let path = data_dir.map(|dir| dir.join(FILE));
    let last = path.as_deref().map(read).transpose()?.flatten();
    let bare = Manifest { serial: 0, ..manifest.clone() }.encode_to_vec();
    let sha256 = suiyue_proto::identity::certificate::hex(digest(&SHA256, &bare).as_ref());
    let serial = choose(last.as_ref(), &sha256, given, unix_ms)?;
    if let Some(path) = path
        && last.is_none_or(|last| last.serial != serial || last.sha256 != sha256)
    {
        write(&path, &Last { serial, sha256 }).map_err(|source| Error::Io { path, source })?;
    }
    Ok(serial)
}

fn choose(last: Option<&Last>, sha256: &str, given: Option<u64>, unix_ms: i64) -> Result<u64, Error> {
    let time = u64::try_from(unix_ms).unwrap_or(0).max(1);
    let Some(Last { serial: last, sha256: of }) = last else { return Ok(given.unwrap_or(time)) };
    let same = sha256 == of;
    match given {
        Some(given) if given < *last || (given == *last && !same) => Err(Error::Used { given, last: *last }),
        Some(given) => Ok(given),
        None if same => Ok(*last),
        None => Ok(time.max(last.saturating_add(1))),
    }
}

fn read(path: &Path) -> Result<Option<Last>, Error> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|_| Error::Damaged(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path: path.to_owned(), source }),
    }
}

// Written beside the file, made durable, then renamed: a serial must not be forgotten once it is signed.
fn write(path: &Path, last: &Last) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(&serde_json::to_vec(last)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_800_000_000_000;

    fn manifest(rps_max: u32) -> Manifest {
        Manifest { region: 440_100, node: "suikang".to_owned(), rps_max, ..Manifest::default() }
    }

    #[test]
    fn a_serial_rises_with_a_change_and_stays_without_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |rps_max, unix_ms| of(&manifest(rps_max), None, Some(dir.path()), unix_ms).unwrap();
        let start = START as u64;
        assert_eq!(at(1, START), start);
        assert_eq!(at(1, START + 9), start, "a restart is no change");
        assert_eq!(at(2, START + 10), start + 10);
        // The clock is set back, and even to nothing.
        assert_eq!(at(1, START), start + 11);
        assert_eq!(at(2, -5), start + 12);
        // The serial itself is no change.
        let signed = Manifest { serial: start + 12, ..manifest(2) };
        assert_eq!(of(&signed, None, Some(dir.path()), START + 99).unwrap(), start + 12);
    }

    #[test]
    fn without_a_data_directory_it_is_the_time() {
        assert_eq!(of(&manifest(1), None, None, START).unwrap(), START as u64);
        assert_eq!(of(&manifest(1), None, None, START + 1).unwrap(), START as u64 + 1);
        assert_eq!(of(&manifest(1), None, None, -1).unwrap(), 1, "0 is no serial");
    }

    #[test]
    fn a_chosen_serial_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let chosen = |rps_max, given| of(&manifest(rps_max), given, Some(dir.path()), START);
        assert_eq!(chosen(1, Some(7)).unwrap(), 7);
        assert_eq!(chosen(1, Some(7)).unwrap(), 7);
        let error = chosen(2, Some(7)).unwrap_err();
        assert!(matches!(error, Error::Used { given: 7, last: 7 }) && error.to_string().contains("write 8"));
        assert!(matches!(chosen(1, Some(6)), Err(Error::Used { given: 6, last: 7 })));
        assert_eq!(chosen(2, Some(8)).unwrap(), 8);
        assert_eq!(chosen(3, None).unwrap(), START as u64);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "7").unwrap();
        let error = of(&manifest(1), None, Some(dir.path()), START).unwrap_err();
        assert!(error.to_string().contains("manifest-serial.json is damaged"), "{error}");
    }
}
