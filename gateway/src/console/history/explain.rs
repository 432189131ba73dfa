//! Why do calls go where they go, and where would they go?

use super::super::{Console, Fields, api, fault::Fault, lang::Lang, page, text, visitor::Visitor};
use crate::console::federation::view::said;
use maud::{Markup, html};
use suiyue_proto::{
    method::Class,
    region,
    v1::{self, CandidateInfo, what_if::Change},
};

/// The form and, where something is asked, the answer; a refusal leaves the form as it was filled in.
pub(super) async fn section(
    console: &Console,
    visitor: &Visitor,
    fields: &Fields,
) -> Result<Markup, (Fault, Markup)> {
    let lang = visitor.lang;
    let form = form(console, lang, fields);
    if !fields.has("region") {
        return Ok(form);
    }
    let asked = match asked(fields) {
        Ok(asked) => asked,
        Err(fault) => return Err((fault, form)),
    };
    let request = api::request(&visitor.session.actor, "", asked);
    match console.0.api.operator().explain_route(request).await {
        Ok(answer) => Ok(html! { (form) (told(lang, &answer.into_inner())) }),
        Err(status) => Err((status.into(), form)),
    }
}

fn asked(fields: &Fields) -> Result<v1::ExplainRouteRequest, Fault> {
    let region = fields
        .get("region")
        .parse()
        .map_err(|_| Fault::field("region", "区划代码应是六位数字", "a region is a code of six digits"))?;
    let class =
        Class::ALL.into_iter().find(|class| class.as_str() == fields.get("class")).ok_or_else(|| {
            Fault::field(
                "class",
                "请求类别应是 scan、show、query 或 sync",
                "a class is scan, show, query or sync",
            )
        })?;
    let plan = match fields.get("plan") {
        "" => 0,
        text => text.parse().map_err(|_| {
            Fault::field("plan", "计划应是一个整数，或留空", "a plan is a whole number, or left empty")
        })?,
    };
    let node = fields.get("node").to_owned();
    let change = match fields.get("suppose") {
        "" => None,
        "node-down" => Some(Change::NodeDown(node)),
        "drain" => Some(Change::Drain(node)),
        _ => {
            let (zh, en) = ("只能假设节点失效或排空", "what can be supposed is node-down or drain");
            return Err(Fault::field("suppose", zh, en));
        }
    };
    let what_if = change.map(|change| v1::WhatIf { change: Some(change) }).into_iter().collect();
    Ok(v1::ExplainRouteRequest {
        region,
        class: class.to_proto().into(),
        plan,
        what_if,
        ..Default::default()
    })
}

fn form(console: &Console, lang: Lang, fields: &Fields) -> Markup {
    let snapshot = console.0.operator.snapshots.current();
    let chosen = fields.get("region");
    let regions = snapshot.plans.regions.keys().filter_map(|code| region::find(code.get()));
    let known = snapshot.plans.regions.keys().any(|code| code.to_string() == chosen);
    html! {
        form.row method="get" action="/console/history" {
            div { label for="e-region" { (lang.t("区划", "Region")) }
                select #e-region name="region" {
                    @if !known && !chosen.is_empty() { option value=(chosen) selected { (chosen) } }
                    @for division in regions {
                        @let code = division.code.to_string();
                        option value=(code) selected[code == chosen] { (lang.t(division.name_zh, division.name_en)) " " (code) }
                    }
                } }
            div { label for="e-class" { (lang.t("类别", "Class")) }
                select #e-class name="class" {
                    @for class in Class::ALL { option value=(class.as_str()) selected[class.as_str() == fields.get("class")] { (class_name(lang, class)) } }
                } }
            div { label for="e-plan" { (lang.t("计划（可空）", "Plan (optional)")) }
                input #e-plan name="plan" inputmode="numeric" value=(fields.get("plan")) placeholder=(lang.t("现在", "now")); }
            div { label for="e-suppose" { (lang.t("假设", "Suppose")) }
                select #e-suppose name="suppose" {
                    option value="" { (lang.t("不假设", "nothing")) }
                    option value="node-down" selected[fields.get("suppose") == "node-down"] { (lang.t("节点失效", "a node is down")) }
                    option value="drain" selected[fields.get("suppose") == "drain"] { (lang.t("节点排空", "a node is drained")) }
                } }
            div { label for="e-node" { (lang.t("哪个节点", "Which node")) }
                select #e-node name="node" {
                    option value="" { "–" }
                    @for name in snapshot.table.nodes.keys() { option value=(name) selected[**name == *fields.get("node")] { (name) } }
                } }
            button type="submit" { (lang.t("解释", "Explain")) }
        }
    }
}

/// A class in words.
pub(in crate::console) const fn class_name(lang: Lang, class: Class) -> &'static str {
    match class {
        Class::Scan => lang.t("scan 核验", "scan"),
        Class::Show => lang.t("show 亮码", "show"),
        Class::Query => lang.t("query 查询", "query"),
        Class::Sync => lang.t("sync 同步", "sync"),
    }
}

fn told(lang: Lang, answer: &v1::ExplainRouteResponse) -> Markup {
    html! {
        div.answer role="group" aria-label=(lang.t("解释", "Explanation")) {
            p.summary-line { (lang.t("现在：", "Now: ")) (summary(lang, &answer.summary, &answer.candidates)) }
            (candidates(lang, &answer.candidates))
            @if let Some(supposed) = &answer.supposed {
                p.summary-line { (lang.t("假设之下：", "Supposed: ")) (summary(lang, &supposed.summary, &supposed.candidates)) }
                @if supposed.shed > 0.0 { p.bad { (lang.t("无人回答的部分：", "Answered by nobody: ")) (text::percent(supposed.shed)) } }
                (candidates(lang, &supposed.candidates))
            }
        }
    }
}

/// Where calls go, in one line; in Chinese made from the shares.
fn summary(lang: Lang, english: &str, candidates: &[CandidateInfo]) -> String {
    if lang == Lang::En {
        return english.to_owned();
    }
    let share = |candidate: &CandidateInfo| {
        let known = crate::plan::Reason::ALL.into_iter().find(|reason| reason.as_str() == candidate.reason);
        let why = known.map_or(candidate.reason.as_str(), |reason| said(lang, reason));
        format!("{} {}（{why}）", candidate.node, text::percent(candidate.share))
    };
    let shares: Vec<_> = candidates.iter().filter(|candidate| candidate.share > 0.0).map(share).collect();
    if shares.is_empty() { "没有系统回答".to_owned() } else { shares.join("，") }
}

fn candidates(lang: Lang, all: &[CandidateInfo]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(lang.t("候选节点", "Candidates")) {
            table {
                thead { tr {
                    th scope="col" { (lang.t("节点与原因", "Node, and why")) }
                    th.n.deep scope="col" { (lang.t("基础", "Base")) }
                    th.n.deep scope="col" { (lang.t("调流后", "Shifted")) }
                    th.n.deep scope="col" { (lang.t("限额后", "Clamped")) }
                    th.n scope="col" { (lang.t("份额", "Share")) }
                } }
                tbody { @for candidate in all { tr {
                    th scope="row" {
                        (candidate.node)
                        span.because { (reason(lang, candidate)) @for limit in &candidate.limits { br; span.note { (limit) } } }
                    }
                    td.n.deep { (text::percent(candidate.base_share)) }
                    td.n.deep { (text::percent(candidate.shifted_share)) }
                    td.n.deep { (text::percent(candidate.clamped_share)) }
                    td.n { strong { (text::percent(candidate.share)) } (page::bar(candidate.share, "share")) }
                } } }
            }
        }
    }
}

/// The rule in English, and the reason in Chinese: rules carry numbers that only their sentence explains.
fn reason(lang: Lang, candidate: &CandidateInfo) -> Markup {
    let known = crate::plan::Reason::ALL.into_iter().find(|reason| reason.as_str() == candidate.reason);
    html! {
        @if let (Lang::Zh, Some(reason)) = (lang, known) { (said(lang, reason)) br; span.note lang="en" { (candidate.rule) } }
        @else { (candidate.rule) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_in_chinese_says_who_gets_how_much_and_why() {
        let candidate = |node: &str, share, reason: &str| CandidateInfo {
            node: node.to_owned(),
            share,
            reason: reason.to_owned(),
            ..Default::default()
        };
        let all = [
            candidate("suikang", 0.7, "primary"),
            candidate("yuekang", 0.3, "shift"),
            candidate("x", 0.0, "standby"),
        ];
        assert_eq!(summary(Lang::Zh, "", &all), "suikang 70 %（首选），yuekang 30 %（操作员把流量调到这里）");
        assert_eq!(summary(Lang::Zh, "", &all[2..]), "没有系统回答");
        assert_eq!(summary(Lang::En, "as it is", &all), "as it is");
    }
}
