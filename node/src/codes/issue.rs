//! What does a live code say?
//!
//! The holder's level now, signed with the key in force, valid for a minute. It names the holder to
//! nobody: the code id is random, and the number in it means something to this node only.

use super::live::LiveCodes;
use crate::clock::Clock;
use crate::keys::own::Own;
use crate::population::Subject;
use crate::status::table::Table;
use rand::Rng as _;
use std::sync::Arc;
use suiyue_proto::region::Code;
use suiyue_proto::sy1::{self, Claims, Kind};

/// A live code is valid for this many seconds.
pub const TTL_S: u32 = 60;

/// Makes live codes.
#[derive(Debug)]
pub struct Issuer {
    /// The signing keys.
    pub keys: Arc<Own>,
    /// The statuses.
    pub table: Arc<Table>,
    /// The codes that were issued.
    pub live: Arc<LiveCodes>,
    /// The wall clock.
    pub clock: Clock,
}

/// A code that was issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// What to draw.
    pub text: String,
    /// What it says.
    pub claims: Claims,
}

/// Why no code was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such holder.
    #[error("no such holder")]
    SubjectUnknown,
    /// No key is in force.
    #[error("no signing key is in force")]
    NoKey,
}

impl Issuer {
    /// Issues a code.
    ///
    /// # Errors
    /// [`Error`].
    pub fn issue(&self, region: Code, subject: &Subject) -> Result<Issued, Error> {
        let level = self.table.level(region, subject).ok_or(Error::SubjectUnknown)?;
        let now = self.clock.unix_s();
        let key = self.keys.current(now).ok_or(Error::NoKey)?;
        let issued = u32::try_from(now - sy1::EPOCH_UNIX_S).map_err(|_| Error::NoKey)?;
        let mut code_id = [0; 14];
        rand::rng().fill(&mut code_id);
        let claims = Claims {
            kind: Kind::Live,
            algorithm: sy1::ED25519,
            key_id: key.id(),
            code_id,
            level,
            issued,
            ttl: const { (TTL_S / sy1::TTL_UNIT_S) as u16 },
            list_index: self.live.add(*subject, code_id, issued),
        };
        let text = sy1::encode(region, &claims, &key.sign(region, &claims));
        Ok(Issued { text, claims })
    }
}
