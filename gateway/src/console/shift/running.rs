//! Which shifts run, and what can be done with each?
//!
//! Those that are held after a breach come first, then those that move, then the rest. The federation page
//! shows the same without the controls.

use super::super::{
    Console, Visitor, api, fault::Fault, history::explain::class_name, lang::Lang, page, text,
};
use crate::clock::unix_ms;
use maud::{Markup, html};
use std::time::Duration;
use suiyue_proto::{
    method::Class,
    region,
    v1::{ListShiftsRequest, Shift, ShiftBreach, ShiftEnd, ShiftInfo, ShiftOrder, ShiftState},
};

/// What can be done with a shift on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::console) enum Controls {
    /// It is only shown.
    Shown,
    /// It can be changed.
    Changed,
}

/// The shifts that run, the one to look at first first.
pub(in crate::console) async fn list(
    console: &Console,
    visitor: &Visitor,
) -> Result<Vec<ShiftInfo>, tonic::Status> {
    let request = api::request(&visitor.session.actor, "", ListShiftsRequest::default());
    let mut shifts = console.0.api.shifts().list_shifts(request).await?.into_inner().shifts;
    shifts.sort_by_key(|info| (order_of(info), begun(info)));
    Ok(shifts)
}

fn order_of(info: &ShiftInfo) -> u8 {
    match (breach(info), state(info)) {
        (Some(_), _) => 0,
        (None, ShiftState::Held) => 1,
        (None, ShiftState::Ramping | ShiftState::Reverting) => 2,
        _ => 3,
    }
}

/// Where it stands for the eye: one that was stopped on its way back is held, too.
fn state(info: &ShiftInfo) -> ShiftState {
    let stopped = info.shift.as_ref().is_some_and(|shift| shift.revert_held_unix_ms != 0 && !shift.at_once);
    match info.state() {
        ShiftState::Reverting if stopped => ShiftState::Held,
        state => state,
    }
}

/// It is held everywhere, and somebody may let it go on. What one gateway holds by itself is not in the
/// registry yet: it can be held everywhere.
fn is_held(shift: &Shift) -> bool {
    let back = unix_ms() >= shift.expires_unix_ms;
    if back { shift.revert_held_unix_ms != 0 } else { shift.held_unix_ms != 0 }
}

fn begun(info: &ShiftInfo) -> i64 {
    info.shift.as_ref().map_or(0, |shift| -shift.start_unix_ms)
}

/// The breach that holds it, here or everywhere.
fn breach(info: &ShiftInfo) -> Option<&ShiftBreach> {
    info.held_here.as_ref().or_else(|| info.shift.as_ref()?.breach.as_ref())
}

/// The list, or what keeps it from being read. Where shifts are only shown, none of them is no news.
pub(in crate::console) fn drawn(
    visitor: &Visitor,
    shifts: Result<&[ShiftInfo], &tonic::Status>,
    controls: Controls,
) -> Markup {
    let lang = visitor.lang;
    match shifts {
        Err(status) => page::alert(lang, &Fault::from(status.clone())),
        Ok([]) if controls == Controls::Shown => html! {},
        Ok([]) => html! { p.empty { (lang.t("没有正在进行的调流。", "No shift runs.")) } },
        Ok(shifts) => html! {
            @if controls == Controls::Shown { h2 { (lang.t("正在进行的调流", "Running shifts")) } }
            ul.shifts { @for info in shifts { @if let Some(shift) = &info.shift {
            li id={ "s-" (shift.id) } { (card(visitor, info, shift, controls)) }
        } } } },
    }
}

fn card(visitor: &Visitor, info: &ShiftInfo, shift: &Shift, controls: Controls) -> Markup {
    let lang = visitor.lang;
    let order = shift.order.clone().unwrap_or_default();
    let place = region::find(order.region).map_or("", |place| lang.t(place.name_zh, place.name_en));
    html! {
        article.shift aria-labelledby={ "st-" (shift.id) } {
            header {
                h3 id={ "st-" (shift.id) } { (place) " · " (order.from) " → " (targets(&order)) }
                (badge(lang, state(info)))
            }
            @if let Some(breach) = breach(info) { (breached(lang, breach, shift.breach.is_none())) }
            p.progress {
                strong { (format!("{:.0} %", info.percent)) } " / " (format!("{:.0} %", order.percent))
                (page::bar(info.percent / 100.0, "share"))
            }
            p.left { (remaining(lang, info, shift)) }
            p.reason { (said(lang, shift, &order)) }
            @if controls == Controls::Changed && super::may(visitor) { (change(visitor, info, shift)) }
            @if controls == Controls::Shown { p { a href={ "/console/shift#s-" (shift.id) } { (lang.t("保持、收回……", "Hold, take back…")) } } }
        }
    }
}

fn targets(order: &ShiftOrder) -> String {
    order.to.iter().map(|to| &*to.target).collect::<Vec<_>>().join(", ")
}

/// Who, why, which calls.
fn said(lang: Lang, shift: &Shift, order: &ShiftOrder) -> Markup {
    let classes: Vec<&str> = order
        .classes
        .iter()
        .filter_map(|class| Class::from_proto(*class))
        .map(|class| class_name(lang, class))
        .collect();
    html! {
        (shift.actor)
        @if !shift.approver.is_empty() { (lang.t("，批准人 ", ", approved by ")) (shift.approver) }
        ": “" (order.reason) "”"
        @if !order.incident.is_empty() { " · " (order.incident) }
        @if !classes.is_empty() { " · " (lang.t("仅 ", "only ")) (classes.join(", ")) }
        @if shift.forced { " · " span.bad { (lang.t("不顾护栏", "although a guard refused")) } }
        @if !shift.without.is_empty() { " · " span.bad { (lang.t("未计网关 ", "without ")) (shift.without.join(", ")) } }
        " · " code { (shift.id) }
    }
}

fn breached(lang: Lang, breach: &ShiftBreach, here: bool) -> Markup {
    let ShiftBreach { guard, node, gateway, value, limit, .. } = breach;
    html! {
        div.alert data-breach=(guard) {
            p { span.mark aria-hidden="true" { "✕" } " " (match lang {
                Lang::Zh => format!("护栏 {guard} 在 {node} 被突破：{value:.2}，上限 {limit:.2}（{gateway} 所见）"),
                Lang::En => format!("Guard {guard} is breached at {node}: {value:.2}, where the limit is {limit:.2} (seen by {gateway})"),
            }) }
            @if here { p.why { (lang.t("这个网关已先行保持。", "This gateway holds it by itself.")) } }
        }
    }
}

/// What comes next, and how long until then.
fn remaining(lang: Lang, info: &ShiftInfo, shift: &Shift) -> String {
    let now = unix_ms();
    let until = |at: i64| {
        let left = u64::try_from(at.saturating_sub(now)).unwrap_or(0);
        text::duration(lang, Duration::from_millis(left))
    };
    let next = (info.next_unix_ms > now).then(|| until(info.next_unix_ms));
    let back = match shift.end() {
        ShiftEnd::Cancelled => lang.t("已取消，逐步回退", "cancelled, walks back"),
        ShiftEnd::RolledBack => {
            lang.t("已收回，源节点有余量就回去", "taken back, as far as its source has room")
        }
        _ => lang.t("时间已到，逐步回退", "its time is over, walks back"),
    };
    match (lang, state(info), next) {
        (Lang::Zh, ShiftState::Reverting, Some(next)) => format!("{back}；下一步在 {next}后"),
        (Lang::En, ShiftState::Reverting, Some(next)) => format!("{back}; next step in {next}"),
        (_, ShiftState::Reverting | ShiftState::Ended, _) => back.to_owned(),
        (Lang::Zh, ShiftState::Ramping, Some(next)) => {
            format!("下一步在 {next}后；{}后开始回退", until(shift.expires_unix_ms))
        }
        (Lang::En, ShiftState::Ramping, Some(next)) => {
            format!("next step in {next}; begins to walk back in {}", until(shift.expires_unix_ms))
        }
        (_, ShiftState::Held, _) if now >= shift.expires_unix_ms => {
            lang.t("回退途中停住，直到有人继续", "held on its way back until somebody resumes it").to_owned()
        }
        (Lang::Zh, ..) => format!("{}后开始回退", until(shift.expires_unix_ms)),
        (Lang::En, ..) => format!("begins to walk back in {}", until(shift.expires_unix_ms)),
    }
}

fn badge(lang: Lang, state: ShiftState) -> Markup {
    let (kind, mark) = match state {
        ShiftState::Held => ("degraded", "‖"),
        ShiftState::Ramping => ("moved", "▶"),
        ShiftState::Reverting => ("moved", "◀"),
        ShiftState::Active => ("moved", "⇄"),
        _ => ("ok", "●"),
    };
    page::badge(kind, mark, word(lang, state))
}

/// A state in words.
fn word(lang: Lang, state: ShiftState) -> &'static str {
    match state {
        ShiftState::Ramping => lang.t("渐增中", "ramping"),
        ShiftState::Held => lang.t("已保持", "held"),
        ShiftState::Active => lang.t("已到位", "active"),
        ShiftState::Reverting => lang.t("回退中", "walking back"),
        _ => lang.t("已结束", "ended"),
    }
}

/// One reason for whatever is done.
fn change(visitor: &Visitor, info: &ShiftInfo, shift: &Shift) -> Markup {
    let lang = visitor.lang;
    let back = unix_ms() >= shift.expires_unix_ms;
    let held = is_held(shift);
    let button = |kind: &'static str, change: &'static str, label: &'static str| {
        html! { button id={ "b-" (change) "-" (shift.id) } class=(kind) type="submit" name="change" value=(change) { (label) } }
    };
    html! {
        form.acts id={ "f-" (shift.id) } method="post" action="/console/shift/change" {
            (page::secret(visitor))
            input type="hidden" name="shift" value=(shift.id);
            // What Enter in a field would press: nothing, or a reason typed in haste would cancel a shift.
            button type="submit" disabled hidden aria-hidden="true" {}
            label for={ "w-" (shift.id) } { (lang.t("理由（必填）", "Reason (needed)")) }
            input id={ "w-" (shift.id) } name="reason" required maxlength="500" autocomplete="off";
            div.row id={ "bs-" (shift.id) } {
                @if held { (button("", "resume", lang.t("继续", "Resume"))) }
                @else if !shift.at_once && state(info) != ShiftState::Active { (button("", "hold", lang.t("保持不动", "Hold"))) }
                @if !back {
                    (button("", "cancel", lang.t("取消：逐步回退", "Cancel: walk back")))
                }
                (button("danger", "rollback", lang.t("收回：立即回到之前", "Revert: back at once")))
                @if !back {
                    span.extend id={ "x-" (shift.id) } {
                        label for={ "m-" (shift.id) } { (lang.t("从现在起分钟", "Minutes from now")) }
                        input id={ "m-" (shift.id) } name="minutes" type="number" min="1" max="4320" step="1" value="120";
                        (button("", "extend", lang.t("改期", "Change its end")))
                    }
                }
            }
        }
    }
}

/// What a screen reader says: states and parts, never what counts down.
pub(in crate::console) fn news(lang: Lang, shifts: &[ShiftInfo]) -> String {
    let one = |info: &ShiftInfo| {
        let order = info.shift.as_ref().and_then(|shift| shift.order.clone()).unwrap_or_default();
        let (from, to, state) = (&order.from, targets(&order), word(lang, state(info)));
        format!("{from} → {to}: {state}, {:.0} %", info.percent)
    };
    shifts.iter().take(5).map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
