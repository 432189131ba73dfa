//! How is the federation?
//!
//! The grid of all regions with their states, and one region's nodes. What is shown is [`view`], made from
//! the snapshot that requests read and from what the recorder counted; this file only draws it.

mod alarms;
pub(super) mod node;
pub(super) mod view;

use super::{
    Console, Fields,
    fault::Fault,
    live, page,
    page::Page,
    shift::running::{self, Controls},
    text,
    visitor::Visitor,
};
use crate::registry::follow;
use alarms::Alarm;
use axum::{
    extract::{Query, State},
    response::Response,
};
use http::StatusCode;
use maud::{Markup, html};
use suiyue_proto::region;
use view::{Health, Look, Region};

/// With more regions than these, those that are fine are folded up: the worst one's nodes stand near it.
const FEW: usize = 24;

/// The page.
pub(super) async fn page(
    State(console): State<Console>,
    visitor: Visitor,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let lang = visitor.lang;
    let fields = Fields(query);
    let asked = fields.get("region");
    let region = match asked.parse::<u32>() {
        _ if asked.is_empty() => None,
        Ok(code) if region::find(code).is_some() => Some(code),
        _ => {
            let (zh, en) = ("区划代码应是 GB/T 2260 的六位数字", "a region is a six-digit code of GB/T 2260");
            return page::refusal(lang, &Fault::field("region", zh, en));
        }
    };
    let parts = parts(&console, &visitor, region).await;
    let part = |wanted: &str| parts.iter().find(|(id, _)| *id == wanted).map(|(_, part)| part);
    let main = html! {
        h1 { (Page::Federation.title(lang)) }
        section #status aria-label=(lang.t("网关状态", "State of the gateway")) { @if let Some(part) = part("status") { (part) } }
        section #shifts aria-label=(lang.t("正在进行的调流", "Running shifts")) { @if let Some(part) = part("shifts") { (part) } }
        section aria-labelledby="regions-title" {
            h2 #regions-title { (lang.t("区划", "Regions")) }
            div #regions { @if let Some(part) = part("regions") { (part) } }
        }
        section #region aria-label=(lang.t("所选区划", "Selected region")) { @if let Some(part) = part("region") { (part) } }
    };
    let stream = live::path("federation", region);
    let here = region.map_or_else(|| "/console".to_owned(), |code| format!("/console?region={code}"));
    page::html(StatusCode::OK, page::framed(&visitor, Page::Federation, &here, Some(&stream), &main))
}

/// The parts that change, by their ids.
pub(super) async fn parts(
    console: &Console,
    visitor: &Visitor,
    region: Option<u32>,
) -> Vec<(&'static str, Markup)> {
    let snapshot = console.0.operator.snapshots.current();
    let sum = console.0.sums.now(&console.0.operator).await;
    let shifts = running::list(console, visitor).await;
    let look = Look::new(&snapshot, console.0.recorder.now(), &sum);
    let regions = look.regions();
    let chosen = region.or_else(|| view::worst(&regions).map(|worst| worst.code));
    let alarms = alarms::of(console, visitor.lang, &snapshot, &sum);
    vec![
        ("status", status(console, visitor, &alarms)),
        ("shifts", running::drawn(visitor, shifts.as_deref(), Controls::Shown)),
        ("regions", grid(visitor, &regions, chosen)),
        ("region", chosen.map_or_else(|| html! {}, |code| chosen_region(console, visitor, &look, code))),
        ("news", news(visitor, &alarms, &regions)),
    ]
}

/// What this gateway knows and from where; alarms first.
fn status(console: &Console, visitor: &Visitor, alarms: &[Alarm]) -> Markup {
    let (lang, operator) = (visitor.lang, &console.0.operator);
    let snapshot = operator.snapshots.current();
    let followed = operator.followed.as_ref();
    let age = followed.and_then(|followed| followed.freshness().age());
    html! {
        (alarms::drawn(alarms))
        dl.facts {
            div { dt { (lang.t("所见网关", "As seen by")) } dd { (operator.gateway) } }
            div { dt { (lang.t("在线网关", "Gateways")) } dd { (followed.map_or(1, follow::Status::gateways)) } }
            div { dt { (lang.t("计划", "Plan")) } dd { (snapshot.generation) } }
            div {
                dt { (lang.t("注册中心", "Registry")) }
                dd { @match age {
                    // Finer than this it would change all the time and say nothing.
                    Some(age) if age.as_secs() < 30 => { (lang.t("已同步", "in step")) },
                    Some(age) => { (text::duration(lang, age)) (lang.t("前", " old")) },
                    None if followed.is_none() => { (lang.t("无", "none")) },
                    None => { (lang.t("还没有读到", "not read yet")) },
                } }
            }
        }
    }
}

fn health_badge(lang: super::lang::Lang, health: Health) -> Markup {
    let (kind, mark) = match health {
        Health::Ok => ("ok", "●"),
        Health::Moved => ("moved", "⇄"),
        Health::Degraded => ("degraded", "▲"),
        Health::Down => ("down", "✕"),
    };
    page::badge(kind, mark, health.word(lang))
}

fn grid(visitor: &Visitor, regions: &[Region], chosen: Option<u32>) -> Markup {
    let lang = visitor.lang;
    let count = |health| regions.iter().filter(|region| region.health == health).count();
    html! {
        @if regions.is_empty() {
            p.empty { (lang.t("还没有系统加入联邦。", "Nobody has joined the federation yet.")) }
        } @else {
            p.summary {
                @for health in [Health::Down, Health::Degraded, Health::Moved, Health::Ok] {
                    @let n = count(health);
                    @if n > 0 { span.count { (health_badge(lang, health)) " " strong { (n) } } " " }
                }
            }
            @let many = regions.len() > FEW;
            @let tiles = |fine: bool| html! {
                ul.grid { @for region in regions.iter().filter(|region| (many && region.health == Health::Ok) == fine) {
                    (tile(visitor, region, chosen == Some(region.code)))
                } }
            };
            @if !many || count(Health::Ok) < regions.len() { (tiles(false)) }
            @if many {
                details #fine { summary { (lang.t("正常的区划", "Regions that are fine")) " " (count(Health::Ok)) } (tiles(true)) }
            }
        }
    }
}

fn tile(visitor: &Visitor, region: &Region, chosen: bool) -> Markup {
    let lang = visitor.lang;
    html! {
        li {
            a id={ "r" (region.code) } class={ "tile " (region.health.class()) } href={ "/console?region=" (region.code) "#region" }
                aria-current=[chosen.then_some("true")] {
                span.place { (region.name(lang)) }
                span.code { (region.code) }
                (health_badge(lang, region.health))
                span.numbers {
                    (text::rate(region.rps)) " " (lang.t("次/秒", "calls/s"))
                    @if region.failing() > 0.0 { " · " span.bad { (lang.t("失败 ", "failed ")) (text::percent(region.failing())) } }
                }
            }
        }
    }
}

fn chosen_region(console: &Console, visitor: &Visitor, look: &Look<'_>, code: u32) -> Markup {
    let lang = visitor.lang;
    let Some(region) = look.region(code) else {
        let name = region::find(code).map_or("", |division| lang.t(division.name_zh, division.name_en));
        return html! {
            h2 { (name) " " span.code { (code) } }
            p.empty { (lang.t("联邦中没有系统服务这个区划。", "Nobody serves this region in the federation.")) }
        };
    };
    let nodes = look.nodes(code, visitor.lang);
    let unanswered = console.0.recorder.points(code, "");
    let refused = unanswered.last().copied().unwrap_or_default();
    html! {
        div.heading {
            h2 { (region.name(lang)) " " span.code { (code) } }
            (health_badge(lang, region.health))
            span.numbers { (text::rate(region.rps)) " " (lang.t("次/秒", "calls/s")) }
            a.act href={ "/console/shift?region=" (code) "#order" } { (lang.t("调走它的请求", "Move its calls")) }
            a.act href={ "/console/history?region=" (code) "&class=scan#explain" } { (lang.t("为什么这样走", "Why it goes so")) }
        }
        @if let Some(why) = region.why(lang) { p.why { (why) } }
        @if refused.rps > 0.05 {
            p.why { (lang.t("没有到达任何节点的请求：", "Calls that reached no node: ")) (text::rate(f64::from(refused.rps))) " " (lang.t("次/秒", "calls/s")) }
        }
        ul.nodes { @for node in &nodes { li { (node::card(lang, node, &console.0.recorder.points(code, &node.name))) } } }
        p.note { (lang.t(
            "次数、失败和 p99 是这个网关最近十秒所见，曲线是最近十分钟；占用按所有网关的请求合计。",
            "Calls, failures and p99 are those of this gateway over ten seconds, curves those of ten minutes; use counts the calls of all gateways.",
        )) }
    }
}

/// What a screen reader says when states change, alarms first: never numbers, they change all the time.
fn news(visitor: &Visitor, alarms: &[Alarm], regions: &[Region]) -> Markup {
    let lang = visitor.lang;
    let of = |health: Health| {
        let names: Vec<&str> = regions
            .iter()
            .filter(|region| region.health == health)
            .take(5)
            .map(|region| region.name(lang))
            .collect();
        (!names.is_empty()).then(|| format!("{}: {}", health.word(lang), names.join(", ")))
    };
    let states = [Health::Down, Health::Degraded, Health::Moved].into_iter().filter_map(of);
    let parts: Vec<String> = alarms.iter().take(5).map(|alarm| alarm.text.clone()).chain(states).collect();
    html! { @if parts.is_empty() { (lang.t("所有区划正常", "All regions are fine")) } @else { (parts.join("; ")) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::actor::Role,
        console::{lang::Lang, visitor::tests::visitor},
    };

    #[test]
    fn of_many_regions_those_in_trouble_stand_alone() {
        let codes = [440_100, 440_200, 440_300, 610_100];
        let bad = Region::shown(610_100, Health::Down);
        let few: Vec<Region> = codes[..3].iter().map(|code| Region::shown(*code, Health::Ok)).collect();
        let wang = visitor(Role::Viewer, Lang::En);
        let page = grid(&wang, &[std::slice::from_ref(&bad), &few[..]].concat(), None).into_string();
        assert!(!page.contains("<details") && page.matches("class=\"tile").count() == 4, "{page}");
        let many: Vec<Region> = std::iter::once(bad).chain(few.into_iter().cycle().take(FEW)).collect();
        let page = grid(&wang, &many, Some(610_100)).into_string();
        let (before, folded) = page.split_once("<details").unwrap();
        assert!(before.contains("id=\"r610100\"") && before.matches("class=\"tile").count() == 1, "{page}");
        assert_eq!(folded.matches("class=\"tile ok").count(), FEW);
        assert!(folded.contains("Regions that are fine 24"), "{folded}");
    }
}
