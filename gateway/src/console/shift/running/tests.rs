//! What a shift looks like, and what is offered.

use super::*;
use crate::{audit::actor::Role, console::visitor::tests::visitor};
use suiyue_proto::v1::ShiftTarget;

fn info(id: &str, state: ShiftState, change: impl FnOnce(&mut ShiftInfo, &mut Shift)) -> ShiftInfo {
    let order = ShiftOrder {
        from: "suikang".to_owned(),
        to: vec![ShiftTarget { target: "yuekang".to_owned(), weight: 1.0 }],
        percent: 40.0,
        ..Default::default()
    };
    let mut shift = Shift {
        id: id.to_owned(),
        order: Some(order),
        expires_unix_ms: unix_ms() + 3_600_500,
        ..Shift::default()
    };
    let mut info = ShiftInfo { state: state.into(), percent: 10.0, ..ShiftInfo::default() };
    change(&mut info, &mut shift);
    ShiftInfo { shift: Some(shift), ..info }
}

#[test]
fn a_breach_comes_first_then_what_is_held_then_what_moves() {
    let breach = ShiftBreach { guard: "errors".to_owned(), ..Default::default() };
    let mut all = [
        info("active", ShiftState::Active, |_, _| {}),
        info("ramping", ShiftState::Ramping, |_, _| {}),
        info("held", ShiftState::Held, |_, _| {}),
        info("breached", ShiftState::Held, |_, shift| shift.breach = Some(breach)),
    ];
    all.sort_by_key(order_of);
    let ids: Vec<&str> = all.iter().filter_map(|info| Some(&*info.shift.as_ref()?.id)).collect();
    assert_eq!(ids, ["breached", "held", "ramping", "active"]);
    assert!(news(Lang::En, &all).contains("suikang → yuekang: ramping, 10 %"));
}

#[test]
fn what_comes_next_is_told() {
    let now = unix_ms();
    let told = |info: &ShiftInfo, lang| remaining(lang, info, info.shift.as_ref().unwrap());
    let ramping = info("a", ShiftState::Ramping, |info, _| info.next_unix_ms = now + 12_900);
    let text = told(&ramping, Lang::En);
    assert!(text.starts_with("next step in 12 s; begins to walk back in 1 h 00 min"), "{text}");
    let cancelled = info("b", ShiftState::Reverting, |_, shift| shift.end = ShiftEnd::Cancelled.into());
    assert_eq!(told(&cancelled, Lang::Zh), "已取消，逐步回退");
    let held = info("c", ShiftState::Reverting, |_, shift| {
        (shift.expires_unix_ms, shift.revert_held_unix_ms) = (now - 1, now);
    });
    assert!(is_held(held.shift.as_ref().unwrap()));
    assert!(!is_held(ramping.shift.as_ref().unwrap()));
    assert!(told(&held, Lang::En).starts_with("held on its way back"));
}

fn shown(info: ShiftInfo, role: Role, controls: Controls) -> String {
    drawn(&visitor(role, Lang::En), Ok(&[info]), controls).into_string()
}

#[test]
fn what_can_be_done_depends_on_where_a_shift_stands_and_on_who_looks() {
    let buttons = |info, expected: &[&str]| {
        let page = shown(info, Role::Operator, Controls::Changed);
        for change in ["hold", "resume", "cancel", "rollback", "extend"] {
            let offered = page.contains(&format!("value=\"{change}\""));
            assert_eq!(offered, expected.contains(&change), "{change}: {page}");
        }
    };
    let ramping = || info("a", ShiftState::Ramping, |_, _| {});
    buttons(ramping(), &["hold", "cancel", "rollback", "extend"]);
    let held = info("a", ShiftState::Held, |_, shift| shift.held_unix_ms = 1);
    buttons(held, &["resume", "cancel", "rollback", "extend"]);
    buttons(info("a", ShiftState::Active, |_, _| {}), &["cancel", "rollback", "extend"]);
    let back = |held| {
        move |_: &mut ShiftInfo, shift: &mut Shift| {
            (shift.expires_unix_ms, shift.revert_held_unix_ms) = (1, held);
        }
    };
    buttons(info("a", ShiftState::Reverting, back(0)), &["hold", "rollback"]);
    buttons(info("a", ShiftState::Reverting, back(2)), &["resume", "rollback"]);
    buttons(
        info("a", ShiftState::Reverting, |_, shift| {
            (shift.expires_unix_ms, shift.at_once) = (1, true);
        }),
        &["rollback"],
    );
    assert!(!shown(ramping(), Role::Viewer, Controls::Changed).contains("<form"));
    assert!(!shown(ramping(), Role::Operator, Controls::Shown).contains("<form"));
}

#[test]
fn a_breach_is_told_with_its_number_and_who_saw_it() {
    let breach = || ShiftBreach {
        guard: "p99".to_owned(),
        node: "yuekang".to_owned(),
        gateway: "gw-2".to_owned(),
        value: 92.0,
        limit: 50.0,
        ..Default::default()
    };
    let here = info("a", ShiftState::Held, |info, _| info.held_here = Some(breach()));
    let page = shown(here, Role::Operator, Controls::Changed);
    let said = "Guard p99 is breached at yuekang: 92.00, where the limit is 50.00 (seen by gw-2)";
    assert!(page.contains(said) && page.contains("holds it by itself"), "{page}");
    assert!(page.contains("value=\"hold\"") && !page.contains("value=\"resume\""), "{page}");
    let everywhere = info("a", ShiftState::Held, |_, shift| {
        (shift.held_unix_ms, shift.breach) = (1, Some(breach()));
    });
    let page = shown(everywhere, Role::Operator, Controls::Shown);
    assert!(page.contains(said) && !page.contains("holds it by itself"), "{page}");
}
