//! What is shown of a snapshot?
//!
//! | state of a region | when |
//! |---|---|
//! | down | calls of a class that people stand in line for go to nobody, or no node has an endpoint in rotation, or most of them fail |
//! | degraded | a node of its own or one that gets calls is out, or later tiers stand in, or more than 1 % fail |
//! | moved | an operator's shift or drain sends its calls elsewhere |
//! | ok | everything else |

use crate::{
    console::{lang::Lang, recorder::Point, sums::Sum},
    health::State,
    plan::{Candidate, Reason, Route},
    snapshot::Snapshot,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use suiyue_proto::{
    method::Class,
    region::{self, Code},
};

/// A part of failed calls that makes a region degraded.
const FAILING: f64 = 0.01;
/// One from which nobody can rely on it any more.
const FAILED: f64 = 0.5;

/// What there is to see.
pub(in crate::console) struct Look<'a> {
    snapshot: &'a Snapshot,
    /// Numbers of now, by region and node.
    now: BTreeMap<(u32, Arc<str>), Point>,
    /// Calls of all gateways.
    sum: &'a Sum,
    /// Endpoints in rotation and all endpoints, by node: counted once, whatever the number of regions.
    endpoints: HashMap<&'a str, (usize, usize)>,
}

/// How a region is; worse is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::console) enum Health {
    /// Its own systems answer.
    Ok,
    /// An operator moves its calls.
    Moved,
    /// Others stand in, or calls fail.
    Degraded,
    /// Nobody answers.
    Down,
}

impl Health {
    pub(super) const fn word(self, lang: Lang) -> &'static str {
        match self {
            Self::Ok => lang.t("正常", "fine"),
            Self::Moved => lang.t("已调流", "moved"),
            Self::Degraded => lang.t("降级", "degraded"),
            Self::Down => lang.t("中断", "down"),
        }
    }

    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Moved => "moved",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// One region.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::console) struct Region {
    pub(in crate::console) code: u32,
    pub(super) health: Health,
    /// Calls a second at this gateway.
    pub(super) rps: f64,
    /// Of them those that nobody answered.
    pub(super) failed: f64,
    /// A node that is the cause, and why.
    because: Option<(Arc<str>, Reason)>,
}

impl Region {
    pub(in crate::console) fn name(&self, lang: Lang) -> &'static str {
        region::find(self.code).map_or("", |division| lang.t(division.name_zh, division.name_en))
    }

    /// The fraction of its calls that failed.
    pub(super) fn failing(&self) -> f64 {
        if self.rps > 0.0 { self.failed / self.rps } else { 0.0 }
    }

    /// One sentence about what is wrong.
    pub(super) fn why(&self, lang: Lang) -> Option<String> {
        if self.health == Health::Ok {
            return None;
        }
        let Some((node, reason)) = &self.because else {
            return Some(lang.t("请求有失败。", "Calls fail.").to_owned());
        };
        let reason = said(lang, *reason);
        Some(match lang {
            Lang::Zh => format!("{node}：{reason}。"),
            Lang::En => format!("{node}: {reason}."),
        })
    }
}

/// The region that should be looked at first.
pub(in crate::console) fn worst(regions: &[Region]) -> Option<&Region> {
    regions.iter().max_by(|a, b| {
        let key = |region: &Region| (region.health, region.failed, region.rps);
        key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal)
    })
}

/// How many of a node's endpoints are in rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rotation {
    All,
    Some,
    None,
    Unknown,
}

/// One node that may answer for a region.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) name: Arc<str>,
    pub(super) tier: u8,
    /// Fraction of the region's calls that it is planned to get.
    pub(super) share: f64,
    /// Why, in words.
    pub(super) reason: String,
    /// Calls a second that it gets from all gateways, from all regions, to what it declared; `None`: it
    /// declared nothing.
    pub(super) utilization: Option<f64>,
    pub(super) rotation: Rotation,
    pub(super) serving: usize,
    pub(super) endpoints: usize,
}

impl<'a> Look<'a> {
    /// What a snapshot shows beside these numbers of now and the sum of all gateways.
    pub(in crate::console) fn new(
        snapshot: &'a Snapshot,
        now: BTreeMap<(u32, Arc<str>), Point>,
        sum: &'a Sum,
    ) -> Self {
        let mut endpoints = HashMap::new();
        for vitals in &snapshot.vitals {
            let (serving, all) = endpoints.entry(&*vitals.node).or_insert((0, 0));
            *serving += usize::from(vitals.state() == State::Ok);
            *all += 1;
        }
        Self { snapshot, now, sum, endpoints }
    }

    /// Every region that somebody serves: the worst first, then by code.
    pub(in crate::console) fn regions(&self) -> Vec<Region> {
        let regions = self.snapshot.plans.regions.iter();
        let mut regions: Vec<_> = regions.map(|(code, routes)| self.summed(*code, routes)).collect();
        regions.sort_by_key(|region| (std::cmp::Reverse(region.health), region.code));
        regions
    }

    /// One region; `None`: nobody serves it.
    pub(super) fn region(&self, code: u32) -> Option<Region> {
        let code = Code::new(code)?;
        self.snapshot.plans.regions.get(&code).map(|routes| self.summed(code, routes))
    }

    fn summed(&self, code: Code, routes: &[Route; 4]) -> Region {
        let number = code.get();
        let own = self.now.range((number, Arc::from(""))..).take_while(|((region, _), _)| *region == number);
        let (rps, failed) = own.fold((0.0, 0.0), |(rps, failed), (_, point)| {
            (rps + f64::from(point.rps), failed + f64::from(point.failed))
        });
        let (mut health, because) = judged(routes, |node| self.rotation(node).0);
        if rps > 0.0 && failed / rps > FAILING {
            let failing = if failed / rps > FAILED { Health::Down } else { Health::Degraded };
            health = health.max(failing);
        }
        Region { code: number, health, rps, failed, because }
    }

    /// The nodes of a region in the order they are tried.
    pub(super) fn nodes(&self, code: u32, lang: Lang) -> Vec<Node> {
        let Some(routes) = Code::new(code).and_then(|code| self.snapshot.plans.regions.get(&code)) else {
            return Vec::new();
        };
        routes[0].candidates.iter().map(|candidate| self.node(code, candidate, routes, lang)).collect()
    }

    fn node(&self, code: u32, candidate: &Candidate, routes: &[Route; 4], lang: Lang) -> Node {
        let name = &candidate.node;
        let (rotation, serving, endpoints) = self.rotation(name);
        Node {
            name: name.clone(),
            tier: candidate.tier,
            share: self.share(code, name, routes),
            reason: said(lang, candidate.reason).to_owned(),
            utilization: candidate
                .declared
                .filter(|declared| *declared > 0.0)
                .map(|declared| self.sum.rates.get(name).copied().unwrap_or(0.0) / declared),
            rotation,
            serving,
            endpoints,
        }
    }

    /// How many of a node's endpoints are in rotation, and of how many.
    fn rotation(&self, name: &str) -> (Rotation, usize, usize) {
        let (serving, all) = self.endpoints.get(name).copied().unwrap_or_default();
        let rotation = match (serving, all) {
            (_, 0) => Rotation::Unknown,
            (0, _) => Rotation::None,
            (some, all) if some < all => Rotation::Some,
            _ => Rotation::All,
        };
        (rotation, serving, all)
    }

    /// The planned share over all classes, as they are called now; of scans while nobody calls.
    fn share(&self, code: u32, node: &Arc<str>, routes: &[Route; 4]) -> f64 {
        let of = |route: &Route| route.candidates.iter().find(|c| c.node == *node).map_or(0.0, |c| c.share);
        let demand =
            Code::new(code).and_then(|code| self.snapshot.inputs.as_ref()?.signals.demand.get(&code));
        let total: f64 = demand.map_or(0.0, |demand| demand.iter().sum());
        match demand {
            Some(demand) if total > 0.0 => {
                routes.iter().zip(demand).map(|(route, rps)| of(route) * rps).sum::<f64>() / total
            }
            _ => of(&routes[0]),
        }
    }
}

/// How a region is by its plan and by who is in rotation, and the node that is the cause. The plan may be
/// behind: for a moment it sends calls to a node that has just gone, or goes on where nobody else is.
fn judged(routes: &[Route; 4], rotation: impl Fn(&str) -> Rotation) -> (Health, Option<(Arc<str>, Reason)>) {
    let mut worst = (Health::Ok, None);
    let mut worse = |health, because: Option<(Arc<str>, Reason)>| {
        if health > worst.0 {
            worst = (health, because);
        }
    };
    let why = |candidate: &Candidate| Some((candidate.node.clone(), candidate.reason));
    let gone = |candidate: &Candidate| Some((candidate.node.clone(), Reason::Unhealthy));
    let is_out = |candidate: &&Candidate| rotation(&candidate.node) == Rotation::None;
    for class in [Class::Scan, Class::Show] {
        let candidates = &routes[class.index()].candidates;
        let first = candidates.iter().map(|c| c.tier).min().unwrap_or(0);
        let answers = |c: &&Candidate| c.share > 0.0 && c.reason != Reason::FailOpen;
        if !candidates.iter().any(|c| answers(&c)) {
            worse(Health::Down, candidates.first().and_then(why));
        }
        if candidates.iter().all(|c| is_out(&c)) {
            worse(Health::Down, candidates.first().and_then(gone));
        }
        if let Some(out) = candidates.iter().filter(answers).find(is_out) {
            worse(Health::Degraded, gone(out));
        }
        for candidate in candidates {
            match candidate.reason {
                Reason::Unhealthy if candidate.tier == first => worse(Health::Degraded, why(candidate)),
                Reason::Failover | Reason::Overflow if candidate.share > 0.0 => {
                    worse(Health::Degraded, why(candidate));
                }
                Reason::Shift if candidate.share > 0.0 => worse(Health::Moved, why(candidate)),
                Reason::Drained | Reason::Suspended if candidate.tier == first => {
                    worse(Health::Moved, why(candidate));
                }
                _ => {}
            }
        }
    }
    worst
}

/// A reason in words.
pub(in crate::console) const fn said(lang: Lang, reason: Reason) -> &'static str {
    match reason {
        Reason::Primary => lang.t("首选", "first in line"),
        Reason::Policy => lang.t("按策略分得份额", "the region's policy gives it a weight"),
        Reason::Shift => lang.t("操作员把流量调到这里", "a shift moves calls here"),
        Reason::Overflow => lang.t("接收别处超出上限的请求", "takes what is over another's cap"),
        Reason::Failover => lang.t("替代失效的系统", "stands in for one that is out"),
        Reason::FailOpen => lang.t("无健康系统，仍然尝试", "nobody is healthy; tried all the same"),
        Reason::Drained => lang.t("已被操作员排空", "drained by an operator"),
        Reason::Suspended => lang.t("所处阶段不接请求", "its stage takes no calls"),
        Reason::NotNamed => lang.t("策略未指定此类请求", "the policy does not name it for these calls"),
        Reason::NotReady => lang.t("尚未载入本区划的数据", "has not loaded this region's holders"),
        Reason::Unhealthy => lang.t("没有可用的端点", "no endpoint in rotation"),
        Reason::Stale => lang.t("数据太旧", "its data are too old"),
        Reason::Standby => lang.t("备用", "on standby"),
    }
}

#[cfg(test)]
mod tests;
