//! Can this manifest, address or key be used?
//!
//! One set of checks for both sides of the registry: the registrar refuses what fails them before it
//! is written, the fold quarantines it whoever wrote it. Which regions a *token* may speak for is the
//! registrar's business; here a node is held to what its role and its own region allow.

use super::keys::is_name;
use crate::table::Role;
use bytes::Bytes;
use prost::{DecodeError, Message as _};
use std::sync::Arc;
use suiyue_proto::{
    method::{Method, methods_of},
    region::{self, Code},
    v1,
};

/// Keys that one node may have.
pub const MAX_KEYS: usize = 32;
/// Prefixes of foreign codes that one node may understand.
const MAX_CODE_PREFIXES: usize = 16;

/// Something that cannot be used: which field, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}")]
pub struct Invalid {
    /// Path of the field in the message.
    pub field: &'static str,
    /// What would be right.
    pub expected: String,
}

fn invalid<T>(field: &'static str, expected: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid { field, expected: expected.into() })
}

/// A manifest that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Its own region.
    pub region: Code,
    /// Its name.
    pub name: Arc<str>,
    /// City or province.
    pub role: Role,
    /// Regions that it answers for, its own among them, in ascending order.
    pub scopes: Vec<Code>,
    /// Calls a second; `None`: not declared.
    pub rps_max: Option<u32>,
    /// Methods of foreign services; those of `suiyue.v1` are known anyway and left out.
    pub methods: Vec<Arc<Method>>,
}

/// The manifest in the value of a `spec`, signed or not; by itself it proves nothing. It is read as what was
/// signed is read: a second copy of the field does not merge with the first.
///
/// # Errors
/// The value cannot be decoded.
pub fn stored(value: &Bytes) -> Result<v1::Manifest, DecodeError> {
    let record = v1::SignedRecord::decode(value.clone())?;
    v1::Manifest::decode(record.payload)
}

/// Checks a manifest against the region table and `own`, the methods of `suiyue.v1`.
///
/// # Errors
/// [`Invalid`] names the first field that cannot be used.
pub fn check(manifest: &v1::Manifest, own: &[Arc<Method>]) -> Result<Checked, Invalid> {
    let region = routing_region("manifest.region", manifest.region)?;
    if !is_name(&manifest.node) {
        return invalid("manifest.node", "1 to 63 characters of a-z, 0-9 and '-'");
    }
    let role = match manifest.role() {
        v1::Role::City => Role::City,
        v1::Role::Province if region::parent(region).is_none() => Role::Province,
        v1::Role::Province => return invalid("manifest.role", format!("CITY, as {region} is no province")),
        v1::Role::Unspecified => return invalid("manifest.role", "CITY or PROVINCE"),
    };
    if manifest.code_prefixes.len() > MAX_CODE_PREFIXES {
        return invalid("manifest.code_prefixes", format!("at most {MAX_CODE_PREFIXES}"));
    }
    Ok(Checked {
        region,
        name: manifest.node.as_str().into(),
        role,
        scopes: scopes(region, role, &manifest.scopes)?,
        rps_max: (manifest.rps_max > 0).then_some(manifest.rps_max),
        methods: methods(&manifest.descriptor_set, own)?,
    })
}

/// No scopes at all mean the node's own region.
fn scopes(region: Code, role: Role, declared: &[u32]) -> Result<Vec<Code>, Invalid> {
    const FIELD: &str = "manifest.scopes";
    let mut scopes = Vec::with_capacity(declared.len().max(1));
    for &number in declared {
        let scope = routing_region(FIELD, number)?;
        if scope != region && !(role == Role::Province && region::parent(scope) == Some(region)) {
            return invalid(
                FIELD,
                match role {
                    Role::City => format!("only {region}, the city's own region"),
                    Role::Province => format!("{region} and regions below it; {scope} is not"),
                },
            );
        }
        scopes.push(scope);
    }
    if scopes.is_empty() {
        scopes.push(region);
    }
    scopes.sort_unstable();
    scopes.dedup();
    if !scopes.contains(&region) {
        return invalid(FIELD, format!("{region}, the node's own region, among them"));
    }
    Ok(scopes)
}

fn methods(descriptor_set: &[u8], own: &[Arc<Method>]) -> Result<Vec<Arc<Method>>, Invalid> {
    const FIELD: &str = "manifest.descriptor_set";
    let declared = methods_of(descriptor_set).or_else(|error| invalid(FIELD, error.to_string()))?;
    let mut foreign = Vec::new();
    for method in declared {
        let path = method.path.as_str();
        if own.iter().any(|known| **known == method) {
            continue;
        }
        if path.starts_with("/suiyue.v1.") || path.starts_with("/grpc.") {
            return invalid(FIELD, format!("no other {path} than the gateway's own"));
        }
        foreign.push(Arc::new(method));
    }
    Ok(foreign)
}

/// A region that requests are routed to, by its number.
///
/// # Errors
/// [`Invalid`] for a county, a retired code, or none at all.
pub fn routing_region(field: &'static str, number: u32) -> Result<Code, Invalid> {
    match region::resolve(number) {
        Ok(code) if code.get() == number => Ok(code),
        Ok(code) => invalid(field, format!("a region that is routed to, such as {code}")),
        Err(error) => invalid(field, error.to_string()),
    }
}

/// Checks that `text` is `host:port`; the host is a name, an IPv4 address or `[IPv6]`.
///
/// # Errors
/// [`Invalid`] for anything else.
pub fn address(text: &str) -> Result<(), Invalid> {
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        let named = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => (1..=253).contains(&host.len()) && host.chars().all(named),
        };
        host && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if good { Ok(()) } else { invalid("address", "host:port, with the port between 1 and 65535") }
}

/// Checks a verifying key of a node that answers for `scopes`: nobody signs for a foreign region.
///
/// # Errors
/// [`Invalid`] names the field.
pub fn verifying_key(key: &v1::VerifyingKey, scopes: &[Code]) -> Result<(), Invalid> {
    if key.key_id.len() != 4 {
        return invalid("keys.key_id", "4 bytes");
    }
    if key.algorithm != 1 {
        return invalid("keys.algorithm", "1 (Ed25519)");
    }
    if key.public_key.len() != 32 {
        return invalid("keys.public_key", "32 bytes");
    }
    let may_sign = |number: &u32| scopes.iter().any(|scope| scope.get() == *number);
    if key.regions.is_empty() || !key.regions.iter().all(may_sign) {
        return invalid("keys.regions", "regions of the node's scopes");
    }
    if key.not_after_unix_s <= key.not_before_unix_s {
        return invalid("keys.not_after_unix_s", "an instant after not_before_unix_s");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guangdong(change: impl FnOnce(&mut v1::Manifest)) -> v1::Manifest {
        let mut manifest = v1::Manifest {
            region: 440_000,
            node: "yuekang".to_owned(),
            role: v1::Role::Province.into(),
            scopes: vec![440_000, 440_100],
            ..Default::default()
        };
        change(&mut manifest);
        manifest
    }

    fn refused(change: impl FnOnce(&mut v1::Manifest), field: &str) {
        assert_eq!(check(&guangdong(change), &[]).unwrap_err().field, field);
    }

    #[test]
    fn a_province_answers_for_itself_and_its_cities() {
        let checked = check(&guangdong(|_| {}), &[]).unwrap();
        assert_eq!(checked.scopes.iter().map(|code| code.get()).collect::<Vec<_>>(), [440_000, 440_100]);
        assert_eq!((checked.role, checked.rps_max), (Role::Province, None));
        refused(|m| m.scopes.push(610_100), "manifest.scopes");
        refused(|m| m.scopes = vec![440_100], "manifest.scopes");
        refused(|m| m.scopes.push(440_106), "manifest.scopes");
    }

    #[test]
    fn a_city_answers_for_itself_only() {
        let city = |scopes: &[u32]| {
            let manifest = guangdong(|m| {
                (m.region, m.role, m.scopes) = (440_100, v1::Role::City.into(), scopes.to_vec());
            });
            check(&manifest, &[]).map(|checked| checked.scopes.len())
        };
        assert_eq!((city(&[440_100]), city(&[])), (Ok(1), Ok(1)));
        assert_eq!(city(&[440_100, 440_300]).unwrap_err().field, "manifest.scopes");
        assert_eq!(city(&[440_000]).unwrap_err().field, "manifest.scopes");
    }

    #[test]
    fn each_bad_field_is_named() {
        refused(|m| m.region = 440_106, "manifest.region");
        refused(|m| m.region = 1, "manifest.region");
        refused(|m| m.node = "Yue_kang".to_owned(), "manifest.node");
        refused(|m| m.role = 0, "manifest.role");
        refused(|m| m.region = 440_100, "manifest.role");
        refused(|m| m.descriptor_set = b"\xff\xff".as_slice().into(), "manifest.descriptor_set");
        refused(|m| m.code_prefixes = vec![String::new(); 17], "manifest.code_prefixes");
    }

    #[test]
    fn our_own_descriptors_are_taken_only_as_they_are() {
        let own = suiyue_proto::method::own().into_iter().map(Arc::new).collect::<Vec<_>>();
        let manifest = guangdong(|m| m.descriptor_set = suiyue_proto::DESCRIPTOR_SET.into());
        assert_eq!(check(&manifest, &own).unwrap().methods, []);
        let error = check(&manifest, &own[1..]).unwrap_err();
        assert_eq!(error.field, "manifest.descriptor_set");
    }

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["127.0.0.1:9101", "node-1.example.cn:80", "[::1]:9101"] {
            assert_eq!(address(good), Ok(()), "{good}");
        }
        for bad in ["", "9101", ":9101", "a:0", "a:65536", "a:+1", "::1:9101", "a b:1", "[x]:1", "http://a:1"]
        {
            assert!(address(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_sign_for_the_scopes_only() {
        let scopes = [Code::new(440_100).unwrap()];
        let key = v1::VerifyingKey {
            key_id: vec![1; 4].into(),
            algorithm: 1,
            public_key: vec![1; 32].into(),
            regions: vec![440_100],
            not_before_unix_s: 1,
            not_after_unix_s: 2,
        };
        assert_eq!(verifying_key(&key, &scopes), Ok(()));
        let field = |change: fn(&mut v1::VerifyingKey)| {
            let mut key = key.clone();
            change(&mut key);
            verifying_key(&key, &scopes).unwrap_err().field
        };
        assert_eq!(field(|k| k.regions.push(610_100)), "keys.regions");
        assert_eq!(field(|k| k.regions.clear()), "keys.regions");
        assert_eq!(field(|k| k.algorithm = 2), "keys.algorithm");
        assert_eq!(field(|k| k.key_id = vec![1].into()), "keys.key_id");
        assert_eq!(field(|k| k.public_key = vec![1].into()), "keys.public_key");
        assert_eq!(field(|k| k.not_after_unix_s = 1), "keys.not_after_unix_s");
    }
}
