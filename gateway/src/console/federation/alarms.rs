//! What must be said before anything else?
//!
//! What is wrong with the gateway's knowledge, what acts past the registry, and which nodes have more to do
//! than they can. The same lines stand at the top of the page and begin what a screen reader says.

use crate::{
    console::{Console, lang::Lang, sums::Sum},
    registry::follow,
    snapshot::Snapshot,
};
use maud::{Markup, html};
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use suiyue_proto::{method::Class, priority::Cursor};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alarm {
    /// The word for programs.
    pub(super) word: &'static str,
    /// What is wrong.
    pub(super) text: String,
    /// More, as it was found; empty: nothing.
    pub(super) why: String,
}

/// Those of now.
pub(super) fn of(console: &Console, lang: Lang, snapshot: &Snapshot, sum: &Sum) -> Vec<Alarm> {
    let operator = &console.0.operator;
    let followed = operator.followed.as_ref().map(follow::Status::alarms).unwrap_or_default();
    let mut alarms: Vec<Alarm> = followed
        .iter()
        .map(|alarm| {
            let text = registry(lang, alarm);
            let why = if text == alarm.text { String::new() } else { alarm.text.clone() };
            Alarm { word: alarm.word, text, why }
        })
        .collect();
    alarms.extend(operator.glass.sentences().into_iter().map(|why| {
        let text = lang.t("紧急操作只在这个网关生效", "break-glass is in force at this gateway only");
        Alarm { word: "breakglass", text: text.to_owned(), why }
    }));
    alarms.extend(sum.silent.iter().map(|id| {
        let text = lang.t(
            "有网关没有应答，占用中缺它的请求",
            "a gateway does not answer, and its calls are missing in the use shown",
        );
        Alarm { word: "gateway_silent", text: text.to_owned(), why: id.to_string() }
    }));
    alarms.extend(overloaded(snapshot).into_iter().map(|(node, cursor)| full(lang, &node, cursor)));
    alarms.extend(snapshot.table.quarantined.iter().map(|key| {
        let text = lang.t("有一个键不能用，已隔离", "a key cannot be used and is quarantined");
        Alarm { word: "quarantined", text: text.to_owned(), why: format!("{}: {}", key.key, key.reason) }
    }));
    alarms
}

/// All of them, worst first.
pub(super) fn drawn(alarms: &[Alarm]) -> Markup {
    html! {
        @for alarm in alarms {
            div.alert.warn data-alarm=(alarm.word) {
                p { span.mark aria-hidden="true" { "!" } " " (alarm.text) }
                @if !alarm.why.is_empty() { p.why { (alarm.why) } }
            }
        }
    }
}

/// Nodes that send calls away, with what the fullest of their endpoints still takes.
fn overloaded(snapshot: &Snapshot) -> BTreeMap<Arc<str>, Cursor> {
    let mut full = BTreeMap::new();
    for vitals in &snapshot.vitals {
        if let Some(cursor) = vitals.word.takes_up_to(Instant::now()) {
            let least = full.entry(vitals.node.clone()).or_insert(cursor);
            *least = cursor.min(*least);
        }
    }
    full
}

fn full(lang: Lang, node: &str, cursor: Cursor) -> Alarm {
    let class = cursor.class();
    let below = if class == Class::Sync { "" } else { lang.t("及更低级别", " and lower ones") };
    let text = match lang {
        Lang::Zh => format!("{node} 超出能力：部分 {class} 请求{below}被拒绝，扫码优先"),
        Lang::En => {
            format!("{node} has more to do than it can: {class} calls{below} are refused, scans go first")
        }
    };
    Alarm { word: "overloaded", text, why: String::new() }
}

/// What an alarm of the registry's follower means.
fn registry(lang: Lang, alarm: &follow::Alarm) -> String {
    let zh = match alarm.word {
        "nothing_known" => "这个网关还不知道任何节点",
        "registry_away" => "注册中心没有应答；请求按最后的路由表继续转发",
        "registry_restored" => "注册中心被恢复到了旧状态或换成了别的：等待人工确认",
        "entries_held" => "有登记消失但没有告别，暂时保留",
        "frozen" => "这个网关已冻结，不再采用注册中心的变化",
        "copy_failed" => "注册中心的本地副本无法写入",
        "clock_offset" => "网关之间的时钟相差过大",
        "limits_differ" => "各网关配置的上限不同：以最严格的为准",
        _ => return alarm.text.clone(),
    };
    lang.t(zh, &alarm.text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_sends_calls_away_is_named_with_the_class() {
        let told = |lang, cursor: &str| full(lang, "suikang", cursor.parse().unwrap()).text;
        assert!(
            told(Lang::En, "show.3").contains("suikang has more to do than it can: show calls and lower")
        );
        assert!(told(Lang::En, "sync.3").contains("sync calls are refused"));
        assert!(told(Lang::Zh, "query.3").contains("query 请求及更低级别被拒绝"));
    }

    #[test]
    fn in_chinese_nothing_of_an_alarm_is_lost() {
        let alarm = |why: &str| Alarm { word: "frozen", text: "已冻结".to_owned(), why: why.to_owned() };
        let page = drawn(&[alarm("frozen by wang until registry accept")]).into_string();
        assert!(page.contains("data-alarm=\"frozen\"") && page.contains("until registry accept"), "{page}");
        assert!(!drawn(&[alarm("")]).into_string().contains("class=\"why\""));
    }
}
