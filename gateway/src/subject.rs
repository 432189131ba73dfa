//! Which calls stay together?
//!
//! Calls about one subject: `suiyue-subject`, 16 opaque bytes in hex, hashed to the key of the pick.
//! The hash is keyed (SipHash-1-3), so that nobody outside can make subjects that all fall to one node,
//! and so that what is bucketed by it says nothing about a subject. All gateways of a federation need
//! the same key, else a subject is at home at another node behind each of them.

use siphasher::sip::SipHasher13;
use std::{
    fmt, fs,
    hash::Hasher as _,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// Bytes of a key.
const KEY: usize = 16;
/// The key of gateways that were given none: public, the same everywhere.
const KNOWN: [u8; KEY] = *b"suiyue, no key!!";
/// Bytes of metadata that are looked at: a subject has 32 digits.
const LONGEST: usize = 64;

/// The key that subjects are hashed with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; KEY]);

impl Default for Key {
    fn default() -> Self {
        Self(KNOWN)
    }
}

/// A key is a secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others on this machine may read it.
    #[error("{path}: others may read this key: chmod 600 {path}", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It is no key.
    #[error(
        "{path}: no key of 32 hexadecimal digits: make one with `openssl rand -hex 16`",
        path = path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl Key {
    /// Reads a key of 32 hexadecimal digits.
    ///
    /// # Errors
    /// [`Error`], for a person; it never shows what stands in the file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(Error::Exposed { path: path.to_owned() });
        }
        let mut bytes = Vec::new();
        file.take(1024).read_to_end(&mut bytes).map_err(unreadable)?;
        let key = str::from_utf8(&bytes).ok().and_then(|text| digits(text.trim()));
        key.map(Self).ok_or_else(|| Error::Malformed { path: path.to_owned() })
    }

    /// The key that the calls about a subject are picked with, from its metadata; upper-case hex is the
    /// same subject.
    #[must_use]
    pub fn hash(&self, metadata: &[u8]) -> u64 {
        let mut lower = [0; LONGEST];
        let length = metadata.len().min(LONGEST);
        lower[..length].copy_from_slice(&metadata[..length]);
        lower[..length].make_ascii_lowercase();
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(&lower[..length]);
        hasher.finish()
    }

    /// The same from the subject's bytes.
    #[must_use]
    pub fn of(&self, subject: &[u8]) -> u64 {
        let hex: String = subject.iter().map(|byte| format!("{byte:02x}")).collect();
        self.hash(hex.as_bytes())
    }
}

fn digits(text: &str) -> Option<[u8; KEY]> {
    if text.len() != 2 * KEY || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; KEY];
    for (place, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a file with this text, readable by its owner only.
    fn read(text: &str) -> Result<Key, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("subject.key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Key::read(&path)
    }

    #[test]
    fn a_subject_is_the_same_in_upper_case_and_as_bytes() {
        let key = Key::default();
        assert_eq!(key.hash(b"00AB7FCD9E"), key.of(&[0x00, 0xab, 0x7f, 0xcd, 0x9e]));
        assert_ne!(key.hash(b"00ab7fcd9e"), key.hash(b"00ab7fcd9f"));
    }

    #[test]
    fn the_key_decides_and_is_the_same_wherever_it_is_read() {
        let text = "000102030405060708090a0b0c0d0e0f";
        let key = read(&format!("{text}\n")).unwrap();
        assert_eq!(key, read(&text.to_uppercase()).unwrap());
        assert_ne!(key.hash(b"00"), Key::default().hash(b"00"));
        // SipHash-1-3 of nothing under this key.
        assert_eq!(key.hash(b""), 0xabac_0158_050f_c4dc);
    }

    #[test]
    fn a_long_subject_is_hashed_by_its_beginning() {
        let key = Key::default();
        assert_eq!(key.hash(&[b'a'; 100]), key.hash(&[b'a'; 64]));
        assert_ne!(key.hash(&[b'a'; 64]), key.hash(&[b'a'; 63]));
    }

    #[test]
    fn a_file_that_is_no_key_says_what_to_do_and_shows_nothing_of_it() {
        for text in ["", "secret", "000102030405060708090a0b0c0d0e0", "g00102030405060708090a0b0c0d0e0f"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("openssl rand -hex 16"), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        let missing = Key::read(Path::new("/nowhere/subject.key")).unwrap_err();
        assert!(matches!(missing, Error::Unreadable { .. }), "{missing}");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("subject.key");
        fs::write(&path, "000102030405060708090a0b0c0d0e0f").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Key::read(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
