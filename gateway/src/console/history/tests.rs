//! What the page says of an audit that somebody touched.

use super::*;
use crate::audit::ulid::Ulid;

/// A chain of so many entries as the page reads it, oldest first, and its head.
fn lines(entries: u64) -> (Vec<Line>, Head) {
    let (mut lines, mut last) = (Vec::new(), None);
    for n in 1..=entries {
        let entry = v1::AuditEntry {
            unix_ms: 1_700_000_000_000,
            actor: "wang".to_owned(),
            role: "operator".to_owned(),
            method: "ApplyShift".to_owned(),
            key: "shifts/active/440100/suikang".to_owned(),
            reason: format!("the <b>{n}th</b> time"),
            ..Default::default()
        };
        let id = Ulid::new(1_700_000_000_000, 7, last.as_ref().map(|head: &Head| head.id));
        let (value, head) = chain::append(last.as_ref(), entry, id);
        let stored = Stored { id: id.to_string(), value };
        lines.push(Line { link: chain::read(&stored), id: stored.id });
        last = Some(head);
    }
    (lines, last.unwrap())
}

#[test]
fn a_whole_chain_is_whole_and_every_touch_is_seen() {
    let (all, head) = lines(4);
    assert_eq!(broken(&all, Some(&head)), None);
    assert_eq!(broken(&all[2..], Some(&head)), Some(Broken::Unlinked), "earlier ones are missing");
    assert_eq!(broken(&[], None), None, "nobody has changed anything");
    assert_eq!(broken(&all, None), Some(Broken::HeadMissing));
    assert_eq!(broken(&all[..3], Some(&head)), Some(Broken::HeadElsewhere), "one was cut off");
    assert_eq!(broken(&[], Some(&head)), Some(Broken::HeadElsewhere), "all were");
    let (mut removed, head) = lines(4);
    removed.remove(1);
    assert_eq!(broken(&removed, Some(&head)), Some(Broken::Unlinked));
    let (mut swapped, head) = lines(4);
    swapped.swap(1, 2);
    assert_eq!(broken(&swapped, Some(&head)), Some(Broken::Unlinked));
    let (mut rotten, head) = lines(4);
    let stored = Stored { id: rotten[1].id.clone(), value: bytes::Bytes::from_static(b"\xff") };
    rotten[1].link = chain::read(&stored);
    assert_eq!(broken(&rotten, Some(&head)), rotten[1].link.as_ref().err().copied());
    assert!(broken(&rotten, Some(&head)).is_some());
}

#[test]
fn a_touched_audit_is_an_alarm_and_texts_of_others_are_no_markup() {
    let (lines, head) = lines(2);
    let broken = broken(&lines, Some(&head));
    let whole = drawn(Lang::En, &Tail { lines, broken }, None).into_string();
    assert!(whole.contains("linked without a break") && !whole.contains("role=\"alert\""), "{whole}");
    assert!(whole.contains("the &lt;b&gt;2th&lt;/b&gt; time"), "{whole}");
    let (lines, _) = self::lines(2);
    let touched = Tail { lines, broken: Some(Broken::Unlinked) };
    let shown = drawn(Lang::Zh, &touched, None).into_string();
    assert!(shown.contains("审计被动过") && !shown.contains("环环相扣"), "{shown}");
    let (lines, _) = self::lines(1);
    let shown = drawn(Lang::En, &Tail { lines, broken: None }, Some("it was cut")).into_string();
    assert!(shown.contains("does not continue") && shown.contains("it was cut"), "{shown}");
}
