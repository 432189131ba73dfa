//! What is heard, what is applied, and when a registry is taken for another one.

use super::*;
use crate::registry::guard::Cause;

const POLICY: &str = "/suiyue/v1/regions/440100";

fn entry(key: &str, value: &str, mod_revision: i64) -> Entry {
    Entry { key: key.to_owned(), value: value.to_owned().into(), created: 0, mod_revision, lease: 0 }
}

fn listing(revision: i64, entries: &[Entry]) -> Listing {
    Listing { revision, entries: entries.to_vec() }
}

fn books() -> Books {
    let mut books = Books::new(Prefix::default(), []);
    let first = listing(10, &[entry(POLICY, "a", 7), entry("/suiyue/v1/gateways/gw-1", "x", 9)]);
    assert_eq!(books.list(first, 1, Instant::now()), Listed { changed: true, restored: None });
    books
}

fn put(entry: Entry) -> Vec<Change> {
    vec![Change::Put(entry)]
}

fn applied(books: &Books) -> Vec<(String, String)> {
    let text = |entry: &Entry| (entry.key.clone(), String::from_utf8(entry.value.to_vec()).unwrap());
    books.applied().values().map(text).collect()
}

#[test]
fn changes_are_taken_in_order_and_presence_is_no_change() {
    let mut books = books();
    let now = Instant::now();
    assert_eq!(books.take(11, put(entry(POLICY, "b", 11)), &[7], now), Ok(true));
    assert_eq!(books.take(12, put(entry("/suiyue/v1/gateways/gw-2", "y", 12)), &[0], now), Ok(false));
    let delete = vec![Change::Delete { key: POLICY.to_owned() }];
    assert_eq!(books.take(13, delete, &[11], now), Ok(true));
    assert_eq!((books.revision(), books.applied().len()), (13, 2));
}

#[test]
fn an_event_that_does_not_follow_on_the_books_is_told_and_changes_nothing() {
    let mut books = books();
    let before = books.digest();
    let change = put(entry(POLICY, "c", 15));
    let missed = Missed { key: POLICY.to_owned(), heard: 7, is: 12 };
    assert_eq!(books.take(15, change.clone(), &[12], Instant::now()), Err(missed));
    assert_eq!((books.revision(), books.digest()), (10, before));
    // A store that does not tell is believed, and so is one that has forgotten.
    assert_eq!(books.take(15, change, &[-1], Instant::now()), Ok(true));
    assert_eq!(books.take(16, put(entry(POLICY, "d", 16)), &[], Instant::now()), Ok(true));
    // Two changes of one key in one message follow on each other.
    let twice = vec![Change::Put(entry(POLICY, "e", 17)), Change::Put(entry(POLICY, "f", 18))];
    assert_eq!(books.take(18, twice, &[16, 17], Instant::now()), Ok(true));
}

#[test]
fn the_digest_follows_every_change() {
    let mut books = books();
    let now = Instant::now();
    let whole = |books: &Books| {
        Digest::of(books.applied().values().filter(|entry| !Prefix::default().is_silent(&entry.key)))
    };
    books.take(11, put(entry(POLICY, "b", 11)), &[], now).unwrap();
    books.take(12, put(entry("/suiyue/v1/regions/610100", "c", 12)), &[], now).unwrap();
    books.take(13, vec![Change::Delete { key: POLICY.to_owned() }], &[], now).unwrap();
    assert_eq!(books.digest(), whole(&books));
    let _restored = books.list(listing(2, &[entry("/suiyue/v1/regions/610100", "d", 2)]), 1, now);
    // The policy's absence, and for a while the presence of a gateway.
    assert_eq!((books.held().len(), books.digest()), (2, whole(&books)));
}

#[test]
fn another_cluster_a_lower_revision_and_a_key_that_went_back_are_a_restored_registry() {
    let check = |cluster: u64, revision: i64, written: i64, restored: Option<Restored>| {
        let listed = books().list(listing(revision, &[entry(POLICY, "b", written)]), cluster, Instant::now());
        assert_eq!(listed.restored, restored);
    };
    check(1, 20, 15, None);
    check(0, 20, 15, None);
    check(2, 20, 15, Some(Restored::Cluster { was: 1, is: 2 }));
    check(1, 9, 8, Some(Restored::Revision { was: 10, is: 9 }));
    check(1, 20, 3, Some(Restored::Entry { was: 7, is: 3 }));
}

#[test]
fn a_restored_registry_is_held_against_until_it_is_accepted() {
    let mut books = books();
    let now = Instant::now();
    let old = listing(5, &[entry(POLICY, "old", 3), entry("/suiyue/v1/regions/610100", "new", 4)]);
    // The same, and nothing else: held all of it, and that is news for those who wrote it.
    let mut lost = self::books();
    assert!(lost.list(listing(5, &[]), 1, now).changed);
    let listed = books.list(old.clone(), 1, now);
    assert!(listed.changed && listed.restored.is_some());
    assert_eq!(books.histories(), 1);
    let both =
        [(POLICY, "a"), ("/suiyue/v1/regions/610100", "new")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let shown = |books: &Books| -> Vec<_> {
        applied(books).into_iter().filter(|(key, _)| !key.contains("/gateways/")).collect()
    };
    assert_eq!(shown(&books), both);
    // Listing it again changes nothing, and is no second restore.
    assert_eq!(books.list(old, 1, now), Listed { changed: false, restored: None });
    assert_eq!((books.histories(), shown(&books)), (1, both.to_vec()));
    // Whoever begins with a copy holds the same.
    let (entries, held) = books.copy();
    let mut other = Books::new(Prefix::default(), []);
    assert!(other.begin(entries, held, (1, 5), now));
    assert_eq!(shown(&other), both);
    assert!(books.restored().is_some());
    let accepted = books.accept();
    assert!(accepted.values().all(|held| held.cause == Cause::Restored));
    assert_eq!((books.restored(), shown(&books)[0].1.as_str()), (None, "old"));
}

#[test]
fn a_copy_never_replaces_what_was_heard() {
    let mut books = books();
    let copy: Entries = [(POLICY.to_owned(), entry(POLICY, "copy", 3))].into();
    assert!(!books.begin(copy, Entries::new(), (1, 5), Instant::now()));
    assert_eq!(applied(&books)[1].1, "a");
}

#[test]
fn a_freeze_keeps_what_is_applied_and_its_end_lets_everything_in() {
    let mut books = books();
    let now = Instant::now();
    assert!(books.freeze_now("a trial".to_owned(), 1));
    assert!(!books.freeze_now("another".to_owned(), 2));
    let frozen = books.digest();
    books.take(11, put(entry(POLICY, "b", 11)), &[], now).unwrap();
    books.take(12, put(entry("/suiyue/v1/regions/610100", "c", 12)), &[], now).unwrap();
    books.take(13, put(entry("/suiyue/v1/gateways/gw-2", "y", 13)), &[], now).unwrap();
    assert_eq!((books.kept_out(), books.digest()), (2, frozen));
    assert_eq!(applied(&books)[1].1, "a");
    assert_eq!(books.heard()[POLICY].value, "b", "it is heard all the same");
    assert_eq!(books.copy().0[POLICY].value, "a");
    assert!(books.thaw() && !books.thaw());
    assert_eq!((books.kept_out(), &*books.applied()[POLICY].value), (0, &b"b"[..]));
}
