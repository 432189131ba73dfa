//! What do all pages have in common?
//!
//! Frame, navigation, the box that says what was refused. Pages work without the script: it only keeps them
//! up to date and shows previews while a form changes.

use super::{
    fault::Fault,
    lang::Lang,
    visitor::{CSRF, Visitor},
};
use axum::{body::Body, response::Response};
use http::{HeaderValue, StatusCode, header};
use maud::{DOCTYPE, Markup, html};

/// Which page is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    /// Regions and nodes.
    Federation,
    /// Move calls.
    Shift,
    /// Audit and explain.
    History,
}

impl Page {
    const ALL: [Self; 3] = [Self::Federation, Self::Shift, Self::History];

    /// Where it is.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Federation => "/console",
            Self::Shift => "/console/shift",
            Self::History => "/console/history",
        }
    }

    /// Its name.
    pub(super) const fn title(self, lang: Lang) -> &'static str {
        match self {
            Self::Federation => lang.t("联邦", "Federation"),
            Self::Shift => lang.t("调流", "Shift"),
            Self::History => lang.t("记录", "History"),
        }
    }
}

/// A page that is sent.
pub(super) fn html(status: StatusCode, markup: Markup) -> Response {
    let mut response = Response::new(Body::from(markup.into_string()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Look there instead.
pub(super) fn go(to: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let to = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/console"));
    response.headers_mut().insert(header::LOCATION, to);
    response
}

/// A page of somebody who is inside. `stream`: where its news come from, if it has any.
pub(super) fn framed(
    visitor: &Visitor,
    page: Page,
    here: &str,
    stream: Option<&str>,
    main: &Markup,
) -> Markup {
    let lang = visitor.lang;
    let actor = &visitor.session.actor;
    let nav = html! {
        nav aria-label=(lang.t("主菜单", "Main")) {
            ul { @for entry in Page::ALL {
                li { a href=(entry.path()) aria-current=[(entry == page).then_some("page")] { (entry.title(lang)) } }
            } }
        }
        div.who {
            @if stream.is_some() {
                button #pause type="button" hidden data-on=(lang.t("暂停更新", "Pause updates"))
                    data-off=(lang.t("继续更新", "Resume updates")) { (lang.t("暂停更新", "Pause updates")) }
            }
            (switch(lang, here))
            span.name { (actor.name) " · " (role(lang, actor.role)) }
            form method="post" action="/console/sign-out" {
                (secret(visitor))
                button type="submit" { (lang.t("退出", "Sign out")) }
            }
        }
    };
    document(lang, page.title(lang), &nav, main, stream)
}

/// The field that proves that a form is of this session.
pub(super) fn secret(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name=(CSRF) value=(visitor.session.csrf); }
}

/// The link to the same page in the other language.
fn switch(lang: Lang, here: &str) -> Markup {
    let other = lang.other();
    let joint = if here.contains('?') { "&" } else { "?" };
    html! {
        a.lang href={ (here) (joint) "lang=" (other.word()) } lang=(other.tag()) hreflang=(other.tag()) {
            (other.t("中文", "English"))
        }
    }
}

/// A role in words.
pub(super) const fn role(lang: Lang, role: crate::audit::actor::Role) -> &'static str {
    use crate::audit::actor::Role;
    match role {
        Role::Viewer => lang.t("查看员", "viewer"),
        Role::Operator => lang.t("操作员", "operator"),
        Role::Approver => lang.t("审批员", "approver"),
    }
}

fn document(lang: Lang, title: &str, nav: &Markup, main: &Markup, stream: Option<&str>) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(lang.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · " (lang.t("穗粤控制台", "suiyue console")) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/console/assets/console.css";
                script src="/console/assets/console.js" defer {}
            }
            body data-events=[stream] {
                a.skip href="#main" { (lang.t("跳到正文", "Skip to content")) }
                header {
                    a.brand href="/console" { span lang="zh-CN" { "穗粤" } " suiyue" }
                    (nav)
                }
                p #ended.lost role="alert" hidden {
                    (lang.t("登录已结束，页面不再更新。", "The session has ended, and this page is not of now any more. "))
                    a href="/console/sign-in?ended" { (lang.t("重新登录", "Sign in again")) }
                }
                @if stream.is_some() {
                    p #lost.lost role="status" data-text=(lang.t(
                        "与网关的连接断开，页面上的数字已不再更新；正在重连……",
                        "The connection to the gateway is lost: the numbers below are no longer of now. Reconnecting…",
                    )) data-full=(lang.t(
                        "打开的页面太多，这一页不再自动更新：请关闭别的页面；稍后自动重试……",
                        "Too many pages are open and this one is not kept up to date: close others. It tries again…",
                    )) {}
                    p #news.unseen role="status" {}
                }
                main #main tabindex="-1" { (main) }
            }
        }
    }
}

/// The box that says what was refused.
pub(super) fn alert(lang: Lang, fault: &Fault) -> Markup {
    html! {
        div.alert role="alert" data-reason=(fault.reason) {
            p { span.mark aria-hidden="true" { "✕" } " " (fault.text(lang)) }
            p.why {
                code { (fault.reason) }
                @for (name, value) in &fault.details { " " span { (name) " = " (value) } }
            }
        }
    }
}

/// A page that only says what was refused.
pub(super) fn refusal(lang: Lang, fault: &Fault) -> Response {
    let main = html! {
        h1 { (lang.t("不能这样做", "That cannot be done")) }
        (alert(lang, fault))
        p { a href="/console" { (lang.t("回到联邦页面", "Back to the federation")) } }
    };
    html(fault.status, document(lang, lang.t("被拒绝", "Refused"), &html! {}, &main, None))
}

/// The door. `note`: why somebody stands in front of it again.
pub(super) fn sign_in(lang: Lang, address: &str, status: StatusCode, note: Option<&Fault>) -> Response {
    let command = "suiyue console token";
    let main = html! {
        div.door {
            h1 { (lang.t("登录控制台", "Sign in to the console")) }
            @if let Some(fault) = note { (alert(lang, fault)) }
            form #sign-in method="post" action="/console/sign-in" {
                label for="token" { (lang.t("一次性令牌", "One-time token")) }
                input #token name="token" type="password" required autocomplete="off" spellcheck="false"
                    aria-describedby="token-help";
                p #token-help.help {
                    (lang.t("在网关所在的机器上取得令牌，几分钟内有效，只能用一次：", "Get one on the gateway's machine; it is good once, for minutes:"))
                    " " code { (command) }
                }
                button.primary type="submit" { (lang.t("登录", "Sign in")) }
            }
            p.help { (lang.t("控制台地址：", "This console: ")) (address) }
        }
    };
    let nav = html! { div.who { (switch(lang, "/console/sign-in")) } };
    html(status, document(lang, lang.t("登录", "Sign in"), &nav, &main, None))
}

/// A shape and a word: a state is never told by colour alone.
pub(super) fn badge(kind: &str, mark: &str, word: &str) -> Markup {
    html! { span class={ "badge " (kind) } { span aria-hidden="true" { (mark) } " " (word) } }
}

/// A bar of a fraction, for the eye; the number stands beside it.
pub(super) fn bar(fraction: f64, kind: &str) -> Markup {
    let width = (fraction.clamp(0.0, 1.0) * 100.0).round();
    html! {
        svg class={ "bar " (kind) } viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
            rect.whole width="100" height="6" {}
            rect.part width=(width) height="6" {}
        }
    }
}
