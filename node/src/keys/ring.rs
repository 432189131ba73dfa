//! Does a signature hold, and was the key allowed to make it?
//!
//! Keys are looked up by (key id, region), and every match is tried, because four bytes of id can
//! be ground. A key without the region in its list is not found for it, so the key of one city
//! cannot sign for another. The keys are this node's own, those of its configuration, and the
//! latest that a gateway sent.

use super::{Unusable, Verifying};
use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use suiyue_proto::region::Code;
use suiyue_proto::sy1::{self, Decoded};
use suiyue_proto::v1;

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// This node's: its own list of live codes applies.
    Own,
    /// Another node's.
    Other,
}

/// What the ring says about a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// The signature holds.
    Valid(Signer),
    /// There is a key of this id for the region, and the signature does not hold.
    Invalid,
    /// There is no key of this id for the region and time.
    KeyUnknown,
}

#[derive(Debug)]
struct Entry {
    key: ParsedPublicKey,
    not_before_unix_s: i64,
    not_after_unix_s: i64,
    signer: Signer,
}

#[derive(Debug, Default)]
struct Index {
    by_id: HashMap<([u8; 4], Code), Vec<Arc<Entry>>>,
    regions: HashSet<Code>,
}

#[derive(Debug, Default)]
struct Sources {
    own: Vec<Verifying>,
    configured: Vec<Verifying>,
    federation: Vec<Verifying>,
}

/// Every verifying key that this node knows.
#[derive(Debug, Default)]
pub struct Ring {
    sources: RwLock<Sources>,
    index: RwLock<Arc<Index>>,
}

// Two nodes' clocks may differ by this much, in seconds.
const SKEW_S: i64 = 30;

impl Ring {
    /// Replaces this node's own keys.
    pub fn set_own(&self, keys: Vec<Verifying>) {
        self.change(|sources| sources.own = keys);
    }

    /// Replaces the keys from the configuration.
    pub fn set_configured(&self, keys: Vec<Verifying>) {
        self.change(|sources| sources.configured = keys);
    }

    /// Replaces the keys of the federation; returns those that cannot be used.
    pub fn set_federation(&self, keys: &[v1::VerifyingKey]) -> Vec<Unusable> {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for key in keys {
            match Verifying::try_from(key) {
                Ok(key) => good.push(key),
                Err(why) => bad.push(why),
            }
        }
        self.change(|sources| sources.federation = good);
        bad
    }

    /// Some key may sign for the region, so its codes can be judged here.
    #[must_use]
    pub fn knows(&self, region: Code) -> bool {
        self.index().regions.contains(&region)
    }

    /// Checks the signature of a code against every key that it may have been made with.
    #[must_use]
    pub fn check(&self, code: &Decoded) -> Checked {
        let index = self.index();
        let issued = code.claims.issued_unix_s();
        let message = sy1::signed_bytes(code.region, &code.claims);
        let mut checked = Checked::KeyUnknown;
        for entry in index.by_id.get(&(code.claims.key_id, code.region)).into_iter().flatten() {
            if issued < entry.not_before_unix_s - SKEW_S || issued > entry.not_after_unix_s + SKEW_S {
                continue;
            }
            if entry.key.verify_sig(&message, &code.signature).is_ok() {
                return Checked::Valid(entry.signer);
            }
            checked = Checked::Invalid;
        }
        checked
    }

    fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Sources)) {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut sources);
        let index = Arc::new(build(&sources));
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
    }
}

fn build(sources: &Sources) -> Index {
    let mut index = Index::default();
    let mut seen = HashSet::new();
    let own = sources.own.iter().map(|key| (key, Signer::Own));
    let others = sources.configured.iter().chain(&sources.federation).map(|key| (key, Signer::Other));
    for (key, signer) in own.chain(others) {
        // The federation's list holds this node's own keys too.
        if !seen.insert(key.public) && sources.own.iter().any(|own| own.public == key.public) {
            continue;
        }
        let Ok(parsed) = ParsedPublicKey::new(&ED25519, key.public) else { continue };
        let entry = Arc::new(Entry {
            key: parsed,
            not_before_unix_s: key.not_before_unix_s,
            not_after_unix_s: key.not_after_unix_s,
            signer,
        });
        for &region in &key.regions {
            index.regions.insert(region);
            index.by_id.entry((key.id, region)).or_default().push(Arc::clone(&entry));
        }
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::keys::own::{Own, Signing};
    use suiyue_proto::sy1::{Claims, Kind, Level};

    const NOW_MS: i64 = 1_800_000_000_000;

    fn region(code: u32) -> Code {
        Code::new(code).unwrap()
    }

    fn signed(key: &Signing, at: Code) -> Decoded {
        let claims = Claims {
            kind: Kind::Live,
            algorithm: sy1::ED25519,
            key_id: key.id(),
            code_id: [1; 14],
            level: Level::Green,
            issued: u32::try_from(NOW_MS / 1000 - sy1::EPOCH_UNIX_S).unwrap(),
            ttl: 6,
            list_index: 0,
        };
        Decoded { region: at, claims, signature: key.sign(at, &claims) }
    }

    fn key_for(code: u32) -> (Own, Arc<Signing>) {
        let (clock, _) = Clock::manual(NOW_MS);
        let own = Own::open(None, &[region(code)], &clock).unwrap();
        let key = own.current(clock.unix_s()).unwrap();
        (own, key)
    }

    #[test]
    fn a_key_signs_for_its_own_regions_only() {
        let (xian, key) = key_for(610_100);
        let (guangzhou, _) = key_for(440_100);
        let ring = Ring::default();
        ring.set_own(guangzhou.verifying());
        let keys: Vec<_> = xian.verifying().iter().map(v1::VerifyingKey::from).collect();
        assert_eq!(ring.set_federation(&keys), []);
        assert_eq!(ring.check(&signed(&key, region(610_100))), Checked::Valid(Signer::Other));
        assert_eq!(ring.check(&signed(&key, region(440_100))), Checked::KeyUnknown);
        assert!(ring.knows(region(610_100)) && !ring.knows(region(510_100)));
        ring.set_federation(&[]);
        assert_eq!(ring.check(&signed(&key, region(610_100))), Checked::KeyUnknown);
    }

    #[test]
    fn every_key_of_the_same_id_is_tried() {
        let (own, key) = key_for(440_100);
        let (other, _) = key_for(440_100);
        let mut ground = other.verifying();
        ground[0].id = key.id();
        let ring = Ring::default();
        ring.set_configured(ground);
        assert_eq!(ring.check(&signed(&key, region(440_100))), Checked::Invalid);
        ring.set_own(own.verifying());
        assert_eq!(ring.check(&signed(&key, region(440_100))), Checked::Valid(Signer::Own));
    }

    #[test]
    fn a_key_does_not_sign_outside_its_days() {
        let (own, key) = key_for(440_100);
        let ring = Ring::default();
        let mut keys = own.verifying();
        keys[0].not_after_unix_s = NOW_MS / 1000 - SKEW_S - 1;
        ring.set_own(keys);
        assert_eq!(ring.check(&signed(&key, region(440_100))), Checked::KeyUnknown);
    }

    #[test]
    fn a_malformed_key_is_reported_and_the_rest_is_used() {
        let (own, key) = key_for(440_100);
        let mut keys: Vec<_> = own.verifying().iter().map(v1::VerifyingKey::from).collect();
        keys.push(v1::VerifyingKey { key_id: vec![1].into(), ..keys[0].clone() });
        keys.push(v1::VerifyingKey { algorithm: 9, ..keys[0].clone() });
        let ring = Ring::default();
        assert_eq!(ring.set_federation(&keys).len(), 2);
        assert_eq!(ring.check(&signed(&key, region(440_100))), Checked::Valid(Signer::Other));
    }
}
