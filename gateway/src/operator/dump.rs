//! What stands in the registry, for a person?
//!
//! Every value is one of the messages of `stored.proto`; which one, the key says.

use crate::identity::Leaf;
use crate::registry::{
    Entry,
    keys::{Key, Part, Prefix},
};
use prost::Message;
use suiyue_proto::v1;

/// One entry as text. A value that cannot be read says so, and why.
pub(super) fn text(prefix: &Prefix, entry: &Entry) -> v1::RegistryEntry {
    let decoded =
        prefix.parse(&entry.key).map_err(|e| e.to_string()).and_then(|key| decode(&key, &entry.value));
    let invalid = decoded.is_err();
    v1::RegistryEntry {
        key: entry.key.clone(),
        mod_revision: entry.mod_revision,
        lease: entry.lease,
        text: decoded.unwrap_or_else(|why| why),
        invalid,
    }
}

fn read<M: Message + Default>(value: &[u8]) -> Result<M, String> {
    M::decode(value).map_err(|e| e.to_string())
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",")
}

fn decode(key: &Key, value: &[u8]) -> Result<String, String> {
    match key {
        Key::Region(_) => Ok(policy(&read(value)?)),
        Key::Gateway(_) => {
            let presence: v1::GatewayPresence = read(value)?;
            Ok(format!(
                "gateway control={} applied_revision={}",
                presence.control_address, presence.applied_revision
            ))
        }
        Key::Trust(_) => trust(&read(value)?),
        Key::Node { part, .. } => of_node(part, value),
    }
}

fn policy(policy: &v1::RegionPolicy) -> String {
    let peers = policy.peers.iter().map(|peer| peer.node.clone());
    let weights = policy.weights.iter().map(|weight| format!("{}:{}", weight.node, weight.weight));
    format!(
        "policy peers={} weights={} classes={} two_person_above={} in_flight_max={}",
        list(peers),
        list(weights),
        list(policy.classes.iter().map(rule)),
        or_default(policy.two_person_above),
        or_default(policy.in_flight_max)
    )
}

fn of_node(part: &Part, value: &[u8]) -> Result<String, String> {
    Ok(match part {
        Part::Spec => {
            let spec: v1::NodeSpec = read(value)?;
            let signed = signer(&spec.chain);
            let manifest = spec.manifest.unwrap_or_default();
            format!(
                "spec role={} scopes={} rps_max={} descriptor_bytes={} serial={}{signed}",
                manifest.role().as_str_name(),
                list(manifest.scopes.iter().map(u32::to_string)),
                manifest.rps_max,
                manifest.descriptor_set.len(),
                manifest.serial
            )
        }
        Part::Keys => {
            let keys: v1::NodeKeys = read(value)?;
            let declared = |record: &v1::SignedRecord| v1::KeyDeclaration::decode(record.payload.clone());
            let signed = keys.signed.iter().filter_map(|record| Some(declared(record).ok()?.keys)).flatten();
            let ids = keys.keys.iter().cloned().chain(signed).map(|key| hex(&key.key_id));
            let by = keys.signed.first().map_or_else(String::new, |record| signer(&record.chain));
            format!("keys {}{by}", list(ids))
        }
        Part::Intent => {
            let intent: v1::NodeIntent = read(value)?;
            format!("intent stage={} drained={}", intent.stage().as_str_name(), intent.drained)
        }
        Part::Live(_) => {
            let live: v1::LiveEndpoint = read(value)?;
            let report = live.report.unwrap_or_default();
            format!(
                "live address={} incarnation={:016x} ready={} draining={} gateway={}{}",
                live.address,
                live.incarnation,
                list(report.ready.iter().map(|ready| ready.region.to_string())),
                report.draining,
                live.gateway,
                live.signed.map_or_else(String::new, |record| signer(&record.chain))
            )
        }
    })
}

/// What the anchor said of a province; whether it holds, the list of quarantined keys says.
fn trust(record: &v1::SignedRecord) -> Result<String, String> {
    let trust = v1::ProvinceTrust::decode(record.payload.clone()).map_err(|e| e.to_string())?;
    Ok(format!(
        "trust federation={} province={} serial={} prefixes={} authorities={} revoked={}",
        trust.federation,
        trust.province,
        trust.serial,
        trust.code_prefixes.join(","),
        trust.authorities.len(),
        [trust.revoked_ids, trust.revoked_serials].concat().join(",")
    ))
}

/// Whose certificate stands beside a signature; nothing where there is none.
fn signer(chain: &[bytes::Bytes]) -> String {
    let Some(der) = chain.first() else { return String::new() };
    Leaf::parse(der)
        .map_or_else(|refused| format!(" signed_by=({refused})"), |leaf| format!(" signed_by={}", leaf.id))
}

/// `CLASS_SCAN:60:NOTHING_HEALTHY_CLOSED`: class, limit of age in seconds, rule.
fn rule(rule: &v1::ClassRule) -> String {
    let (class, nothing) = (rule.class().as_str_name(), rule.nothing_healthy().as_str_name());
    format!("{class}:{}:{nothing}", or_default(rule.max_lag_s))
}

fn or_default(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "default".to_owned(), |value| value.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
