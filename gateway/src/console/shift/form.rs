//! What does an operator fill in?
//!
//! Region, who gives, who gets, how much; the rest has the defaults of the order and may stay as it is.

use super::super::{
    Console, Fields,
    federation::{
        node::tier,
        view::{self, Look},
    },
    history::explain::class_name,
    lang::Lang,
    sums::Sum,
};
use maud::{Markup, html};
use suiyue_proto::{
    method::Class,
    region::{self, Code},
};

/// The form as it was filled in.
pub(super) fn drawn(console: &Console, lang: Lang, fields: &Fields) -> Markup {
    html! {
        form.order #order method="get" action="/console/shift" data-preview="/console/shift/preview" {
            (regions(console, lang, fields))
            (nodes(console, lang, fields))
            (classes(lang, fields))
            (percent(lang, fields))
            fieldset.plain {
                legend { (lang.t("过程", "Course")) }
                div.row {
                    (number(fields, ("step", "10"), ("0.1", "100", "any"), lang.t("每步百分点", "Points a step")))
                    (number(fields, ("every_s", "30"), ("0", "3600", "1"), lang.t("步间秒数（0 = 一步到位）", "Seconds between steps (0: at once)")))
                    (number(fields, ("minutes", "120"), ("1", "4320", "1"), lang.t("持续分钟（至多 72 小时）", "Minutes it lasts (72 h at most)")))
                }
            }
            (guards(lang, fields))
            div { label for="reason" { (lang.t("理由（必填，写进审计）", "Reason (needed, goes into the audit)")) }
                input #reason name="reason" required maxlength="500" autocomplete="off" value=(fields.get("reason")); }
            div { label for="incident" { (lang.t("事件编号（可空）", "Incident (optional)")) }
                input #incident name="incident" maxlength="100" autocomplete="off" value=(fields.get("incident")); }
            button type="submit" { (lang.t("预览", "Preview")) }
        }
    }
}

/// The region that the form is about: the chosen one, else the one that is worst.
fn region_of(console: &Console, fields: &Fields) -> Option<Code> {
    let snapshot = console.0.operator.snapshots.current();
    let chosen = fields.get("region").parse().ok().and_then(Code::new);
    chosen.or_else(|| {
        let sum = Sum::default();
        let regions = Look::new(&snapshot, console.0.recorder.now(), &sum).regions();
        Code::new(view::worst(&regions)?.code)
    })
}

fn regions(console: &Console, lang: Lang, fields: &Fields) -> Markup {
    let snapshot = console.0.operator.snapshots.current();
    let chosen = region_of(console, fields);
    html! {
        div { label for="region-code" { (lang.t("区划", "Region")) }
            select #region-code name="region" data-reload="/console/shift?region=" {
                @for code in snapshot.plans.regions.keys() {
                    @let division = region::find(code.get());
                    option value=(code) selected[Some(*code) == chosen] {
                        (division.map_or("", |division| lang.t(division.name_zh, division.name_en))) " " (code)
                    }
                }
            }
        }
    }
}

/// Who may answer for the region, in the order they are tried.
fn candidates(console: &Console, fields: &Fields) -> Vec<(String, u8)> {
    let snapshot = console.0.operator.snapshots.current();
    let routes = region_of(console, fields).and_then(|code| snapshot.plans.regions.get(&code));
    let mut all: Vec<(String, u8)> = Vec::new();
    for candidate in routes.into_iter().flatten().flat_map(|route| &route.candidates) {
        if !all.iter().any(|(name, _)| **name == *candidate.node) {
            all.push((candidate.node.to_string(), candidate.tier));
        }
    }
    all
}

fn nodes(console: &Console, lang: Lang, fields: &Fields) -> Markup {
    let all = candidates(console, fields);
    let from = fields.get("from");
    let gets = |name: &str| fields.all("to").any(|to| to == name);
    html! {
        div { label for="from" { (lang.t("从哪个节点调出", "Node that gives")) }
            select #from name="from" {
                option value="" { "–" }
                @for (name, at) in &all { option value=(name) selected[name == from] { (name) " · " (tier(lang, *at)) } }
            }
        }
        fieldset.plain {
            legend { (lang.t("调到哪里，按什么权重", "Nodes that get, with their weights")) }
            @for (at, (name, level)) in all.iter().enumerate() {
                @let weight = format!("weight-{name}");
                div.target {
                    input id={ "to-" (at) } type="checkbox" name="to" value=(name) checked[gets(name)];
                    label for={ "to-" (at) } { (name) " · " (tier(lang, *level)) }
                    input type="number" min="0.001" max="1000000" step="any" name=(weight)
                        value=(if fields.get(&weight).is_empty() { "1" } else { fields.get(&weight) })
                        aria-label={ (lang.t("权重：", "Weight of ")) (name) };
                }
            }
        }
    }
}

fn classes(lang: Lang, fields: &Fields) -> Markup {
    let none = !fields.has("class");
    html! {
        fieldset.plain {
            legend { (lang.t("请求类别", "Classes")) }
            div.row { @for class in Class::ALL {
                @let word = class.as_str();
                span.choice {
                    input id={ "class-" (word) } type="checkbox" name="class" value=(word)
                        checked[none || fields.all("class").any(|chosen| chosen == word)];
                    label for={ "class-" (word) } { (class_name(lang, class)) }
                }
            } }
        }
    }
}

fn percent(lang: Lang, fields: &Fields) -> Markup {
    let value = if fields.get("percent").is_empty() { "10" } else { fields.get("percent") };
    html! {
        div { label for="percent" { (lang.t("调走它份额的百分之几", "How much of its share moves, in %")) }
            div.slider {
                input #percent type="range" name="percent" min="1" max="100" step="1" value=(value);
                output #percent-told for="percent" { (value) " %" }
            }
        }
    }
}

fn guards(lang: Lang, fields: &Fields) -> Markup {
    let rolls_back = fields.get("on_breach") == "rollback";
    let usual = ["max_utilization", "error_delta", "p99_factor", "at_rps", "without"]
        .iter()
        .all(|name| fields.get(name).is_empty());
    html! {
        details open[!usual || rolls_back] {
            summary { (lang.t("护栏与假设", "Guards and suppositions")) }
            div.row {
                (number(fields, ("max_utilization", "80"), ("1", "100", "any"), lang.t("占用上限 %", "Use at most, %")))
                (number(fields, ("error_delta", "2"), ("0", "100", "any"), lang.t("失败最多增加（百分点）", "Failures may grow by (points)")))
                (number(fields, ("p99_factor", "2"), ("1", "1000", "any"), lang.t("p99 最多变为几倍", "p99 may grow (times)")))
                div { label for="on_breach" { (lang.t("护栏被突破时", "When a guard is breached")) }
                    select #on_breach name="on_breach" {
                        option value="hold" { (lang.t("停在原处", "hold")) }
                        option value="rollback" selected[rolls_back] { (lang.t("立即收回", "take it back at once")) }
                    } }
                (number(fields, ("at_rps", ""), ("0", "", "any"), lang.t("假设该区划每秒请求（可空）", "Suppose calls/s of the region (optional)")))
                div { label for="without" { (lang.t("不计哪些没有应答的网关（可空）", "Go without silent gateways (optional)")) }
                    input #without name="without" autocomplete="off" value=(fields.get("without")); }
            }
        }
    }
}

fn number(
    fields: &Fields,
    (name, usual): (&str, &str),
    (min, max, step): (&str, &str, &str),
    label: &str,
) -> Markup {
    let value = if fields.get(name).is_empty() { usual } else { fields.get(name) };
    html! {
        div { label for=(name) { (label) }
            input id=(name) name=(name) type="number" min=(min) max=[(!max.is_empty()).then_some(max)] step=(step) value=(value); }
    }
}
