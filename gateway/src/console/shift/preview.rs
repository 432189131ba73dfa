//! What would a shift do?
//!
//! Drawn from the answer of the very `PlanShift` that `suiyue shift plan` prints: what stands in its way
//! first, with the number that refuses, then what every node would carry, then how it grows and ends.

use super::{
    super::{Visitor, lang::Lang, page, text},
    order,
};
use crate::clock::unix_ms;
use maud::{Markup, html};
use std::time::Duration;
use suiyue_proto::v1::{GuardCheck, NodeLoad, PlanShiftResponse, ShiftOrder};

/// A utilization from which a node is close to what it declared.
const NEAR: f64 = 0.80;

/// What may be done with a plan that is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Offer {
    /// The planner's page: apply.
    Apply,
    /// The page that a plan is handed on with: apply, or approve for somebody else.
    Handed,
    /// So many calls a second are supposed: nothing, for real ones are others.
    Supposed(f64),
    /// Something has changed since: nothing.
    Stale,
}

/// A plan.
pub(super) fn drawn(visitor: &Visitor, plan: &PlanShiftResponse, without: &[String], offer: Offer) -> Markup {
    let lang = visitor.lang;
    let order = plan.order.clone().unwrap_or_default();
    html! {
        @if let Offer::Supposed(rps) = offer { (supposed(lang, rps)) }
        @if !without.is_empty() {
            p.warning { span.mark aria-hidden="true" { "▲" } " " (lang.t("不计这些网关的负载：", "Without the load of ")) (without.join(", ")) }
        }
        (verdict(lang, plan))
        @for warning in &plan.warnings { p.warning { span.mark aria-hidden="true" { "▲" } " " (warned(lang, warning)) } }
        (nodes(lang, plan))
        (course(lang, &order))
        p.note {
            (lang.t("负载合计自：", "Loads of ")) (plan.gateways.join(", "))
            " · " (lang.t("计划 ", "plan ")) code { (order::hex(&plan.plan_hash).get(..12).unwrap_or_default()) }
            " · " (text::utc(unix_ms()))
        }
        @if matches!(offer, Offer::Apply | Offer::Handed) { (acts(visitor, plan, without, offer)) }
    }
}

/// What is shown is not what is.
fn supposed(lang: Lang, rps: f64) -> Markup {
    let rps = text::rate(rps);
    html! {
        p.warning { span.mark aria-hidden="true" { "▲" } " " (match lang {
            Lang::Zh => format!("这是假设该区划每秒 {rps} 次请求的结果，不能直接应用：清空这一项即按真实负载计算。"),
            Lang::En => format!("This supposes {rps} calls a second of the region and cannot be applied: empty that field to go by what is called."),
        }) }
    }
}

/// May it be applied, and by one person? A guard that refuses comes with its number.
fn verdict(lang: Lang, plan: &PlanShiftResponse) -> Markup {
    let moves = text::percent(plan.moves);
    let most = text::percent(plan.two_person_above);
    html! {
        @if !plan.refusals.is_empty() {
            div.alert.verdict data-verdict="refused" {
                @for refusal in &plan.refusals { p { span.mark aria-hidden="true" { "✕" } " " (refused(lang, plan, refusal)) } }
            }
        } @else if plan.needs_approval {
            div.alert.warn.verdict data-verdict="approval" {
                p { span.mark aria-hidden="true" { "!" } " " (match lang {
                    Lang::Zh => format!("要调走该区划 {moves} 的请求，超过一个人可调的 {most}：需要另一个人批准。"),
                    Lang::En => format!("{moves} of the region's calls move, more than the {most} that one person may move: another person must approve."),
                }) }
            }
        } @else {
            div.fine.verdict data-verdict="fine" {
                p { span.mark aria-hidden="true" { "✓" } " " (match lang {
                    Lang::Zh => format!("可以应用：调走该区划 {moves} 的请求（一个人最多可调 {most}）。"),
                    Lang::En => format!("It may be applied: {moves} of the region's calls move (one person may move up to {most})."),
                }) }
            }
        }
    }
}

/// A refusal in words; in Chinese from the guard's numbers, where they are known.
fn refused(lang: Lang, plan: &PlanShiftResponse, refusal: &str) -> String {
    let guard = plan.guards.iter().find(|guard| {
        let about = refusal.strip_prefix(&*guard.node);
        guard.refuses && about.is_some_and(|rest| rest.starts_with(' '))
    });
    match (lang, guard) {
        (Lang::Zh, Some(GuardCheck { node, value, limit, .. })) => {
            let of = plan.nodes.iter().find(|load| load.node == *node);
            let after = of.map_or_else(String::new, |load| text::rate(load.rps_after));
            let max = of.map_or_else(String::new, |load| text::rate(load.rps_max));
            format!(
                "护栏拒绝：{node} 将承接 {after} 次/秒，而它申报 {max} 次/秒；占用 {value:.2}，上限 {limit:.2}。"
            )
        }
        (Lang::En, Some(_)) => format!("The guard refuses: {refusal}."),
        _ => refusal.to_owned(),
    }
}

fn warned(lang: Lang, warning: &str) -> String {
    let node = warning.split(' ').next().unwrap_or_default();
    match lang {
        Lang::En => format!("{warning}."),
        Lang::Zh if warning.contains("declares no capacity") => {
            format!("{node} 没有申报容量：无法知道它是否还有余量。")
        }
        Lang::Zh if warning.contains("cannot be used") => {
            format!("{node} 目前不可用：它那一份留在原处。")
        }
        Lang::Zh => warning.to_owned(),
    }
}

fn nodes(lang: Lang, plan: &PlanShiftResponse) -> Markup {
    let source = plan.order.as_ref().map_or("", |order| &*order.from);
    html! {
        div.scroll tabindex="0" role="region" aria-label=(lang.t("各节点的负载", "Load of every node")) {
            table.loads {
                thead { tr {
                    th scope="col" { (lang.t("节点", "Node")) }
                    th.n scope="col" { (lang.t("次/秒", "Calls/s")) }
                    th.n scope="col" { (lang.t("调流后", "Then")) }
                    th.n.deep scope="col" { (lang.t("申报", "Declared")) }
                    th.n scope="col" { (lang.t("占用", "Use")) }
                    th.n scope="col" { (lang.t("调流后", "Then")) }
                } }
                tbody { @for load in &plan.nodes { (row(lang, load, source)) } }
            }
        }
    }
}

fn row(lang: Lang, load: &NodeLoad, source: &str) -> Markup {
    let used = |rps: f64| (load.rps_max > 0.0).then(|| rps / load.rps_max);
    let cell = |used: Option<f64>| {
        html! { @match used {
            Some(used) => { span class=[(used > NEAR).then_some("bad")] { (text::percent(used)) } (page::bar(used, if used > NEAR { "hot" } else { "use" })) },
            None => { "–" },
        } }
    };
    html! {
        tr {
            th scope="row" {
                (load.node)
                @if load.target { " " span.tag { (lang.t("调入", "gets")) } }
                @if load.node == source { " " span.tag { (lang.t("调出", "gives")) } }
            }
            td.n { (text::rate(load.rps_before)) }
            td.n { strong { (text::rate(load.rps_after)) } }
            td.n.deep { @if load.rps_max > 0.0 { (text::rate(load.rps_max)) } @else { "–" } }
            td.n { (cell(used(load.rps_before))) }
            td.n { (cell(used(load.rps_after))) }
        }
    }
}

/// How it grows and when it ends.
fn course(lang: Lang, order: &ShiftOrder) -> Markup {
    let (step, every) = (order.step.unwrap_or_default(), order.every_s.unwrap_or_default());
    let ttl = Duration::from_secs(order.ttl_s.unwrap_or_default().into());
    let steps = if every == 0 || step <= 0.0 { 0.0 } else { (order.percent / step).ceil() - 1.0 };
    let whole = Duration::try_from_secs_f64(steps.max(0.0) * f64::from(every)).unwrap_or_default();
    let last = text::duration(lang, ttl);
    let back = text::utc(unix_ms() + i64::try_from(ttl.as_millis()).unwrap_or(0));
    let grown = text::duration(lang, whole);
    let percent = order.percent;
    html! {
        p.course { (match (lang, whole.is_zero()) {
            (Lang::Zh, true) => format!("立即调走 {} 的 {percent} %；{last}后（{back}）开始按同样的步子回退。", order.from),
            (Lang::Zh, false) => format!("每 {every} 秒增加 {step} 个百分点，{grown}后达到 {} 的 {percent} %；{last}后（{back}）开始逐步回退。", order.from),
            (Lang::En, true) => format!("{percent} % of {}'s share moves at once; after {last} ({back}) it begins to walk back.", order.from),
            (Lang::En, false) => format!("It grows by {step} points every {every} s and has {percent} % of {}'s share after {grown}; after {last} ({back}) it begins to walk back.", order.from),
        }) }
    }
}

fn acts(visitor: &Visitor, plan: &PlanShiftResponse, without: &[String], offer: Offer) -> Markup {
    let lang = visitor.lang;
    let told = order::told(plan, without);
    let refuses = !plan.refusals.is_empty();
    let unexplained = plan.order.as_ref().is_none_or(|order| order.reason.trim().is_empty());
    html! {
        @if super::may(visitor) {
            form.acts #apply method="post" action="/console/shift/apply" {
                (page::secret(visitor))
                input type="hidden" name="plan" value=(told);
                @if unexplained { p.note #why-not { (lang.t("写下理由之后才能应用：它会写进审计。", "Write a reason first: it goes into the audit.")) } }
                @if refuses {
                    button.danger type="submit" name="force" value="1" disabled[unexplained] { (lang.t("不顾护栏，强行应用（需要批准）", "Apply although a guard refuses (needs an approval)")) }
                } @else {
                    button.primary type="submit" disabled[unexplained] { (lang.t("应用这个计划", "Apply this plan")) }
                }
            }
            @if offer == Offer::Handed { (approval(visitor, &told)) }
        } @else {
            p.note { (lang.t("您是查看员：可以预览，不能应用。", "You are a viewer: you may preview, and not apply.")) }
        }
        @if refuses || plan.needs_approval {
            p.hand { a href={ "/console/shift/plan?p=" (told) } { (lang.t("给批准人的链接：打开同一个计划", "Link for the second person: the same plan")) } }
        }
    }
}

/// What the second person says.
fn approval(visitor: &Visitor, told: &str) -> Markup {
    let lang = visitor.lang;
    html! {
        form.acts #approve method="post" action="/console/shift/approve" {
            (page::secret(visitor))
            input type="hidden" name="plan" value=(told);
            label for="approve-reason" { (lang.t("批准的理由", "Why you approve")) }
            input #approve-reason name="reason" required maxlength="500" autocomplete="off";
            button type="submit" { (lang.t("批准：另一个人可以应用，十分钟内，一次", "Approve: somebody else may apply it, within ten minutes, once")) }
        }
    }
}

/// What is said before there is something to plan.
pub(super) fn hint(lang: Lang) -> Markup {
    html! { p.empty { (lang.t("选好从哪个节点调出、调到哪里，这里就会显示结果。", "Choose the node that gives and those that get: what it would do appears here.")) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> PlanShiftResponse {
        let guard = GuardCheck {
            guard: "utilization".to_owned(),
            node: "yuekang".to_owned(),
            value: 0.91,
            limit: 0.8,
            refuses: true,
        };
        let load = NodeLoad {
            node: "yuekang".to_owned(),
            rps_before: 10.0,
            rps_after: 91.0,
            rps_max: 100.0,
            target: true,
        };
        PlanShiftResponse {
            guards: vec![guard],
            nodes: vec![load],
            refusals: vec!["yuekang would carry 91.0 of the 100 calls a second that it declared: 0.91, where the limit is 0.80".to_owned()],
            moves: 0.3,
            two_person_above: 0.2,
            ..Default::default()
        }
    }

    #[test]
    fn what_stands_in_the_way_is_told_with_its_number_in_both_languages() {
        let english = verdict(Lang::En, &plan()).into_string();
        assert!(
            english.contains("0.91, where the limit is 0.80") && english.contains("refused"),
            "{english}"
        );
        let chinese = verdict(Lang::Zh, &plan()).into_string();
        assert!(chinese.contains("占用 0.91，上限 0.80"), "{chinese}");
        let many = PlanShiftResponse { refusals: Vec::new(), needs_approval: true, ..plan() };
        let english = verdict(Lang::En, &many).into_string();
        assert!(english.contains("30 % of the region's calls move, more than the 20 %"), "{english}");
        let fine = PlanShiftResponse { needs_approval: false, ..many };
        assert!(verdict(Lang::Zh, &fine).into_string().contains("data-verdict=\"fine\""));
    }

    #[test]
    fn a_course_says_when_it_is_whole_and_when_it_walks_back() {
        let order = ShiftOrder {
            from: "suikang".to_owned(),
            percent: 35.0,
            step: Some(10.0),
            every_s: Some(30),
            ttl_s: Some(7_200),
            ..Default::default()
        };
        let said = course(Lang::En, &order).into_string();
        assert!(said.contains("has 35 % of suikang's share after 1 min 30 s"), "{said}");
        assert!(said.contains("after 2 h 00 min"), "{said}");
        let at_once = course(Lang::En, &ShiftOrder { every_s: Some(0), ..order }).into_string();
        assert!(at_once.contains("moves at once"), "{at_once}");
    }
}
