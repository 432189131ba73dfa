//! What did the gateway think of its nodes meanwhile?
//!
//! A [`Watch`] asks the operator API every few milliseconds and keeps what changed: each endpoint's
//! health, and each candidate's share of a region's calls. A test awaits changes, and asks afterwards
//! what was ever thought of a node.

use crate::{eventually::eventually, gateway::Gateway};
use anyhow::Context as _;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use suiyue_proto::v1::{
    Class, ExplainRouteRequest, Health, ListNodesRequest, operator_service_client::OperatorServiceClient,
};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// How often the gateway is asked.
const INTERVAL: Duration = Duration::from_millis(20);

/// What the gateway thinks of one node at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Opinion {
    /// Its share of the watched region's calls, 0 to 1.
    pub share: f64,
    /// It is excluded from the region.
    pub excluded: bool,
    /// Health of its endpoints, by name, with the reason.
    pub endpoints: BTreeMap<String, (Health, String)>,
}

impl Opinion {
    /// No endpoint is ejected.
    #[must_use]
    pub fn nobody_ejected(&self) -> bool {
        self.endpoints.values().all(|(health, _)| *health != Health::Ejected)
    }
}

/// Opinions of all nodes, followed until dropped.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// By node, every change of opinion with its moment.
type Seen = BTreeMap<String, Vec<(Instant, Opinion)>>;

impl Watch {
    /// Follows what `gateway` thinks of all nodes, and of their shares of the `scan` calls of `region`.
    ///
    /// # Errors
    /// When its control port does not answer.
    pub async fn start(gateway: &Gateway, region: u32) -> anyhow::Result<Self> {
        let operator = gateway.operator().await?;
        let seen = Arc::<Mutex<Seen>>::default();
        let task = tokio::spawn(follow(operator, region, seen.clone()));
        Ok(Self { seen, task })
    }

    /// Waits until the opinion of `node` is as `wanted`; returns when that was first seen at or after
    /// `since`, as a time after it.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn until(
        &self,
        node: &str,
        what: &str,
        since: Instant,
        wanted: impl Fn(&Opinion) -> bool,
    ) -> anyhow::Result<Duration> {
        eventually(&format!("{node} {what}"), async || {
            let all = self.of(node);
            let held = all.iter().rfind(|(at, _)| *at <= since).into_iter();
            let found = held.chain(all.iter().filter(|(at, _)| *at > since)).find(|(_, o)| wanted(o));
            let (at, _) = found.with_context(|| format!("{:?}", all.last()))?;
            Ok(at.saturating_duration_since(since))
        })
        .await
    }

    /// Every opinion of a node so far, with its moment.
    #[must_use]
    pub fn of(&self, node: &str) -> Vec<(Instant, Opinion)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(node).cloned().unwrap_or_default()
    }

    /// Opinions that break a rule, by node and endpoint, for a message.
    #[must_use]
    pub fn offences(&self, node: &str, allowed: impl Fn(&Opinion) -> bool) -> Vec<Opinion> {
        self.of(node).into_iter().map(|(_, opinion)| opinion).filter(|o| !allowed(o)).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(mut operator: OperatorServiceClient<Channel>, region: u32, seen: Arc<Mutex<Seen>>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        // A gateway that is being restarted is asked again.
        let Ok(opinions) = ask(&mut operator, region).await else { continue };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (node, opinion) in opinions {
            let known = seen.entry(node).or_default();
            if known.last().is_none_or(|(_, last)| *last != opinion) {
                known.push((Instant::now(), opinion));
            }
        }
    }
}

async fn ask(
    operator: &mut OperatorServiceClient<Channel>,
    region: u32,
) -> Result<BTreeMap<String, Opinion>, tonic::Status> {
    let mut opinions: BTreeMap<String, Opinion> = BTreeMap::new();
    for node in operator.list_nodes(ListNodesRequest { region: 0 }).await?.into_inner().nodes {
        let endpoints =
            node.endpoints.into_iter().map(|e| (e.endpoint.clone(), (e.health(), e.health_reason))).collect();
        opinions.insert(node.node, Opinion { endpoints, ..Opinion::default() });
    }
    let request = ExplainRouteRequest { region, class: Class::Scan.into(), ..Default::default() };
    for candidate in operator.explain_route(request).await?.into_inner().candidates {
        let opinion = opinions.entry(candidate.node).or_default();
        (opinion.share, opinion.excluded) = (candidate.share, candidate.excluded);
    }
    Ok(opinions)
}
