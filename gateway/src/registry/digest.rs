//! Have two gateways applied the same?
//!
//! A sum over the entries of the first 16 bytes of SHA-256 of key and value. A sum, because it is kept
//! up to date with every change: hashing everything anew would cost more than the change itself where
//! there are a hundred thousand entries. It tells gateways apart that have lost something; it protects
//! nothing from somebody who chooses entries.

use super::Entry;
use aws_lc_rs::digest::{Context, SHA256};

/// The hash of a set of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest(u128);

impl Digest {
    /// Of all these.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut digest = Self::default();
        entries.into_iter().for_each(|entry| digest.add(entry));
        digest
    }

    /// With one more.
    pub fn add(&mut self, entry: &Entry) {
        self.0 = self.0.wrapping_add(one(entry));
    }

    /// With one less, which was there.
    pub fn remove(&mut self, entry: &Entry) {
        self.0 = self.0.wrapping_sub(one(entry));
    }

    /// As 32 hex digits.
    #[must_use]
    pub fn hex(self) -> String {
        format!("{:032x}", self.0)
    }
}

fn one(entry: &Entry) -> u128 {
    let mut context = Context::new(&SHA256);
    // The length keeps key and value apart.
    context.update(&(entry.key.len() as u64).to_le_bytes());
    context.update(entry.key.as_bytes());
    context.update(&entry.value);
    let sum = context.finish();
    let first = sum.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
    u128::from_le_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: &str) -> Entry {
        Entry { key: key.to_owned(), value: value.to_owned().into(), created: 1, mod_revision: 1, lease: 0 }
    }

    #[test]
    fn the_order_does_not_matter_and_a_removal_takes_back() {
        let (a, b) = (entry("/a", "1"), entry("/b", "2"));
        assert_eq!(Digest::of([&a, &b]), Digest::of([&b, &a]));
        let mut digest = Digest::of([&a, &b]);
        digest.remove(&b);
        assert_eq!(digest, Digest::of([&a]));
        digest.remove(&a);
        assert_eq!(digest, Digest::default());
    }

    #[test]
    fn key_and_value_matter_and_are_kept_apart() {
        let digest = |key, value| Digest::of([&entry(key, value)]);
        assert_ne!(digest("/a", "1"), digest("/a", "2"));
        assert_ne!(digest("/a", "1"), digest("/b", "1"));
        assert_ne!(digest("/a", "b1"), digest("/ab", "1"));
        assert_eq!(digest("/a", "1").hex().len(), 32);
    }

    #[test]
    fn when_it_was_written_and_under_which_lease_do_not_matter() {
        let other = Entry { mod_revision: 9, lease: 7, ..entry("/a", "1") };
        assert_eq!(Digest::of([&entry("/a", "1")]), Digest::of([&other]));
    }
}
