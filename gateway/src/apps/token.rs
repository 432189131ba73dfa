//! What does an app's token look like?
//!
//! `sya_` and 64 hex digits: 256 random bits, so that its hash gives nothing away and cannot be searched.
//! The prefix lets scanners find tokens that were put where they do not belong.

use aws_lc_rs::{
    digest::{SHA256, SHA256_OUTPUT_LEN, digest},
    rand,
};
use std::fmt;

/// What every token begins with.
pub const PREFIX: &str = "sya_";
/// Characters of a token.
const LEN: usize = PREFIX.len() + 64;

/// SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; SHA256_OUTPUT_LEN]);

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({}…)", self.fingerprint())
    }
}

impl Hash {
    /// Hash of a token's text.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest(&SHA256, token).as_ref());
        Self(hash)
    }

    /// Eight hex digits, for a person.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.0[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A new token. It is shown once and kept nowhere.
///
/// # Errors
/// The system gives no random numbers.
pub fn draw() -> Result<String, aws_lc_rs::error::Unspecified> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes)?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{PREFIX}{hex}"))
}

/// The token in a value of `authorization`; `None`: there is none of ours.
#[must_use]
pub fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = authorization.split_at_checked("bearer ".len())?;
    // The scheme is written in any case (RFC 9110, section 11.1).
    let ours =
        scheme.eq_ignore_ascii_case(b"bearer ") && token.len() == LEN && token.starts_with(PREFIX.as_bytes());
    ours.then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_drawn_and_found() {
        let (one, other) = (draw().unwrap(), draw().unwrap());
        assert!(one != other && one.len() == LEN && one.starts_with(PREFIX));
        for scheme in ["Bearer", "bearer", "BEARER"] {
            assert_eq!(bearer(format!("{scheme} {one}").as_bytes()), Some(one.as_bytes()));
        }
        for bad in [
            one.clone(),
            format!("Basic {one}"),
            format!("Bearer  {one}"),
            format!("Bearer {one} "),
            String::new(),
        ] {
            assert_eq!(bearer(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(bearer(b"Bearer eyJhbGciOiJIUzI1NiJ9"), None);
    }

    #[test]
    fn a_hash_is_shown_in_part() {
        let hash = Hash::of(b"sya_");
        assert_eq!(format!("{hash:?}"), format!("Hash({}…)", hash.fingerprint()));
        assert_eq!(hash.fingerprint().len(), 8);
    }
}
