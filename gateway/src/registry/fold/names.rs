//! Whose is a name that nodes of two regions want?
//!
//! The one's whose `spec` was **made** first, and that for as long as that key stands, whether or not its
//! value can be used at the moment. Three other rules were thought of:
//! - the lower region code, or whatever else stands in the key or in a manifest: whoever chooses it can put
//!   an established node out by it;
//! - the spec that was written first: every new manifest and every new certificate writes it again, so that
//!   an intruder need only wait;
//! - only specs that hold: the name of a node whose certificate has just run out could be taken, with all
//!   that policies and shifts say of it.
//!
//! The revision at which a key was made is the store's own word: nobody who only registers can choose it or
//! change it, and every gateway finds the same. Who owns the store can, but could delete the node as well.
//! After a wipe everybody is made anew; until the old owner has come back its held spec comes first
//! ([`crate::registry::guard`]), and registrars that know it refuse others. To give a name away an operator
//! deletes the old spec.

use crate::registry::Entry;
use std::{collections::BTreeMap, sync::Arc};
use suiyue_proto::region::Code;

/// Names with the regions of their owners.
#[derive(Debug, Default)]
pub(in crate::registry) struct Names(BTreeMap<Arc<str>, Claim>);

/// When a spec was made, when it was written last, and the region: the least owns the name.
type Claim = (i64, i64, Code);

impl Names {
    /// A spec stands in the registry.
    pub(in crate::registry) fn note(&mut self, region: Code, name: &str, spec: &Entry) {
        let claim = (spec.created, spec.mod_revision, region);
        match self.0.get_mut(name) {
            Some(first) => *first = claim.min(*first),
            None => drop(self.0.insert(name.into(), claim)),
        }
    }

    /// The region of the node that the name belongs to.
    pub(super) fn owner(&self, name: &str) -> Option<Code> {
        self.0.get(name).map(|(_, _, region)| *region)
    }

    /// All of them.
    pub(super) fn into_owners(self) -> BTreeMap<Arc<str>, Code> {
        self.0.into_iter().map(|(name, (_, _, region))| (name, region)).collect()
    }
}
