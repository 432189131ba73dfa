//! Whoever touches the chain is found, and the entry is named.

use super::*;

/// A chain of so many records, and its head.
fn chain(records: u64, reason: &str) -> (Vec<Stored>, Head) {
    let (mut stored, mut last) = (Vec::new(), None);
    for n in 1..=records {
        let entry = v1::AuditEntry {
            unix_ms: 1_700_000_000_000,
            actor: "wang".to_owned(),
            method: "SetRegionPolicy".to_owned(),
            reason: format!("{reason} {n}"),
            ..Default::default()
        };
        let id = Ulid::new(1_700_000_000_000, 7, last.as_ref().map(|head: &Head| head.id));
        let (value, head) = append(last.as_ref(), entry, id);
        stored.push(Stored { id: id.to_string(), value });
        last = Some(head);
    }
    (stored, last.expect("at least one record"))
}

fn encoded(head: &Head) -> Vec<u8> {
    head.message().encode_to_vec()
}

#[track_caller]
fn found(records: &[Stored], head: &Head, sequence: u64, fault: Fault) {
    let bad = verify(records, Some(&encoded(head)), &[]).unwrap_err();
    assert_eq!((bad.sequence, bad.fault), (sequence, fault), "{bad}");
}

/// The record with another entry, and the hash that goes with it.
fn rewritten(stored: &Stored, change: impl FnOnce(&mut v1::AuditEntry)) -> Stored {
    let record = v1::AuditRecord::decode(stored.value.clone()).unwrap();
    let mut entry = v1::AuditEntry::decode(record.entry).unwrap();
    change(&mut entry);
    let bytes = Bytes::from(entry.encode_to_vec());
    let hash = Bytes::copy_from_slice(&hash(&entry.previous_hash, &bytes));
    Stored { id: entry.id, value: v1::AuditRecord { entry: bytes, hash }.encode_to_vec().into() }
}

#[test]
fn a_whole_chain_is_good() {
    let (records, head) = chain(5, "why");
    let remembered = [1, 3, 5].map(|n| {
        let link = read(&records[n - 1]).unwrap();
        (format!("gw-{n}"), link.head)
    });
    assert_eq!(verify(&records, Some(&encoded(&head)), &remembered), Ok(5));
    assert_eq!(verify(&[], None, &[]), Ok(0));
}

#[test]
fn every_changed_byte_is_found_at_its_entry() {
    let (records, head) = chain(4, "why");
    for at in 0..records[2].value.len() {
        let mut value = records[2].value.to_vec();
        value[at] ^= 1;
        let mut changed = records.clone();
        changed[2].value = value.into();
        let bad = verify(&changed, Some(&encoded(&head)), &[]).unwrap_err();
        assert_eq!(bad.sequence, 3, "byte {at}: {bad}");
    }
}

#[test]
fn a_removed_entry_is_found() {
    let (mut records, head) = chain(4, "why");
    records.remove(1);
    found(&records, &head, 2, Fault::Unlinked);
    records.remove(0);
    found(&records, &head, 1, Fault::Unlinked);
}

#[test]
fn a_reordered_entry_is_found() {
    let (records, head) = chain(4, "why");
    // Two values change places …
    let mut swapped = records.clone();
    (swapped[1].value, swapped[2].value) = (records[2].value.clone(), records[1].value.clone());
    found(&swapped, &head, 2, Fault::Moved);
    // … and two whole records do.
    swapped[1].id = records[2].id.clone();
    swapped[2].id = records[1].id.clone();
    found(&swapped, &head, 2, Fault::Unlinked);
}

#[test]
fn a_chain_that_was_cut_off_is_found() {
    let (mut records, head) = chain(4, "why");
    let last = records.pop().unwrap();
    found(&records, &head, 4, Fault::HeadElsewhere);
    // The head was set back, too: a gateway remembers.
    let shorter = read(&records[2]).unwrap().head;
    assert_eq!(verify(&records, Some(&encoded(&shorter)), &[]), Ok(3));
    let remembered = [("gw-1".to_owned(), head)];
    let bad = verify(&records, Some(&encoded(&shorter)), &remembered).unwrap_err();
    assert_eq!((bad.sequence, bad.fault, bad.id), (4, Fault::Forgotten, last.id));
    let gone = verify(&records, None, &[]).unwrap_err();
    assert_eq!(gone.fault, Fault::HeadMissing);
    assert_eq!(verify(&[], Some(&encoded(&shorter)), &[]).unwrap_err().fault, Fault::HeadElsewhere);
}

#[test]
fn an_entry_rewritten_with_its_own_hash_is_found_at_the_next_one() {
    let (mut records, head) = chain(4, "why");
    records[1] = rewritten(&records[1], |entry| entry.actor = "li".to_owned());
    found(&records, &head, 3, Fault::Unlinked);
    let (mut records, head) = chain(4, "why");
    records[3] = rewritten(&records[3], |entry| entry.actor = "li".to_owned());
    found(&records, &head, 4, Fault::HeadElsewhere);
}

#[test]
fn a_consistent_rewrite_is_found_by_who_remembers() {
    let (records, head) = chain(4, "why");
    let (other, other_head) = chain(4, "another why");
    assert_eq!(verify(&other, Some(&encoded(&other_head)), &[]), Ok(4));
    for n in 1..=4 {
        let remembered = [("gw-2".to_owned(), read(&records[n - 1]).unwrap().head)];
        let bad = verify(&other, Some(&encoded(&other_head)), &remembered).unwrap_err();
        assert_eq!((bad.sequence, bad.fault, bad.gateway.as_str()), (n as u64, Fault::Forgotten, "gw-2"));
    }
    assert_ne!(head, other_head);
}

#[test]
fn an_added_entry_is_found() {
    let (mut records, head) = chain(3, "why");
    let id = Ulid::new(1_700_000_000_001, 7, Some(head.id));
    let (value, _) = append(Some(&head), v1::AuditEntry::default(), id);
    records.push(Stored { id: id.to_string(), value });
    let bad = verify(&records, Some(&encoded(&head)), &[]).unwrap_err();
    assert_eq!((bad.sequence, bad.fault), (4, Fault::HeadElsewhere));
}
