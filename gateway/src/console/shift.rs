//! How does an operator move calls from a browser?
//!
//! ```text
//!   form ─► preview, drawn again while it changes ─► plan as text ─► apply ─► shifts that run
//!                                                      └─► the second person opens it ─► approve
//! ```
//! Every step is a call of the operator API, in the visitor's name and role: the preview is `PlanShift`, and
//! what is applied is the plan that was shown, with its hash, so that nobody applies what they did not see.

mod form;
mod order;
mod preview;
pub(super) mod running;

use super::{
    Console, Fields, api,
    fault::{Fault, Why},
    lang::Lang,
    live, page,
    page::Page,
    visitor::{Form, Visitor},
};
use crate::audit::actor::Role;
use axum::{
    extract::{Query, State},
    response::Response,
};
use http::StatusCode;
use maud::{Markup, html};
use preview::Offer;
use running::Controls;
use suiyue_proto::v1::{
    ApplyShiftRequest, ApproveShiftRequest, ChangeShiftRequest, PlanShiftRequest, PlanShiftResponse,
    change_shift_request::Change,
};
use tonic::Status;

type Asked = Query<Vec<(String, String)>>;

/// The visitor's role lets it change something; whether it may is the operator API's to say.
fn may(visitor: &Visitor) -> bool {
    visitor.session.actor.role >= Role::Operator
}

/// The page; with an order in the address also its preview, as without the script.
pub(super) async fn page(State(console): State<Console>, visitor: Visitor, Query(query): Asked) -> Response {
    let fields = Fields(query);
    let (status, preview) = previewed(&console, &visitor, &fields).await;
    whole(&console, &visitor, &fields, Shown { status, note: done(visitor.lang, &fields), preview }).await
}

/// The preview alone, for the script.
pub(super) async fn preview(
    State(console): State<Console>,
    visitor: Visitor,
    Query(query): Asked,
) -> Response {
    let (status, preview) = previewed(&console, &visitor, &Fields(query)).await;
    page::html(status, preview)
}

/// A plan that somebody hands on.
pub(super) async fn handed(
    State(console): State<Console>,
    visitor: Visitor,
    Query(query): Asked,
) -> Response {
    let fields = Fields(query);
    let plan = match order::plan(fields.get("p")) {
        Ok(plan) => plan,
        Err(fault) => return page::refusal(visitor.lang, &fault),
    };
    let note = done(visitor.lang, &fields);
    handed_on(&console, &visitor, &plan, StatusCode::OK, note).await
}

pub(super) async fn apply(State(console): State<Console>, form: Form) -> Response {
    let Form { visitor, fields } = form;
    let plan = match order::plan(fields.get("plan")) {
        Ok(plan) => plan,
        Err(fault) => return page::refusal(visitor.lang, &fault),
    };
    match applied(&console, &visitor, &plan, fields.get("force") == "1").await {
        Ok(()) => page::go("/console/shift?done=applied#shifts"),
        Err(fault) => {
            let note = page::alert(visitor.lang, &fault);
            handed_on(&console, &visitor, &plan, fault.status, note).await
        }
    }
}

async fn applied(
    console: &Console,
    visitor: &Visitor,
    plan: &ApplyShiftRequest,
    force: bool,
) -> Result<(), Fault> {
    let reason = plan.order.as_ref().map_or("", |order| order.reason.trim());
    if !visitor.session.proves() {
        let (order, without) = (plan.order.clone(), plan.without.clone());
        let now = planned(console, visitor, PlanShiftRequest { order, without, at_rps: 0.0 }).await?;
        if force || now.needs_approval {
            return Err(Fault::of(Why::Certificate));
        }
    }
    let asked = ApplyShiftRequest { force, ..plan.clone() };
    let request = api::request(&visitor.session.actor, explained(reason)?, asked);
    console.0.api.shifts().apply_shift(request).await?;
    Ok(())
}

pub(super) async fn approve(State(console): State<Console>, form: Form) -> Response {
    let Form { visitor, fields } = form;
    let plan = match order::plan(fields.get("plan")) {
        Ok(plan) => plan,
        Err(fault) => return page::refusal(visitor.lang, &fault),
    };
    match approved(&console, &visitor, &plan, fields.get("reason")).await {
        Ok(()) => page::go(&format!("/console/shift/plan?done=approved&p={}", fields.get("plan"))),
        Err(fault) => {
            let note = page::alert(visitor.lang, &fault);
            handed_on(&console, &visitor, &plan, fault.status, note).await
        }
    }
}

async fn approved(
    console: &Console,
    visitor: &Visitor,
    plan: &ApplyShiftRequest,
    reason: &str,
) -> Result<(), Fault> {
    let asked = ApproveShiftRequest {
        plan_hash: plan.plan_hash.clone(),
        order: plan.order.clone(),
        read: plan.read.clone(),
        without: plan.without.clone(),
        ..Default::default()
    };
    if !visitor.session.proves() {
        return Err(Fault::of(Why::Certificate));
    }
    let request = api::request(&visitor.session.actor, explained(reason)?, asked);
    console.0.api.shifts().approve_shift(request).await?;
    Ok(())
}

pub(super) async fn change(State(console): State<Console>, form: Form) -> Response {
    let Form { visitor, fields } = form;
    match changed(&console, &visitor, &fields).await {
        Ok(done) => page::go(&format!("/console/shift?done={done}#shifts")),
        Err(fault) => {
            let note = page::alert(visitor.lang, &fault);
            let shown = Shown { status: fault.status, note, preview: preview::hint(visitor.lang) };
            whole(&console, &visitor, &Fields::default(), shown).await
        }
    }
}

async fn changed(console: &Console, visitor: &Visitor, fields: &Fields) -> Result<&'static str, Fault> {
    let (done, change) = match fields.get("change") {
        "hold" => ("hold", Change::Hold(true)),
        "resume" => ("resume", Change::Resume(true)),
        "cancel" => ("cancel", Change::Cancel(true)),
        "rollback" => ("rollback", Change::Rollback(true)),
        "extend" => ("extend", Change::TtlS(order::ttl_s(fields)?)),
        _ => return Err(Fault::of(Why::Form).about("change")),
    };
    let asked =
        ChangeShiftRequest { id: fields.get("shift").to_owned(), change: Some(change), ..Default::default() };
    let request = api::request(&visitor.session.actor, explained(fields.get("reason"))?, asked);
    let answer = console.0.api.shifts().change_shift(request).await?.into_inner();
    Ok(if answer.written { done } else { "nothing" })
}

/// In the console nobody changes anything without a word, also where the operator API lets them.
fn explained(reason: &str) -> Result<&str, Fault> {
    let problem = || Fault::field("reason", "请写下理由：它会写进审计", "say why: it goes into the audit");
    if reason.is_empty() { Err(problem()) } else { Ok(reason) }
}

/// The parts that change by themselves, by their ids.
pub(super) async fn parts(console: &Console, visitor: &Visitor) -> Vec<(&'static str, Markup)> {
    let shifts = running::list(console, visitor).await;
    let news = shifts.as_ref().map_or_else(|_| String::new(), |shifts| running::news(visitor.lang, shifts));
    let drawn = running::drawn(visitor, shifts.as_deref(), Controls::Changed);
    vec![("shifts", drawn), ("news", html! { (news) })]
}

/// What would happen, or why that cannot be said.
async fn previewed(console: &Console, visitor: &Visitor, fields: &Fields) -> (StatusCode, Markup) {
    let lang = visitor.lang;
    if !order::is_asked(fields) {
        return (StatusCode::OK, preview::hint(lang));
    }
    let refused = |fault: Fault| (fault.status, page::alert(lang, &fault));
    let asked = match order::asked(fields) {
        Ok(asked) => asked,
        Err(fault) => return refused(fault),
    };
    let (without, supposed) = (asked.without.clone(), asked.at_rps);
    let offer = if supposed > 0.0 { Offer::Supposed(supposed) } else { Offer::Apply };
    match planned(console, visitor, asked).await {
        Ok(plan) => (StatusCode::OK, preview::drawn(visitor, &plan, &without, offer)),
        Err(status) => refused(status.into()),
    }
}

async fn planned(
    console: &Console,
    visitor: &Visitor,
    asked: PlanShiftRequest,
) -> Result<PlanShiftResponse, Status> {
    let request = api::request(&visitor.session.actor, "", asked);
    console.0.api.shifts().plan_shift(request).await.map(tonic::Response::into_inner)
}

/// What a page shows beside its form.
struct Shown {
    status: StatusCode,
    note: Markup,
    preview: Markup,
}

async fn whole(console: &Console, visitor: &Visitor, fields: &Fields, shown: Shown) -> Response {
    let lang = visitor.lang;
    let parts = parts(console, visitor).await;
    let part = |wanted: &str| parts.iter().find(|(id, _)| *id == wanted).map(|(_, part)| part);
    let main = html! {
        h1 { (Page::Shift.title(lang)) }
        div #done { (shown.note) }
        section aria-labelledby="shifts-title" {
            h2 #shifts-title { (lang.t("正在进行", "Running")) }
            div #shifts { @if let Some(part) = part("shifts") { (part) } }
        }
        section aria-labelledby="order-title" {
            h2 #order-title { (lang.t("新的调流", "A new shift")) }
            div.planner {
                div {
                    (form::drawn(console, lang, fields))
                    p #preview-said.said role="status" {}
                }
                div {
                    h3 #preview-title { (lang.t("预览", "Preview")) }
                    div #preview role="region" aria-labelledby="preview-title" data-failed=(lang.t("预览没有得到答复，请重试。", "The preview got no answer: try again.")) { (shown.preview) }
                }
            }
        }
    };
    let here = match fields.get("region") {
        code if code.parse::<u32>().is_ok() => format!("/console/shift?region={code}"),
        _ => "/console/shift".to_owned(),
    };
    let stream = live::path("shift", None);
    page::html(shown.status, page::framed(visitor, Page::Shift, &here, Some(&stream), &main))
}

/// The page of one plan: what it would do now, if it is still the plan that it was.
async fn handed_on(
    console: &Console,
    visitor: &Visitor,
    plan: &ApplyShiftRequest,
    status: StatusCode,
    note: Markup,
) -> Response {
    let lang = visitor.lang;
    let asked = PlanShiftRequest { order: plan.order.clone(), without: plan.without.clone(), at_rps: 0.0 };
    let order = plan.order.clone().unwrap_or_default();
    let (status, drawn) = match planned(console, visitor, asked).await {
        Ok(now) if now.plan_hash == plan.plan_hash => {
            (status, preview::drawn(visitor, &now, &plan.without, Offer::Handed))
        }
        Ok(now) => {
            let status = if status.is_success() { StatusCode::CONFLICT } else { status };
            let stale = Fault::from(changed_key(plan, &now));
            let shown = preview::drawn(visitor, &now, &plan.without, Offer::Stale);
            (status, html! { (page::alert(lang, &stale)) (shown) })
        }
        Err(refused) => {
            let fault = Fault::from(refused);
            (fault.status, page::alert(lang, &fault))
        }
    };
    let again = order::fields(&order, &plan.without);
    let again = format!("/console/shift?{}#order", again.query());
    let main = html! {
        h1 { (lang.t("一个计划", "A plan")) }
        div #done { (note) }
        @if !order.reason.is_empty() { p.reason { "“" (order.reason) "”" @if !order.incident.is_empty() { " · " (order.incident) } } }
        div #preview { (drawn) }
        p { a href=(again) { (lang.t("用这些内容重新计划", "Plan it again with these values")) } }
    };
    let here = format!("/console/shift/plan?p={}", order::told_again(plan));
    page::html(status, page::framed(visitor, Page::Shift, &here, None, &main))
}

/// What has changed since a plan was made, as `ApplyShift` would say it.
fn changed_key(plan: &ApplyShiftRequest, now: &PlanShiftResponse) -> Status {
    let changed = now.read.iter().find(|key| !plan.read.contains(key));
    let key = changed.map_or("order", |key| key.key.as_str());
    suiyue_proto::reason::Reason::PlanStale.with(&[("key", key)])
}

/// What has just been done, in words.
fn done(lang: Lang, fields: &Fields) -> Markup {
    let said = match fields.get("done") {
        "applied" => lang.t("已应用：见下面正在进行的调流。", "Applied: it stands under what runs."),
        "approved" => lang.t(
            "已批准：十分钟内，另一个人可以应用一次。",
            "Approved: within ten minutes somebody else may apply it, once.",
        ),
        "hold" => lang.t("已保持。", "Held."),
        "resume" => lang.t("已继续。", "Resumed."),
        "cancel" => lang.t("已取消：逐步回退。", "Cancelled: it walks back."),
        "rollback" => lang.t("已收回。", "Taken back."),
        "nothing" => lang.t("本来就是这样：什么也没有改。", "It stood so already: nothing was changed."),
        "extend" => lang.t("已改期。", "Its end was changed."),
        _ => return html! {},
    };
    html! { div.fine role="status" { p { span.mark aria-hidden="true" { "✓" } " " (said) } } }
}
