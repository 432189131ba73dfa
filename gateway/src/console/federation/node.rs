//! How is one node, for one region?

use super::view::{Node, Rotation};
use crate::console::{chart, lang::Lang, page, recorder::Point, text};
use maud::{Markup, html};

/// A utilization from which a node is close to what it declared.
const NEAR: f64 = 0.80;

/// A node with its numbers and its curve.
pub(super) fn card(lang: Lang, node: &Node, points: &[Point]) -> Markup {
    let now = points.last().copied().unwrap_or_default();
    let failing = if now.rps > 0.0 { f64::from(now.failed / now.rps) } else { 0.0 };
    let p99 = if now.rps > 0.0 { f64::from(now.p99_ms) } else { f64::NAN };
    html! {
        article.node id={ "n-" (node.name) } aria-label=(node.name) {
            header {
                h3 { (node.name) }
                span.tier { (tier(lang, node.tier)) }
                (rotation(lang, node))
            }
            p.reason { (node.reason) }
            dl {
                div.wide {
                    dt { (lang.t("份额", "Share")) }
                    dd { strong { (text::percent(node.share)) } (page::bar(node.share, "share")) }
                }
                div.wide {
                    dt { (lang.t("占用", "Use")) }
                    @match node.utilization {
                        Some(used) => { dd class=[(used > NEAR).then_some("bad")] {
                            strong { (text::percent(used)) }
                            (page::bar(used, if used > NEAR { "hot" } else { "use" }))
                        } },
                        None => { dd { (lang.t("未申报容量", "no declared capacity")) } },
                    }
                }
                div { dt { (lang.t("次/秒", "Calls/s")) } dd { (text::rate(f64::from(now.rps))) } }
                div { dt { "p99" } dd { (text::millis(p99)) } }
                div { dt { (lang.t("失败", "Failed")) } dd class=[(failing > 0.0).then_some("bad")] { (text::percent(failing)) } }
            }
            (chart::calls(lang, points))
        }
    }
}

/// Which tier, in words.
pub(in crate::console) const fn tier(lang: Lang, tier: u8) -> &'static str {
    match tier {
        0 => lang.t("本级", "own"),
        1 => lang.t("省级", "province"),
        _ => lang.t("互助", "peer"),
    }
}

fn rotation(lang: Lang, node: &Node) -> Markup {
    let (kind, mark, word) = match node.rotation {
        Rotation::All => ("ok", "●", lang.t("健康", "healthy")),
        Rotation::Some => ("degraded", "▲", lang.t("部分失效", "partly out")),
        Rotation::None => ("down", "✕", lang.t("失效", "out")),
        Rotation::Unknown => ("moved", "○", lang.t("未检查", "not checked")),
    };
    html! { (page::badge(kind, mark, word)) span.endpoints { (node.serving) "/" (node.endpoints) } }
}
