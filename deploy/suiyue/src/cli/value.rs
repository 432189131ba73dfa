//! Which values does a flag take?

use bytes::Bytes;
use std::{fmt, str::FromStr};

/// A holder's pseudonym: 16 bytes, written as 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject([u8; 16]);

impl Subject {
    /// The bytes on the wire.
    #[must_use]
    pub fn bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

impl From<[u8; 16]> for Subject {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(|number| Self(number.to_be_bytes())).ok_or_else(|| "32 hex digits are wanted".to_owned())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// `host:port`. The host is not looked up here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
        let port = parts.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|&port| port > 0);
        port.map(|_| Self(text.to_owned()))
            .ok_or_else(|| "host:port is wanted, as in 127.0.0.1:8440 or [::1]:8440".to_owned())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A positive number of seconds, at most a day.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let seconds: Option<f64> = text.parse().ok().filter(|s| (0.001..=86_400.0).contains(s));
    seconds.ok_or_else(|| "a number of seconds from 0.001 to 86400 is wanted".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_read_and_written_alike() {
        let hex = "00112233445566778899aabbccddeeff";
        assert_eq!(hex.parse::<Subject>().unwrap().to_string(), hex);
        for bad in ["", "0011", "+0112233445566778899aabbccddeeff", "g0112233445566778899aabbccddeeff"] {
            assert!(bad.parse::<Subject>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in ["127.0.0.1:8440", "[::1]:1", "gateway.example:65535"] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        for bad in ["", "host", ":1", "host:0", "host:70000", "http://host:1"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
