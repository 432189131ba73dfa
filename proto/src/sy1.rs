//! What stands in the QR code of a live code?
//!
//! `SY1:440100:` and then 143 characters of base45: 31 bytes of [`Claims`] and a 64-byte signature.
//! With the prefix that is 154 characters of the QR code's alphanumeric set.
//! The region stands in clear, so that any scanner can set the routing metadata with [`region_of`].
//!
//! Layout, big-endian: kind 1 · alg 1 · key id 4 · code id 14 · level 1 · issued 4 (seconds since
//! 2020-01-01) · ttl 2 (units of 10 s) · list index 4.
//!
//! A text has exactly one decoding and a decoding exactly one text.
//! Nothing is signed or verified here: [`signed_bytes`] is what a signature covers.

use crate::region::Code;

/// Characters of a whole text.
pub const TEXT_LEN: usize = PREFIX_LEN + BODY_LEN;
/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 64;
/// The instant that `issued` counts from, 2020-01-01 00:00 UTC, in seconds since 1970-01-01.
pub const EPOCH_UNIX_S: i64 = 1_577_836_800;
/// The unit of the ttl field.
pub const TTL_UNIT_S: u32 = 10;
/// Algorithm number of Ed25519.
pub const ED25519: u8 = 1;

const SCHEME: &str = "SY1:";
const PREFIX_LEN: usize = SCHEME.len() + 6 + 1;
const BODY_LEN: usize = 143;
const CLAIMS_LEN: usize = 31;
const PAYLOAD_LEN: usize = CLAIMS_LEN + SIGNATURE_LEN;
// No other use of the same key can be mistaken for a code.
const DOMAIN: &[u8; 16] = b"suiyue SY1 code\0";

/// What kind of code it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Issued when it is shown, valid for about a minute.
    Live,
}

/// Health level of the holder, as signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// No restriction.
    Green,
    /// An extra check is due.
    Yellow,
    /// Stay where you are.
    Red,
}

impl Level {
    /// All levels, mildest first.
    pub const ALL: [Self; 3] = [Self::Green, Self::Yellow, Self::Red];

    /// The number on the wire, the same as in `suiyue.v1.Level`.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Green => 1,
            Self::Yellow => 2,
            Self::Red => 3,
        }
    }

    /// The level with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Green),
            2 => Some(Self::Yellow),
            3 => Some(Self::Red),
            _ => None,
        }
    }
}

/// What a code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// Kind of the code.
    pub kind: Kind,
    /// Signature algorithm; [`ED25519`] is the only one in use.
    pub algorithm: u8,
    /// Names the key within the region; not unique, because four bytes can be ground.
    pub key_id: [u8; 4],
    /// Unique to this code.
    pub code_id: [u8; 14],
    /// Level of the holder at the time of issue.
    pub level: Level,
    /// When it was issued, in seconds since 2020-01-01 00:00 UTC.
    pub issued: u32,
    /// For how long it is valid, in units of 10 s.
    pub ttl: u16,
    /// Position in the issuing node's list of live codes.
    pub list_index: u32,
}

impl Claims {
    /// When it was issued, in seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn issued_unix_s(&self) -> i64 {
        EPOCH_UNIX_S + i64::from(self.issued)
    }

    /// When it ends, in seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn expires_unix_s(&self) -> i64 {
        self.issued_unix_s() + i64::from(self.ttl) * i64::from(TTL_UNIT_S)
    }

    fn to_bytes(self) -> [u8; CLAIMS_LEN] {
        let mut out = [0; CLAIMS_LEN];
        let Kind::Live = self.kind;
        out[0] = 1;
        out[1] = self.algorithm;
        out[2..6].copy_from_slice(&self.key_id);
        out[6..20].copy_from_slice(&self.code_id);
        out[20] = self.level.number();
        out[21..25].copy_from_slice(&self.issued.to_be_bytes());
        out[25..27].copy_from_slice(&self.ttl.to_be_bytes());
        out[27..31].copy_from_slice(&self.list_index.to_be_bytes());
        out
    }

    fn from_bytes(bytes: &[u8; PAYLOAD_LEN]) -> Result<Self, Error> {
        if bytes[0] != 1 {
            return Err(Error::Kind(bytes[0]));
        }
        if bytes[1] != ED25519 {
            return Err(Error::Algorithm(bytes[1]));
        }
        Ok(Self {
            kind: Kind::Live,
            algorithm: bytes[1],
            key_id: array(bytes, 2),
            code_id: array(bytes, 6),
            level: Level::from_number(bytes[20]).ok_or(Error::Level(bytes[20]))?,
            issued: u32::from_be_bytes(array(bytes, 21)),
            ttl: u16::from_be_bytes(array(bytes, 25)),
            list_index: u32::from_be_bytes(array(bytes, 27)),
        })
    }
}

/// A text taken apart; nothing about it is proven until the signature is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// The region in clear.
    pub region: Code,
    /// What it says.
    pub claims: Claims,
    /// Signature over [`signed_bytes`].
    pub signature: [u8; SIGNATURE_LEN],
}

/// Why a text is no SY1 code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not begin with `SY1:`, six digits and a colon.
    #[error("a code begins with SY1:, six digits and a colon")]
    Prefix,
    /// The six digits are no region code.
    #[error("the six digits are no region code")]
    Region,
    /// It is too short or too long.
    #[error("a code has {TEXT_LEN} characters, not {0}")]
    Length(usize),
    /// The body is not canonical base45.
    #[error("the body is not base45")]
    Base45,
    /// Kind of code that is not known here.
    #[error("kind {0} of code is not known")]
    Kind(u8),
    /// Algorithm that is not known here.
    #[error("signature algorithm {0} is not known")]
    Algorithm(u8),
    /// Level that is not known here.
    #[error("level {0} is not known")]
    Level(u8),
}

/// The region of a text, without looking at the rest.
///
/// # Errors
/// [`Error::Prefix`] or [`Error::Region`].
pub fn region_of(text: &str) -> Result<Code, Error> {
    let digits = text.strip_prefix(SCHEME).ok_or(Error::Prefix)?;
    let (digits, rest) = digits.split_at_checked(6).ok_or(Error::Prefix)?;
    if !rest.starts_with(':') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Error::Prefix);
    }
    digits.parse().map_err(|_| Error::Region)
}

/// The bytes that a signature covers: a domain, the region, and everything the code says.
#[must_use]
pub fn signed_bytes(region: Code, claims: &Claims) -> [u8; 51] {
    let mut out = [0; 51];
    out[..16].copy_from_slice(DOMAIN);
    out[16..20].copy_from_slice(&region.get().to_be_bytes());
    out[20..].copy_from_slice(&claims.to_bytes());
    out
}

/// The text of a code.
#[must_use]
pub fn encode(region: Code, claims: &Claims, signature: &[u8; SIGNATURE_LEN]) -> String {
    let mut payload = [0; PAYLOAD_LEN];
    payload[..CLAIMS_LEN].copy_from_slice(&claims.to_bytes());
    payload[CLAIMS_LEN..].copy_from_slice(signature);
    let mut text = String::with_capacity(TEXT_LEN);
    text.push_str(SCHEME);
    text.push_str(&region.to_string());
    text.push(':');
    text.push_str(&base45::encode(payload));
    text
}

/// Takes a text apart.
///
/// # Errors
/// [`Error`]: which part cannot be read.
pub fn decode(text: &str) -> Result<Decoded, Error> {
    let region = region_of(text)?;
    if text.len() != TEXT_LEN {
        return Err(Error::Length(text.len()));
    }
    let body = text.get(PREFIX_LEN..).ok_or(Error::Base45)?;
    let payload = base45::decode(body).map_err(|_| Error::Base45)?;
    // The decoder lets a last pair above 255 through; only one text may stand for a code.
    if base45::encode(&payload) != body {
        return Err(Error::Base45);
    }
    let payload: [u8; PAYLOAD_LEN] = payload.try_into().map_err(|_| Error::Base45)?;
    let claims = Claims::from_bytes(&payload)?;
    Ok(Decoded { region, claims, signature: array(&payload, CLAIMS_LEN) })
}

fn array<const N: usize>(bytes: &[u8; PAYLOAD_LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn region() -> impl Strategy<Value = Code> {
        (110_000u32..=829_999).prop_map(|n| Code::new(n).unwrap())
    }

    prop_compose! {
        fn claims()(key_id: [u8; 4], code_id: [u8; 14], level in 0usize..3, issued: u32, ttl: u16, list_index: u32) -> Claims {
            Claims { kind: Kind::Live, algorithm: ED25519, key_id, code_id, level: Level::ALL[level], issued, ttl, list_index }
        }
    }

    fn signature() -> impl Strategy<Value = [u8; 64]> {
        prop::collection::vec(any::<u8>(), 64).prop_map(|v| v.try_into().unwrap())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(region in region(), claims in claims(), signature in signature()) {
            let text = encode(region, &claims, &signature);
            prop_assert_eq!(text.len(), TEXT_LEN);
            prop_assert_eq!(region_of(&text), Ok(region));
            prop_assert_eq!(decode(&text), Ok(Decoded { region, claims, signature }));
        }

        #[test]
        fn every_truncation_is_refused(region in region(), claims in claims(), signature in signature()) {
            let text = encode(region, &claims, &signature);
            for end in 0..text.len() {
                prop_assert!(decode(&text[..end]).is_err());
            }
            prop_assert!(decode(&(text + "0")).is_err());
        }

        #[test]
        fn every_changed_character_is_refused_or_changes_what_is_checked(
            region in region(), claims in claims(), signature in signature(), at in 0..TEXT_LEN, to in 0usize..45,
        ) {
            let text = encode(region, &claims, &signature);
            let mut changed = text.clone().into_bytes();
            changed[at] = base45::alphabet::TABLE[to];
            let changed = String::from_utf8(changed).unwrap();
            prop_assume!(changed != text);
            if let Ok(read) = decode(&changed) {
                let same = signed_bytes(read.region, &read.claims) == signed_bytes(region, &claims)
                    && read.signature == signature;
                prop_assert!(!same);
            }
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,200}", body in "[0-9A-Z $%*+./:-]{143}") {
            let _ = decode(&text);
            let _ = decode(&format!("SY1:440100:{body}"));
            let _ = region_of(&format!("SY1:{text}"));
        }
    }

    #[track_caller]
    fn check(text: &str, expected: Error) {
        assert_eq!(decode(text), Err(expected), "{text}");
    }

    #[test]
    fn each_fault_has_its_own_error() {
        let claims = Claims {
            kind: Kind::Live,
            algorithm: ED25519,
            key_id: [1; 4],
            code_id: [2; 14],
            level: Level::Red,
            issued: 3,
            ttl: 6,
            list_index: 4,
        };
        let text = encode(Code::new(440_100).unwrap(), &claims, &[5; 64]);
        check("", Error::Prefix);
        check("SY2:440100:", Error::Prefix);
        check("SY1:4401000:", Error::Prefix);
        check("SY1:44010", Error::Prefix);
        check("SY1:44é10:", Error::Prefix);
        check("SY1:000000:", Error::Region);
        check("SY1:440100:ABC", Error::Length(14));
        check(&text.to_lowercase().replace("sy1", "SY1"), Error::Base45);
        check(&format!("{}::", &text[..TEXT_LEN - 2]), Error::Base45);
        let with = |at: usize, byte: u8| {
            let mut payload = base45::decode(&text[PREFIX_LEN..]).unwrap();
            payload[at] = byte;
            format!("{}{}", &text[..PREFIX_LEN], base45::encode(payload))
        };
        check(&with(0, 9), Error::Kind(9));
        check(&with(1, 2), Error::Algorithm(2));
        check(&with(20, 0), Error::Level(0));
    }

    #[test]
    fn times_count_from_2020() {
        let claims = Claims {
            kind: Kind::Live,
            algorithm: ED25519,
            key_id: [0; 4],
            code_id: [0; 14],
            level: Level::Green,
            issued: 100,
            ttl: 6,
            list_index: 0,
        };
        assert_eq!((claims.issued_unix_s(), claims.expires_unix_s()), (1_577_836_900, 1_577_836_960));
    }
}
