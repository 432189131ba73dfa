//! What stands in the registry, for a person?
//!
//! Every value is one of the messages of `stored.proto`; which one, the key says.

use crate::{
    audit::Value,
    identity::Leaf,
    registry::{
        Entry,
        keys::{Key, Part, Prefix},
    },
};
use bytes::Bytes;
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
        stale: false,
    }
}

/// A value for the audit.
pub(super) fn value(key: &Key, bytes: Bytes) -> Value {
    let text = decode(key, &bytes).unwrap_or_else(|why| why);
    Value { bytes, text }
}

fn decode(key: &Key, value: &[u8]) -> Result<String, String> {
    Ok(match key {
        Key::Region(_) => policy(&read(value)?),
        Key::App(_) => app(&read(value)?),
        Key::Trust(_) => trust(&read(value)?)?,
        Key::Audit(_) | Key::AuditHead => "audit".to_owned(),
        Key::Shift { .. } | Key::ShiftLog(_) => shift(&read(value)?),
        Key::ShiftApproval(_) => {
            let approval: v1::ShiftApproval = read(value)?;
            format!(
                "approval plan={} actor={} authenticated={} unix_ms={}",
                hex(&approval.plan_hash),
                approval.actor,
                approval.authenticated,
                approval.unix_ms
            )
        }
        Key::Gateway(_) => {
            let presence: v1::GatewayPresence = read(value)?;
            format!(
                "gateway control={} admin={} applied_revision={} table_hash={}",
                presence.control_address,
                presence.admin_address,
                presence.applied_revision,
                presence.table_hash
            )
        }
        Key::Node { part, .. } => of_node(part, value)?,
    })
}

fn read<M: Message + Default>(value: &[u8]) -> Result<M, String> {
    M::decode(value).map_err(|e| e.to_string())
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",")
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
            intended(&intent)
        }
        Part::Gone(_) => {
            let gone: v1::Departure = read(value)?;
            format!("gone incarnation={:016x} gateway={}", gone.incarnation, gone.gateway)
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

fn intended(intent: &v1::NodeIntent) -> String {
    format!(
        "intent stage={} canary_percent={} drained={} drained_endpoints={}",
        intent.stage().as_str_name(),
        intent.canary_percent,
        intent.drained,
        intent.drained_endpoints.join(",")
    )
}

fn shift(shift: &v1::Shift) -> String {
    let order = shift.order.clone().unwrap_or_default();
    let breach = shift.breach.as_ref().map(|b| format!("{}:{}:{}>{}", b.guard, b.node, b.value, b.limit));
    format!(
        "shift id={} region={} from={} to={} percent={} start={} expires={} held={} end={} breach={} \
         actor={} approver={} replaces={} without={} forced={} mode={} reason={:?} incident={:?}",
        shift.id,
        order.region,
        order.from,
        list(order.to.iter().map(|to| format!("{}:{}", to.target, to.weight))),
        order.percent,
        shift.start_unix_ms,
        shift.expires_unix_ms,
        shift.held_unix_ms,
        shift.end().as_str_name(),
        breach.unwrap_or_default(),
        shift.actor,
        shift.approver,
        shift.replaces,
        shift.without.join(","),
        shift.forced,
        shift.mode().as_str_name(),
        order.reason,
        order.incident
    )
}

/// A policy, in the order of its message.
fn policy(policy: &v1::RegionPolicy) -> String {
    let peers = policy.peers.iter().map(|peer| peer.node.clone());
    let weights = policy.weights.iter().map(|weight| format!("{}:{}", weight.node, weight.weight));
    let rules = policy.classes.iter().map(rule);
    format!(
        "policy peers={} weights={} classes={} two_person_above={} in_flight_max={}",
        list(peers),
        list(weights),
        list(rules),
        or_default(policy.two_person_above),
        or_default(policy.in_flight_max)
    )
}

/// A grant; of its tokens no more than tells one from another.
fn app(grant: &v1::AppGrant) -> String {
    let fingerprint =
        |hash: &[u8]| if hash.is_empty() { "-".to_owned() } else { hex(&hash[..hash.len().min(4)]) };
    let classes: Vec<_> = grant.classes().map(|class| class.as_str_name().to_owned()).collect();
    let quota = grant.quota.unwrap_or_default();
    let certificate = if grant.certificate.is_empty() { "-" } else { &grant.certificate };
    format!(
        "app disabled={} token={} previous={} previous_until={} certificate={certificate} methods={} classes={} \
         regions={} rps={} burst_s={} in_flight_max={} note={:?}",
        grant.disabled,
        fingerprint(&grant.token_sha256),
        fingerprint(&grant.previous_token_sha256),
        grant.previous_until_unix_ms,
        grant.methods.join(","),
        if classes.is_empty() { "all".to_owned() } else { classes.join(",") },
        grant.regions.join(","),
        or_none(quota.rps),
        or_default(quota.burst_s),
        or_none(quota.in_flight_max),
        grant.note,
    )
}

fn or_none(value: Option<u32>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
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
