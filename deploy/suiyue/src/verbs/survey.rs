//! What do all gateways of the list say, together?
//!
//! One gateway sees its own calls only, and one that has died says nothing: [`Line`] asks one of them again
//! and again and stays with it through its absences, [`Counts`] makes rates of what it told, and whoever
//! shows them adds the gateways up.

use super::operator::Operator;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use suiyue_gateway::telemetry::taken::Taken;
use suiyue_proto::v1::{ListNodesResponse, ListTrafficResponse, RegistryStatusResponse, ShiftInfo};
use tokio::time::Instant;

/// A gateway that takes longer is silent.
const WITHIN: Duration = Duration::from_secs(2);
/// Rates are means over so long at most.
pub const WINDOW: Duration = Duration::from_secs(5);

/// What a gateway said at an instant.
#[derive(Debug, Clone)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// Its nodes.
    pub nodes: ListNodesResponse,
    /// Its calls.
    pub traffic: ListTrafficResponse,
    /// How it follows the registry; `None`: there is none.
    pub registry: Option<RegistryStatusResponse>,
    /// Shifts that run.
    pub shifts: Vec<ShiftInfo>,
}

impl Heard {
    /// The name of the gateway.
    #[must_use]
    pub fn gateway(&self) -> &str {
        &self.traffic.gateway
    }
}

/// A connection to one gateway, made again when it is lost.
pub struct Line {
    address: String,
    operator: Option<Operator>,
}

impl Line {
    /// A line to this address; nothing is asked yet.
    #[must_use]
    pub const fn new(address: String) -> Self {
        Self { address, operator: None }
    }

    /// Asks for everything. Cancelling it loses the connection only.
    ///
    /// # Errors
    /// Why there is no answer, in one line without the address.
    pub async fn ask(&mut self) -> Result<Heard, String> {
        let asked = tokio::time::timeout(WITHIN, self.asked()).await;
        let answer = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", WITHIN.as_secs())));
        if answer.is_err() {
            self.operator = None;
        }
        answer
    }

    async fn asked(&mut self) -> Result<Heard, String> {
        let mut operator = match self.operator.take() {
            Some(operator) => operator,
            None => {
                Operator::connect(std::slice::from_ref(&self.address)).await.map_err(|e| self.short(&e))?
            }
        };
        let traffic = operator.traffic(0).await.map_err(|e| self.short(&e))?;
        let at = Instant::now();
        let nodes = operator.nodes(0).await.map_err(|e| self.short(&e))?;
        let registry = operator.registry_if_any().await.map_err(|e| self.short(&e))?;
        let shifts = operator.running().await.map_err(|e| self.short(&e))?;
        self.operator = Some(operator);
        Ok(Heard { at, nodes, traffic, registry, shifts })
    }

    /// The cause alone: whoever shows it shows the address beside it.
    fn short(&self, error: &anyhow::Error) -> String {
        let text = format!("{error:#}");
        let marker = format!("{}: ", self.address);
        let cause = text.split_once(&marker).map_or(text.as_str(), |(_, cause)| cause);
        cause.split("): check --gateway").next().unwrap_or(cause).to_owned()
    }
}

/// Calls by region and node; the node is empty for calls that reached none.
pub type Counts = BTreeMap<(u32, String), Taken>;

fn counts(traffic: &ListTrafficResponse) -> Counts {
    let regions = traffic.regions.iter();
    let nodes = regions.flat_map(|region| region.nodes.iter().map(|node| (region.region, node)));
    nodes.map(|(region, n)| ((region, n.node.clone()), Taken::told(n.calls, n.failed, &n.buckets))).collect()
}

/// What one gateway counted lately.
#[derive(Debug, Default)]
pub struct History {
    started_unix_ms: i64,
    samples: VecDeque<(Instant, Counts)>,
}

impl History {
    /// Takes what was heard. A gateway that was started anew begins anew.
    pub fn take(&mut self, heard: &Heard) {
        if heard.traffic.started_unix_ms != self.started_unix_ms {
            self.samples.clear();
            self.started_unix_ms = heard.traffic.started_unix_ms;
        }
        self.samples.push_back((heard.at, counts(&heard.traffic)));
        while self.samples.len() > 2 && heard.at - self.samples[1].0 >= WINDOW {
            self.samples.pop_front();
        }
    }

    /// Calls between the first and the last sample of the window, and the seconds between them; `None` while
    /// there are no two.
    #[must_use]
    pub fn lately(&self) -> Option<(f64, Counts)> {
        let ((began, before), (ended, now)) = (self.samples.front()?, self.samples.back()?);
        let seconds = (*ended - *began).as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let since = |(key, taken): (&(u32, String), &Taken)| {
            (key.clone(), before.get(key).map_or(*taken, |before| taken.since(before)))
        };
        Some((seconds, now.iter().map(since).collect()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use suiyue_proto::v1::{NodeTraffic, RegionTraffic};

    /// A gateway's calls of Guangzhou at suikang, as they stand then.
    pub(crate) fn heard(at: Instant, started_unix_ms: i64, calls: u64, failed: u64) -> Heard {
        let node = NodeTraffic {
            node: "suikang".into(),
            candidate: true,
            share: 1.0,
            ramp: 1.0,
            reason: "primary".into(),
            calls,
            failed,
            buckets: vec![0, calls],
            ..Default::default()
        };
        let region = RegionTraffic { region: 440_100, available: true, nodes: vec![node] };
        let traffic = ListTrafficResponse {
            gateway: "gw-1".into(),
            started_unix_ms,
            regions: vec![region],
            ..Default::default()
        };
        Heard { at, nodes: ListNodesResponse::default(), traffic, registry: None, shifts: Vec::new() }
    }

    fn suikang(history: &History) -> Option<(f64, u64, u64)> {
        let (seconds, counts) = history.lately()?;
        let taken = counts[&(440_100, "suikang".to_owned())];
        Some((seconds, taken.calls, taken.failed))
    }

    #[test]
    fn a_rate_needs_two_samples_and_spans_the_window() {
        let (mut history, start) = (History::default(), Instant::now());
        history.take(&heard(start, 1, 1_000, 10));
        assert_eq!(suikang(&history), None);
        for second in 1..=20u64 {
            history.take(&heard(start + Duration::from_secs(second), 1, 1_000 + 100 * second, 10 + second));
        }
        assert_eq!(suikang(&history), Some((5.0, 500, 5)));
    }

    #[test]
    fn a_gateway_that_was_started_anew_counts_anew() {
        let (mut history, start) = (History::default(), Instant::now());
        history.take(&heard(start, 1, 1_000, 0));
        history.take(&heard(start + Duration::from_secs(1), 2, 5, 0));
        assert_eq!(suikang(&history), None);
        history.take(&heard(start + Duration::from_secs(2), 2, 15, 0));
        assert_eq!(suikang(&history), Some((1.0, 10, 0)));
    }

    #[test]
    fn a_cause_does_not_repeat_the_address() {
        let line = Line::new("127.0.0.1:1".to_owned());
        let short = |text: &'static str| line.short(&anyhow::anyhow!(text));
        let refused =
            "no gateway can be reached (127.0.0.1:1: Connection refused): check --gateway, and that";
        assert_eq!(short(refused), "Connection refused");
        assert_eq!(short("ListNodes at 127.0.0.1:1: ROLE_INSUFFICIENT"), "ROLE_INSUFFICIENT");
        assert_eq!(short("something else"), "something else");
    }
}
