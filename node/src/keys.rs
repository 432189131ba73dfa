//! Which keys sign codes, and which may a code be checked with?
//!
//! [`own`] holds this node's signing keys and rotates them; [`ring`] holds every verifying key of
//! the federation. A key signs for its own regions only, and the ring enforces it.

pub mod own;
pub mod ring;

use suiyue_proto::region::Code;
use suiyue_proto::sy1;
use suiyue_proto::v1;

/// A public key and what it may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifying {
    /// Four bytes that a code names its key with; not unique.
    pub id: [u8; 4],
    /// Ed25519 public key.
    pub public: [u8; 32],
    /// Regions whose codes it may sign.
    pub regions: Vec<Code>,
    /// From when it signs, in seconds since 1970-01-01 UTC.
    pub not_before_unix_s: i64,
    /// Until when it signs, in seconds since 1970-01-01 UTC.
    pub not_after_unix_s: i64,
}

/// A key of the federation that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(&'static str);

impl TryFrom<&v1::VerifyingKey> for Verifying {
    type Error = Unusable;

    fn try_from(key: &v1::VerifyingKey) -> Result<Self, Unusable> {
        if key.algorithm != u32::from(sy1::ED25519) {
            return Err(Unusable("the algorithm is not known here"));
        }
        Ok(Self {
            id: key.key_id.as_ref().try_into().map_err(|_| Unusable("a key id has 4 bytes"))?,
            public: key.public_key.as_ref().try_into().map_err(|_| Unusable("a public key has 32 bytes"))?,
            regions: key.regions.iter().filter_map(|region| Code::new(*region)).collect(),
            not_before_unix_s: key.not_before_unix_s,
            not_after_unix_s: key.not_after_unix_s,
        })
    }
}

impl From<&Verifying> for v1::VerifyingKey {
    fn from(key: &Verifying) -> Self {
        Self {
            key_id: key.id.to_vec().into(),
            algorithm: u32::from(sy1::ED25519),
            public_key: key.public.to_vec().into(),
            regions: key.regions.iter().map(|region| region.get()).collect(),
            not_before_unix_s: key.not_before_unix_s,
            not_after_unix_s: key.not_after_unix_s,
        }
    }
}
