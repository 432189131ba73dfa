//! Calls in numbers.

use super::*;
use crate::telemetry::{AnswerReason, End, Recent};

impl Gateway {
    async fn traffic(&self, region: u32) -> Result<v1::ListTrafficResponse, Status> {
        let asked = v1::ListTrafficRequest { region };
        self.operator.list_traffic(Request::new(asked)).await.map(Response::into_inner)
    }

    /// So many calls of a region end at a node with this status.
    fn took(&self, region: u32, node: &str, status: tonic::Code, calls: u32) {
        let (node, recent) = (node.into(), Recent::default());
        let end = End {
            region,
            class: Class::Scan,
            tier: 0,
            reason: AnswerReason::Primary,
            code: status as u8,
            retried: false,
        };
        (0..calls).for_each(|_| {
            recent.count(&self.operator.metrics, 0, &node, end, Duration::from_micros(400));
        });
    }
}

#[tokio::test]
async fn calls_are_told_by_region_and_node_beside_what_the_plan_wants() {
    let gateway = Gateway::start().await;
    gateway.took(440_100, "suikang", tonic::Code::Ok, 90);
    gateway.took(440_100, "suikang", tonic::Code::Unavailable, 10);
    gateway.took(440_100, "gone", tonic::Code::Ok, 3);
    gateway.took(440_100, "", tonic::Code::ResourceExhausted, 2);
    let answer = gateway.traffic(0).await.unwrap();
    assert_eq!((answer.gateway.as_str(), answer.bounds_us.len()), ("gw-1", 13));
    assert!(answer.started_unix_ms > 0);
    let regions: Vec<_> = answer.regions.iter().map(|region| (region.region, region.available)).collect();
    assert_eq!(regions, [(440_000, true), (440_100, true), (610_100, true)]);
    let nodes: Vec<_> = answer.regions[1]
        .nodes
        .iter()
        .map(|n| (n.node.as_str(), n.candidate, n.tier, n.share, n.calls, n.failed))
        .collect();
    assert_eq!(
        nodes,
        [
            ("suikang", true, 0, 1.0, 100, 10),
            ("yuekang", true, 1, 0.0, 0, 0),
            ("", false, 0, 0.0, 2, 0),
            ("gone", false, 0, 0.0, 3, 0),
        ]
    );
    let suikang = &answer.regions[1].nodes[0];
    assert_eq!((suikang.reason.as_str(), suikang.buckets[1], suikang.buckets.len()), ("primary", 100, 14));
    assert_eq!(suikang.rules, ["in the first tier that has anyone"]);
}

#[tokio::test]
async fn one_region_is_told_alone_and_an_unknown_one_is_refused() {
    let gateway = Gateway::start().await;
    let answer = gateway.traffic(440_106).await.unwrap();
    assert_eq!(answer.regions.iter().map(|region| region.region).collect::<Vec<_>>(), [440_100]);
    refused(gateway.traffic(999_999).await, Reason::RegionUnknown, &[]);
}
