//! What is in force, when, and what is left of it after a death.

use super::*;
use crate::table::{CEILINGS, Intent, Node, Role};
use suiyue_proto::region::Code;

/// A drain of `node` that began now and lasts so many seconds.
pub(super) fn drain(id: &str, node: &str, seconds: i64) -> BreakglassAction {
    let now = unix_ms();
    BreakglassAction {
        id: id.to_owned(),
        what: Some(What::Drain(node.to_owned())),
        start_unix_ms: now,
        ends_unix_ms: now + seconds * 1_000,
        ..BreakglassAction::default()
    }
}

fn shift(id: &str, percent: f64) -> BreakglassAction {
    let order = v1::ShiftOrder {
        region: 440_100,
        from: "suikang".to_owned(),
        to: vec![v1::ShiftTarget { target: "yuekang".to_owned(), weight: 1.0 }],
        percent,
        ..v1::ShiftOrder::default()
    };
    let now = unix_ms();
    let shift = v1::Shift {
        id: id.to_owned(),
        order: Some(order),
        start_unix_ms: now,
        expires_unix_ms: now + 60_000,
        ..v1::Shift::default()
    };
    BreakglassAction { id: id.to_owned(), what: Some(What::Shift(shift)), ..drain(id, "", 60) }
}

fn table() -> Arc<Table> {
    let node = |name: &str, region, role| {
        let node = Node {
            name: name.into(),
            region: Code::new(region).unwrap(),
            role,
            scopes: vec![Code::new(440_100).unwrap()],
            rps_max: None,
            ceilings: CEILINGS,
            intent: Intent::default(),
            is_static: false,
            endpoints: Vec::new(),
        };
        (node.name.clone(), Arc::new(node))
    };
    let nodes = [node("suikang", 440_100, Role::City), node("yuekang", 440_000, Role::Province)];
    Arc::new(Table { nodes: nodes.into(), ..Table::default() })
}

fn open(dir: &std::path::Path) -> Glass {
    Glass::open(Journal::open(dir).unwrap(), true).unwrap()
}

fn ids(glass: &Glass) -> Vec<String> {
    glass.in_force().into_iter().map(|action| action.id).collect()
}

#[tokio::test]
async fn a_table_lies_under_what_is_in_force_and_is_itself_again_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let (glass, base, now) = (open(dir.path()), table(), Instant::now());
    assert!(Arc::ptr_eq(&glass.over(&base, now), &base));
    glass.order(drain("a", "suikang", 60), BreakglassEntry::default()).await.unwrap();
    let over = glass.over(&base, now);
    assert!(over.nodes["suikang"].intent.drained && !over.nodes["yuekang"].intent.drained);
    assert!(Arc::ptr_eq(over.under.as_ref().unwrap(), &base));
    assert!(Arc::ptr_eq(&glass.over(&base, now), &over), "the same one while nothing changes");
    let other = table();
    assert!(!Arc::ptr_eq(&glass.over(&other, now), &over), "another base");
    assert!(Arc::ptr_eq(&glass.over(&base, now + Duration::from_secs(61)), &base), "its time is over");
}

#[tokio::test]
async fn a_later_action_takes_the_place_of_one_about_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (glass, entry) = (open(dir.path()), BreakglassEntry::default);
    glass.order(drain("a", "suikang", 60), entry()).await.unwrap();
    let undrain = BreakglassAction { what: Some(What::Undrain("suikang".to_owned())), ..drain("b", "", 60) };
    let (_, replaced) = glass.with(&undrain);
    assert_eq!(replaced.iter().map(|action| action.id.as_str()).collect::<Vec<_>>(), ["a"]);
    glass.order(undrain, entry()).await.unwrap();
    glass.order(drain("c", "yuekang", 60), entry()).await.unwrap();
    glass.order(shift("d", 10.0), entry()).await.unwrap();
    glass.order(shift("e", 20.0), entry()).await.unwrap();
    assert_eq!(ids(&glass), ["b", "c", "e"]);
    // It counts instead of the registry's, from the same source.
    let mut base = Table::clone(&table());
    let stored = v1::Shift { id: "of the registry".to_owned(), ..shift_of(&shift("x", 50.0)) };
    let order = stored.order.clone().unwrap();
    let code = Code::new(order.region).unwrap();
    base.shifts.push(Arc::new(crate::registry::shift::check(&stored, code, &order.from).unwrap()));
    let over = glass.over(&Arc::new(base), Instant::now());
    assert_eq!(over.shifts.iter().map(|shift| &*shift.id).collect::<Vec<_>>(), ["e"]);
    assert!(!over.nodes["suikang"].intent.drained && over.nodes["yuekang"].intent.drained);
}

fn shift_of(action: &BreakglassAction) -> v1::Shift {
    let Some(What::Shift(shift)) = &action.what else { panic!("a shift") };
    shift.clone()
}

#[tokio::test]
async fn what_was_in_force_is_in_force_after_a_death_and_what_was_over_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let glass = open(dir.path());
    for action in [drain("a", "suikang", 60), drain("b", "yuekang", 60), drain("c", "xian", -1)] {
        glass.order(action, BreakglassEntry::default()).await.unwrap();
    }
    assert_eq!(ids(&glass), ["a", "b"]);
    glass.replace(vec![("b".to_owned(), None)], Vec::new()).await.unwrap();
    let again = open(dir.path());
    assert_eq!((ids(&again), again.untold()), (vec!["a".to_owned()], 3));
    assert_eq!(again.tidy().await.unwrap().len(), 0, "c was left out when the journal was read");
    let over = glass.tidy().await.unwrap();
    assert_eq!(over.iter().map(|action| action.id.as_str()).collect::<Vec<_>>(), ["c"]);
}

#[test]
fn a_wall_clock_that_was_set_makes_nothing_longer() {
    let action = BreakglassAction { start_unix_ms: 1_000_000, ends_unix_ms: 1_060_000, ..Default::default() };
    let left = |wall| left(&action, wall).as_secs();
    assert_eq!([1_000_000, 1_030_000, 1_060_000, 9_000_000, 0].map(left), [60, 30, 0, 0, 60]);
    let long = BreakglassAction { ends_unix_ms: i64::MAX, ..action };
    assert_eq!(super::left(&long, 0), TTL_MAX, "whatever the journal says");
}

#[tokio::test]
async fn a_damaged_journal_is_moved_aside_and_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let glass = open(dir.path());
    glass.order(drain("a", "suikang", 60), BreakglassEntry::default()).await.unwrap();
    let path = dir.path().join("journal");
    let whole = std::fs::read(&path).unwrap();
    for damage in [&whole[..whole.len() - 1], &whole[..5], b""] {
        std::fs::write(&path, damage).unwrap();
        assert_eq!(ids(&open(dir.path())), [""; 0]);
        assert!(!path.exists());
    }
    let aside = std::fs::read_dir(dir.path()).unwrap().count();
    assert!(aside >= 1, "kept for a person to look at");
    let mut changed = whole.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    std::fs::write(&path, &changed).unwrap();
    assert_eq!(ids(&open(dir.path())), [""; 0]);
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(ids(&open(dir.path())), ["a"]);
}

#[tokio::test]
async fn there_is_a_bound_to_what_is_in_force_and_a_cancel_is_always_taken() {
    let dir = tempfile::tempdir().unwrap();
    let glass = open(dir.path());
    for at in 0..MAX_ACTIONS {
        glass.order(drain(&at.to_string(), &format!("n{at}"), 60), BreakglassEntry::default()).await.unwrap();
    }
    let more = glass.order(drain("x", "one-more", 60), BreakglassEntry::default()).await;
    assert!(matches!(more, Err(Failure::Full)), "{more:?}");
    glass.replace(vec![("0".to_owned(), None)], vec![BreakglassEntry::default()]).await.unwrap();
    assert_eq!((ids(&glass).len(), glass.untold()), (MAX_ACTIONS - 1, MAX_ACTIONS + 1));
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_means_that_nothing_was_done() {
    let dir = tempfile::tempdir().unwrap();
    let glass = open(dir.path());
    std::fs::remove_dir_all(dir.path()).unwrap();
    let failed = glass.order(drain("a", "suikang", 60), BreakglassEntry::default()).await;
    assert!(matches!(failed, Err(Failure::Journal(_))), "{failed:?}");
    assert_eq!(ids(&glass), [""; 0]);
}
