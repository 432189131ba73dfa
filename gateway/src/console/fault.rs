//! What is said when something is refused?
//!
//! One sentence in each language, the word for programs, and the field that is meant. Refusals of the
//! operator API keep their reasons; the console adds the few that only it has.

use super::lang::Lang;
use http::StatusCode;
use std::collections::BTreeMap;
use suiyue_proto::reason::Reason;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Why the console itself refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The connection is neither encrypted nor from this machine.
    InTheClear,
    /// The request was made on somebody else's page, or the form is not of this session.
    Foreign,
    /// The token opens nothing.
    Token,
    /// A token is not enough for this.
    Certificate,
    /// Nobody is signed in.
    SignedOut,
    /// Too many sessions.
    Full,
    /// Too many pages that are kept up to date.
    Streams,
    /// No answer in time.
    Slow,
    /// The form cannot be read.
    Form,
    /// There is no such page.
    Lost,
}

impl Why {
    const fn says(self) -> (StatusCode, &'static str, &'static str, &'static str) {
        match self {
            Self::InTheClear => (
                StatusCode::FORBIDDEN,
                "CONSOLE_LOCAL_ONLY",
                "没有加密的连接只能从本机打开控制台：请在网关所在的机器上打开，或用 ssh -L 转发端口",
                "without encryption the console opens on this machine only: open it there, or forward the port with ssh -L",
            ),
            Self::Foreign => (
                StatusCode::FORBIDDEN,
                "CONSOLE_FOREIGN_FORM",
                "这个请求不是从本次登录的页面发出的：请重新打开页面再试",
                "the request does not come from a page of this session: open the page again and retry",
            ),
            Self::Token => (
                StatusCode::FORBIDDEN,
                "CONSOLE_TOKEN_INVALID",
                "令牌不对、已经用过或已过期：请用 suiyue console token 再要一个",
                "the token is wrong, used or expired: get another one with suiyue console token",
            ),
            Self::Certificate => (
                StatusCode::FORBIDDEN,
                "CONSOLE_CERTIFICATE_NEEDED",
                "用令牌登录的人不能参与需要两个人的改动：请在浏览器中用证书登录，或用 suiyue shift 命令",
                "a change that two persons answer for needs your certificate: sign in with it, or use suiyue shift",
            ),
            Self::SignedOut => (
                StatusCode::UNAUTHORIZED,
                "CONSOLE_SIGNED_OUT",
                "登录已结束：请重新登录",
                "the session has ended: sign in again",
            ),
            Self::Full => (
                StatusCode::SERVICE_UNAVAILABLE,
                "CONSOLE_FULL",
                "控制台人数已满：请稍后再试",
                "the console is full: come back later",
            ),
            Self::Streams => (
                StatusCode::TOO_MANY_REQUESTS,
                "CONSOLE_TOO_MANY_PAGES",
                "打开的页面太多，这一页不会自动更新：请关闭别的页面",
                "too many pages are open and this one is not kept up to date: close others",
            ),
            Self::Slow => (
                StatusCode::GATEWAY_TIMEOUT,
                "CONSOLE_SLOW",
                "没有及时得到答复：请先查看状态再重试",
                "no answer came in time: look at the state before you try again",
            ),
            Self::Form => {
                (StatusCode::BAD_REQUEST, "CONSOLE_FORM_INVALID", "表单无法读取", "the form cannot be read")
            }
            Self::Lost => (StatusCode::NOT_FOUND, "CONSOLE_NO_PAGE", "没有这个页面", "there is no such page"),
        }
    }
}

/// Something was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// HTTP status.
    pub(super) status: StatusCode,
    /// The word for programs.
    pub(super) reason: String,
    /// Details by name: `field`, `expected`, …
    pub(super) details: BTreeMap<String, String>,
    zh: String,
    en: String,
}

impl Fault {
    /// Of the console itself.
    pub(super) fn of(why: Why) -> Self {
        let (status, reason, zh, en) = why.says();
        let (reason, zh, en) = (reason.to_owned(), zh.to_owned(), en.to_owned());
        Self { status, reason, details: BTreeMap::new(), zh, en }
    }

    /// A field that cannot be used.
    pub(super) fn field(field: &str, zh: &str, en: &str) -> Self {
        let mut fault = Self::of(Why::Form);
        (fault.zh, fault.en) = (zh.to_owned(), en.to_owned());
        fault.about(field)
    }

    /// The same, about a field.
    pub(super) fn about(mut self, field: &str) -> Self {
        self.details.insert("field".to_owned(), field.to_owned());
        self
    }

    /// The sentence.
    pub(super) fn text(&self, lang: Lang) -> &str {
        lang.t(&self.zh, &self.en)
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        let reason = Reason::of(&status);
        let details = status.get_details_error_info().map(|info| info.metadata.into_iter().collect());
        let en = reason.map_or_else(|| status.message().to_owned(), |reason| reason.text().to_owned());
        let zh = reason.and_then(zh).map_or_else(|| en.clone(), str::to_owned);
        Self {
            status: http(status.code()),
            reason: reason
                .map_or_else(|| format!("{:?}", status.code()), |reason| reason.as_str().to_owned()),
            details: details.unwrap_or_default(),
            zh,
            en,
        }
    }
}

const fn http(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What pages of the console can run into, in Chinese.
const fn zh(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::RegionUnknown => "GB/T 2260 没有这个区划代码",
        Reason::RegionRetired => "这个区划代码已停用：请用详情中的新代码",
        Reason::RegionNotJoined => "联邦中没有系统服务这个区划",
        Reason::RegionNotRouted => "这个区划的请求归详情中的区划处理：请用那一个",
        Reason::RegistryUnavailable => "注册中心无法访问：请换一个网关再试",
        Reason::RegistryUnread => "这个网关还没有读到注册中心",
        Reason::RegistryFrozen => "这个网关已冻结：请先解除冻结",
        Reason::RegistryNone => "这个网关没有注册中心：不能通过它改动",
        Reason::IdentityRequired => "这里需要操作员的证书",
        Reason::ActorInvalid => "操作人或理由不能用：见详情中的字段",
        Reason::ReasonRequired => "改动需要理由：它会写进审计",
        Reason::RoleInsufficient => "您的角色不能做这件事",
        Reason::AuditBroken => "审计的末端无法读取：有人检查之前不能改动",
        Reason::PlanNotKept => "这个计划已不再保存：网关只保存最近 64 个",
        Reason::WhatIfInvalid => "假设不成立：见详情中的字段",
        Reason::NodeUnknown => "没有这个名字的节点",
        Reason::FieldInvalid => "有一个字段的值不允许：见详情",
        Reason::WriteUnknown => "写入的结果未知：请先重新查看，再决定是否重试",
        Reason::ShiftInvalid => "这个调流不成立：见详情中的字段",
        Reason::ShiftRefused => "护栏拒绝了：见详情中的护栏和数字",
        Reason::ShiftNotFound => "没有这个编号的、正在进行的调流",
        Reason::PlanStale => "预览之后情况变了：见详情中的键，请重新预览",
        Reason::ApprovalNeeded => "需要另一个人先批准这个计划",
        Reason::ApprovalOwn => "批准人不能是应用的人：请另一个人批准",
        Reason::GatewaySilent => "详情中的网关没有应答，无法合计负载：可以在“不计哪些网关”中写上它",
        Reason::NobodyLeft => "这样就没有系统回答详情中的请求了",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_api_keeps_its_reason_and_speaks_both_languages() {
        let fault = Fault::from(Reason::RoleInsufficient.with(&[("role", "viewer"), ("needed", "operator")]));
        assert_eq!((fault.status, &*fault.reason), (StatusCode::FORBIDDEN, "ROLE_INSUFFICIENT"));
        assert_eq!(fault.text(Lang::En), Reason::RoleInsufficient.text());
        assert_eq!(fault.text(Lang::Zh), "您的角色不能做这件事");
        assert_eq!(fault.details["needed"], "operator");
    }

    #[test]
    fn what_has_no_reason_is_told_as_it_came() {
        let fault = Fault::from(Status::internal("broken"));
        assert_eq!((&*fault.reason, fault.text(Lang::Zh)), ("Internal", "broken"));
        assert_eq!(fault.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
