//! Who changed what, and why do calls go where they go?
//!
//! The last entries of the audit, each checked by itself and against the one before it; and `explain`, for
//! now, for an earlier plan, or for what might happen.

pub(super) mod explain;

use super::{Console, Fields, api, fault::Fault, lang::Lang, live, page, page::Page, text, visitor::Visitor};
use crate::{
    audit::chain::{self, Fault as Broken, Head, Link, Stored},
    clock,
};
use axum::{
    extract::{Query, State},
    response::Response,
};
use http::StatusCode;
use maud::{Markup, html};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use suiyue_proto::v1::{self, AuditOutcome};
use tokio::sync::Mutex;
use tokio_stream::StreamExt as _;

/// Entries that are shown.
const SHOWN: u32 = 50;

/// The page.
pub(super) async fn page(
    State(console): State<Console>,
    visitor: Visitor,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let lang = visitor.lang;
    let fields = Fields(query);
    let explained = explain::section(&console, &visitor, &fields).await;
    let status = explained.as_ref().err().map_or(StatusCode::OK, |(fault, _)| fault.status);
    let explained = explained.unwrap_or_else(|(fault, form)| html! { (form) (page::alert(lang, &fault)) });
    let audit = audit(&console, &visitor).await;
    let main = html! {
        h1 { (Page::History.title(lang)) }
        section #explain aria-labelledby="explain-title" {
            h2 #explain-title { (lang.t("为什么这样走", "Why calls go where they go")) }
            (explained)
        }
        section aria-labelledby="audit-title" {
            h2 #audit-title { (lang.t("审计：谁改了什么", "Audit: who changed what")) }
            div #audit { (audit) }
        }
    };
    let query: Vec<String> = ["region", "class", "plan", "suppose", "node"]
        .into_iter()
        .filter(|name| fields.get(name).bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)))
        .filter(|name| !fields.get(name).is_empty())
        .map(|name| format!("{name}={}", fields.get(name)))
        .collect();
    let here = format!("/console/history?{}", query.join("&"));
    let stream = live::path("history", None);
    page::html(
        status,
        page::framed(&visitor, Page::History, here.trim_end_matches('?'), Some(&stream), &main),
    )
}

/// The parts that change, by their ids.
pub(super) async fn parts(console: &Console, visitor: &Visitor) -> Vec<(&'static str, Markup)> {
    vec![("audit", audit(console, visitor).await)]
}

/// One entry as it was read.
struct Line {
    id: String,
    link: Result<Link, Broken>,
}

/// The last entries, newest first, and whether they hang together.
struct Tail {
    lines: Vec<Line>,
    broken: Option<Broken>,
}

/// The tail as it was read last. Every role may read the audit, so that all pages share it.
#[derive(Default)]
pub(super) struct Kept(Mutex<Option<(Instant, Read)>>);

/// What was read, or why nothing was.
type Read = Result<Arc<Tail>, tonic::Status>;

/// However many pages are open, the audit is read at most so often.
const READ_EVERY: Duration = Duration::from_secs(2);

impl Kept {
    /// Who asks while another reads waits for what that one reads.
    async fn tail(&self, console: &Console, visitor: &Visitor) -> Read {
        let mut kept = self.0.lock().await;
        if let Some((_, tail)) = kept.as_ref().filter(|(at, _)| at.elapsed() < READ_EVERY) {
            return tail.clone();
        }
        let read = tail(console, visitor).await.map(Arc::new);
        *kept = Some((Instant::now(), read.clone()));
        read
    }
}

async fn audit(console: &Console, visitor: &Visitor) -> Markup {
    match console.0.tail.tail(console, visitor).await {
        Ok(tail) => drawn(visitor.lang, &tail, console.0.operator.metrics.audit.known().problem.as_deref()),
        Err(status) => page::alert(visitor.lang, &Fault::from(status)),
    }
}

async fn tail(console: &Console, visitor: &Visitor) -> Result<Tail, tonic::Status> {
    let asked = v1::ReadAuditRequest { last: SHOWN, follow: false };
    let request = api::request(&visitor.session.actor, "", asked);
    let mut answers = console.0.api.operator().read_audit(request).await?.into_inner();
    let (mut lines, mut head) = (Vec::new(), None);
    while let Some(answer) = answers.next().await {
        let answer = answer?;
        if answer.id.is_empty() {
            head = Head::decode(&answer.head);
            continue;
        }
        let stored = Stored { id: answer.id, value: answer.record };
        lines.push(Line { link: chain::read(&stored), id: stored.id });
    }
    let broken = broken(&lines, head.as_ref());
    lines.reverse();
    Ok(Tail { lines, broken })
}

/// What is wrong with entries in their order, and their head.
fn broken(lines: &[Line], head: Option<&Head>) -> Option<Broken> {
    let mut before: Option<&Head> = None;
    for line in lines {
        let link = match &line.link {
            Ok(link) => link,
            Err(fault) => return Some(*fault),
        };
        let follows = |last: &Head| {
            link.entry.previous_hash == last.hash[..] && link.head.sequence == last.sequence + 1
        };
        if before.is_some_and(|last| !follows(last)) {
            return Some(Broken::Unlinked);
        }
        before = Some(&link.head);
    }
    // A list that is shorter than what was asked for begins with the first entry.
    let first = lines.first().and_then(|line| line.link.as_ref().ok());
    if lines.len() < SHOWN as usize && first.is_some_and(|link| link.entry.sequence != 1) {
        return Some(Broken::Unlinked);
    }
    match (before, head) {
        (Some(_), None) => Some(Broken::HeadMissing),
        (last, Some(head)) if last != Some(head) => Some(Broken::HeadElsewhere),
        _ => None,
    }
}

fn drawn(lang: Lang, tail: &Tail, problem: Option<&str>) -> Markup {
    html! {
        @match (tail.broken, problem) {
            (Some(broken), _) => div.alert data-reason=(broken.as_str()) {
                p { span.mark aria-hidden="true" { "✕" } " " (lang.t("审计被动过：请立即运行 suiyue audit verify", "The audit was tampered with: run suiyue audit verify at once")) }
                p.why { (broken.text()) }
            },
            (None, Some(problem)) => div.alert data-reason="forgotten" {
                p { span.mark aria-hidden="true" { "✕" } " " (lang.t("注册中心里的审计接不上这个网关记住的", "The audit in the registry does not continue the one that this gateway remembers")) }
                p.why { (problem) }
            },
            (None, None) if !tail.lines.is_empty() => p.chain {
                (page::badge("ok", "✓", lang.t("所示条目环环相扣", "the entries shown are linked without a break")))
            },
            _ => {}
        }
        @if tail.lines.is_empty() {
            p.empty { (lang.t("还没有人改过什么。", "Nobody has changed anything yet.")) }
        }
        ol.audit reversed { @for line in &tail.lines { li id={ "a-" (line.id) } { (entry(lang, line)) } } }
    }
}

fn entry(lang: Lang, line: &Line) -> Markup {
    let entry = match &line.link {
        Ok(link) => &link.entry,
        Err(fault) => {
            return html! { p.bad { code { (line.id) } " " (fault.text()) } };
        }
    };
    let refused = entry.outcome() == AuditOutcome::Refused;
    html! {
        p.deed {
            span.sequence { "#" (entry.sequence) }
            time datetime=(clock::utc(entry.unix_ms)) { (text::utc(entry.unix_ms)) }
            @if refused { (page::badge("down", "✕", lang.t("被拒绝", "refused"))) }
            @else { (page::badge("ok", "✓", lang.t("已写入", "written"))) }
        }
        p {
            strong { (entry.actor) }
            " (" (entry.role.parse().map_or(entry.role.as_str(), |role| page::role(lang, role)))
            @if !entry.authenticated { ", " (lang.t("本机自报", "by own word, on the gateway's machine")) }
            ") " code { (entry.method) } " " span.key { (entry.key) }
            @if refused { " " code.bad { (entry.refusal) } }
            " " span.at { (lang.t("经 ", "at ")) (entry.gateway) }
        }
        @if !entry.reason.is_empty() { p.reason { "“" (entry.reason) "”" } }
        @if !entry.before.is_empty() || !entry.after.is_empty() {
            details {
                summary { (lang.t("改动前后", "Before and after")) }
                div.change {
                    div { h3 { (lang.t("之前", "Before")) } pre tabindex="0" { @if entry.before.is_empty() { (lang.t("（没有）", "(nothing)")) } @else { (entry.before) } } }
                    div { h3 { (lang.t("之后", "After")) } pre tabindex="0" { @if entry.after.is_empty() { (lang.t("（没有）", "(nothing)")) } @else { (entry.after) } } }
                }
            }
        }
        @if entry.refused_unwritten > 0 {
            p.note { (lang.t("另有未写下的被拒尝试：", "Refused attempts that were too many to write down: ")) (entry.refused_unwritten) }
        }
    }
}

#[cfg(test)]
mod tests;
