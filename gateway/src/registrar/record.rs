//! How is a registration written?
//!
//! Always by compare-and-swap, starting from what stands there: a conflict brings the present entries
//! and the next attempt starts from them. An entry is *ours* when it names this gateway and this
//! incarnation; the outcome of an earlier write may have been unknown, so that finding our own words
//! there is no conflict.

use super::admission::Admitted;
use crate::clock::unix_ms;
use crate::registry::{
    Entry, Error, Outcome, Registry, Txn,
    keys::{Key, Part, Prefix},
    manifest::MAX_KEYS,
};
use bytes::Bytes;
use prost::Message as _;
use suiyue_proto::v1::{Departure, LiveEndpoint, Manifest, NodeKeys, NodeSpec, VerifyingKey};

/// Conflicts in a row before we give up: somebody writes faster than we read.
pub(super) const ATTEMPTS: usize = 16;

/// What became of our entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is as we want it, at this revision.
    At(i64),
    /// Another registration stands in its place.
    Superseded,
}

/// The keys of one registration.
#[derive(Debug)]
pub(super) struct Place {
    spec: String,
    keys: String,
    /// The endpoint's own.
    pub(super) live: String,
    /// Its goodbye.
    gone: String,
}

impl Place {
    pub(super) fn of(prefix: &Prefix, admitted: &Admitted) -> Self {
        let key = |part| {
            let node = admitted.manifest.node.clone();
            prefix.key(&Key::Node { region: admitted.checked.region, node, part })
        };
        Self {
            spec: key(Part::Spec),
            keys: key(Part::Keys),
            live: key(Part::Live(admitted.endpoint.clone())),
            gone: key(Part::Gone(admitted.endpoint.clone())),
        }
    }
}

/// Writes spec, keys and live entry together; whoever held the live entry is superseded.
pub(super) async fn enroll(
    registry: &dyn Registry,
    place: &Place,
    admitted: &Admitted,
    live: &LiveEndpoint,
    lease: i64,
) -> Result<i64, Error> {
    let mut present = Vec::<Entry>::new();
    let mut last = Error::Unknown("the entries change faster than they can be written".to_owned());
    for _ in 0..ATTEMPTS {
        let find = |key: &str| present.iter().find(|entry| entry.key == key);
        let revision = |key: &String| (key.clone(), find(key).map_or(0, |entry| entry.mod_revision));
        let mut txn =
            Txn { expect: [&place.spec, &place.keys, &place.live].map(revision).into(), ..Txn::default() };
        let (spec, keys) = match &admitted.signed {
            Some(signed) => (signed.new_spec(find(&place.spec)), signed.new_keys(find(&place.keys))),
            None => {
                (new_spec(find(&place.spec), &admitted.manifest), new_keys(find(&place.keys), &admitted.keys))
            }
        };
        if let Some(value) = spec {
            txn.puts.push((place.spec.clone(), value, 0));
        }
        if let Some(value) = keys {
            txn.puts.push((place.keys.clone(), value, 0));
        }
        txn.puts.push((place.live.clone(), live.encode_to_vec().into(), lease));
        match registry.commit(txn).await {
            Ok(Outcome::Committed(revision)) => return Ok(revision),
            Ok(Outcome::Conflict(entries)) => present = entries,
            // The next attempt finds out.
            Err(error @ Error::Unknown(_)) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Puts the live entry if what stands there is ours, or nothing.
pub(super) async fn put(
    registry: &dyn Registry,
    key: &str,
    live: &LiveEndpoint,
    mod_revision: i64,
    lease: i64,
) -> Result<Written, Error> {
    let value = Bytes::from(live.encode_to_vec());
    let write = |expect| Txn {
        expect: vec![(key.to_owned(), expect)],
        puts: vec![(key.to_owned(), value.clone(), lease)],
        deletes: Vec::new(),
    };
    swap(registry, live, mod_revision, write).await
}

/// Deletes the live entry if it is ours; one that is gone already is fine.
pub(super) async fn delete(
    registry: &dyn Registry,
    key: &str,
    live: &LiveEndpoint,
    mod_revision: i64,
) -> Result<Written, Error> {
    let write = |expect| Txn {
        expect: vec![(key.to_owned(), expect)],
        puts: Vec::new(),
        deletes: vec![key.to_owned()],
    };
    swap(registry, live, mod_revision, write).await
}

/// Deletes the live entry if it is ours, and says in the same transaction that it left of its own will.
/// The mark hangs on `lease`.
pub(super) async fn depart(
    registry: &dyn Registry,
    place: &Place,
    live: &LiveEndpoint,
    mod_revision: i64,
    lease: i64,
) -> Result<Written, Error> {
    let (incarnation, gateway) = (live.incarnation, live.gateway.clone());
    let departure = Departure { incarnation, gateway, unix_ms: unix_ms() };
    let value = Bytes::from(departure.encode_to_vec());
    // The mark itself is compared with nothing: without the live entry at that revision nothing is written.
    let write = |expect| Txn {
        expect: vec![(place.live.clone(), expect)],
        puts: vec![(place.gone.clone(), value.clone(), lease)],
        deletes: vec![place.live.clone()],
    };
    swap(registry, live, mod_revision, write).await
}

/// An unknown outcome is told at once: whoever tries again finds out, as our own words are no conflict.
async fn swap(
    registry: &dyn Registry,
    live: &LiveEndpoint,
    mut mod_revision: i64,
    write: impl Fn(i64) -> Txn,
) -> Result<Written, Error> {
    for _ in 0..ATTEMPTS {
        match registry.commit(write(mod_revision)).await? {
            Outcome::Committed(revision) => return Ok(Written::At(revision)),
            Outcome::Conflict(entries) => match entries.first() {
                None => mod_revision = 0,
                Some(entry) if is_ours(entry, live) => mod_revision = entry.mod_revision,
                Some(_) => return Ok(Written::Superseded),
            },
        }
    }
    Err(Error::Unknown("the entry changes faster than it can be written".to_owned()))
}

/// What is not there of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The live entry: its lease ran out, or somebody deleted it.
    Live,
    /// The spec: somebody deleted it, or etcd was wiped.
    Spec,
}

/// What is missing in the registry.
pub(super) async fn missing(registry: &dyn Registry, place: &Place) -> Result<Option<Missing>, Error> {
    for (key, missing) in [(&place.live, Missing::Live), (&place.spec, Missing::Spec)] {
        if !registry.list(key).await?.entries.iter().any(|entry| entry.key == *key) {
            return Ok(Some(missing));
        }
    }
    Ok(None)
}

fn is_ours(entry: &Entry, live: &LiveEndpoint) -> bool {
    LiveEndpoint::decode(entry.value.clone())
        .is_ok_and(|found| found.gateway == live.gateway && found.incarnation == live.incarnation)
}

/// The spec to write, if it is not there yet. A manifest of a lower serial is an endpoint that has
/// not been updated: it joins, but what the node declares stays.
fn new_spec(present: Option<&Entry>, manifest: &Manifest) -> Option<Bytes> {
    let value =
        Bytes::from(NodeSpec { manifest: Some(manifest.clone()), ..NodeSpec::default() }.encode_to_vec());
    let present = present.map(|entry| &entry.value);
    let newer = present
        .and_then(|value| NodeSpec::decode(value.clone()).ok()?.manifest)
        .is_some_and(|stored| stored.serial > manifest.serial);
    (!newer && present != Some(&value)).then_some(value)
}

/// The keys to write, if they are not there yet. Keys of the node's other endpoints, and former ones
/// whose codes are still about, stay until they have run out.
fn new_keys(present: Option<&Entry>, keys: &[VerifyingKey]) -> Option<Bytes> {
    let stored = present.and_then(|entry| NodeKeys::decode(entry.value.clone()).ok());
    let now = suiyue_proto::identity::files::now();
    let mut merged = keys.to_vec();
    for old in stored.iter().flat_map(|stored| &stored.keys) {
        let lives = old.not_after_unix_s.saturating_add(CODES_OUTLIVE_KEYS_S) > now;
        if lives && !merged.iter().any(|key| key.key_id == old.key_id && key.regions == old.regions) {
            merged.push(old.clone());
        }
    }
    merged.truncate(MAX_KEYS);
    // In one order, so that two endpoints do not take turns at writing the same keys.
    merged.sort_by(|a, b| (&a.key_id, &a.regions).cmp(&(&b.key_id, &b.regions)));
    let unchanged =
        stored.is_some_and(|stored| stored.keys == merged) || (present.is_none() && merged.is_empty());
    (!unchanged).then(|| NodeKeys { keys: merged, signed: Vec::new() }.encode_to_vec().into())
}

/// A code signed in the last second of its key lives on for at most a day.
pub(super) const CODES_OUTLIVE_KEYS_S: i64 = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: &impl prost::Message) -> Entry {
        Entry { key: String::new(), value: value.encode_to_vec().into(), mod_revision: 1, lease: 0 }
    }

    fn key(id: u8, not_after_unix_s: i64) -> VerifyingKey {
        VerifyingKey { key_id: vec![id; 4].into(), not_after_unix_s, ..Default::default() }
    }

    #[test]
    fn a_spec_is_written_when_it_changes_and_never_set_back() {
        let manifest = |serial, rps_max| Manifest { serial, rps_max, ..Default::default() };
        let stored = entry(&NodeSpec { manifest: Some(manifest(2, 5)), ..NodeSpec::default() });
        assert!(new_spec(None, &manifest(0, 0)).is_some());
        assert!(new_spec(Some(&stored), &manifest(2, 5)).is_none());
        assert!(new_spec(Some(&stored), &manifest(2, 6)).is_some());
        assert!(new_spec(Some(&stored), &manifest(3, 5)).is_some());
        assert!(new_spec(Some(&stored), &manifest(1, 6)).is_none());
        let garbage = Entry { value: b"\xff".as_slice().into(), ..stored };
        assert!(new_spec(Some(&garbage), &manifest(0, 0)).is_some());
    }

    #[test]
    fn keys_of_other_endpoints_stay_until_they_run_out() {
        let merged = |stored: &[VerifyingKey], new: &[VerifyingKey]| {
            let stored = entry(&NodeKeys { keys: stored.to_vec(), signed: Vec::new() });
            new_keys(Some(&stored), new).map(|value| NodeKeys::decode(value).unwrap().keys)
        };
        let (a, b, old) = (key(1, i64::MAX), key(2, i64::MAX), key(3, 1));
        assert_eq!(
            merged(std::slice::from_ref(&b), std::slice::from_ref(&a)),
            Some(vec![a.clone(), b.clone()])
        );
        assert_eq!(merged(&[a.clone(), b.clone()], std::slice::from_ref(&b)), None);
        assert_eq!(merged(&[old, a.clone()], std::slice::from_ref(&b)), Some(vec![a, b]));
        assert_eq!(new_keys(None, &[]), None);
    }
}
