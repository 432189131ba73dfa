//! What stands in the registry, for a person?
//!
//! Every value is one of the messages of `stored.proto`; which one, the key says.

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

fn decode(key: &Key, value: &[u8]) -> Result<String, String> {
    fn read<M: Message + Default>(value: &[u8]) -> Result<M, String> {
        M::decode(value).map_err(|e| e.to_string())
    }
    let list = |codes: Vec<String>| codes.join(",");
    Ok(match key {
        Key::Region(_) => {
            let policy: v1::RegionPolicy = read(value)?;
            let peers = policy.peers.iter().map(|peer| peer.node.clone());
            let weights = policy.weights.iter().map(|weight| format!("{}:{}", weight.node, weight.weight));
            let rules = policy.classes.iter().map(rule);
            format!(
                "policy peers={} weights={} classes={} two_person_above={} in_flight_max={}",
                list(peers.collect()),
                list(weights.collect()),
                list(rules.collect()),
                or_default(policy.two_person_above),
                or_default(policy.in_flight_max)
            )
        }
        Key::Shift { .. } | Key::ShiftLog(_) => {
            let shift: v1::Shift = read(value)?;
            let order = shift.order.unwrap_or_default();
            let to = order.to.iter().map(|to| format!("{}:{}", to.target, to.weight));
            format!(
                "shift id={} region={} from={} to={} percent={} start={} expires={} held={} cancelled={} \
                 actor={} approver={} reason={:?}",
                shift.id,
                order.region,
                order.from,
                list(to.collect()),
                order.percent,
                shift.start_unix_ms,
                shift.expires_unix_ms,
                shift.held_unix_ms,
                shift.cancelled,
                shift.actor,
                shift.approver,
                order.reason
            )
        }
        Key::ShiftApproval(_) => {
            let approval: v1::ShiftApproval = read(value)?;
            format!("approval actor={} unix_ms={}", approval.actor, approval.unix_ms)
        }
        Key::Gateway(_) => {
            let presence: v1::GatewayPresence = read(value)?;
            format!(
                "gateway control={} applied_revision={}",
                presence.control_address, presence.applied_revision
            )
        }
        Key::Node { part: Part::Spec, .. } => {
            let manifest = read::<v1::NodeSpec>(value)?.manifest.unwrap_or_default();
            format!(
                "spec role={} scopes={} rps_max={} descriptor_bytes={} serial={}",
                manifest.role().as_str_name(),
                list(manifest.scopes.iter().map(u32::to_string).collect()),
                manifest.rps_max,
                manifest.descriptor_set.len(),
                manifest.serial
            )
        }
        Key::Node { part: Part::Keys, .. } => {
            let keys: v1::NodeKeys = read(value)?;
            let ids = keys.keys.iter().map(|key| hex(&key.key_id));
            format!("keys {}", list(ids.collect()))
        }
        Key::Node { part: Part::Intent, .. } => {
            let intent: v1::NodeIntent = read(value)?;
            format!("intent stage={} drained={}", intent.stage().as_str_name(), intent.drained)
        }
        Key::Node { part: Part::Live(_), .. } => {
            let live: v1::LiveEndpoint = read(value)?;
            let report = live.report.unwrap_or_default();
            format!(
                "live address={} incarnation={:016x} ready={} draining={} gateway={}",
                live.address,
                live.incarnation,
                list(report.ready.iter().map(|ready| ready.region.to_string()).collect()),
                report.draining,
                live.gateway
            )
        }
    })
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
