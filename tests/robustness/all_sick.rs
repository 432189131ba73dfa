//! What happens when nobody is well, in any tier?
//!
//! Scans are tried all the same, everywhere; details are refused at once, with the time to come back.

use crate::scene::city_and_province;
use anyhow::{Context as _, ensure};
use suiyue_proto::{metadata, reason::Reason};
use suiyue_tests::{
    client::{Answer, framed, request},
    eventually::eventually,
    failover::Failover,
    federation::Federation,
    region::GUANGZHOU,
    table,
    v1::{EchoRequest, Faults},
};
use tonic::Code;

/// Class `scan`.
const SCAN: &str = "Unary";
/// Class `query`. Sick nodes are asked to answer UNAVAILABLE, well ones OK.
const QUERY: &str = "Fail";
/// Calls of each class that are looked at.
const CALLS: usize = 100;

struct Scene {
    federation: Federation,
    client: Failover,
    sick: bool,
}

impl Scene {
    async fn call(&self, method: &str, call_id: &str) -> anyhow::Result<Answer> {
        let code = if self.sick { Code::Unavailable } else { Code::Ok }.into();
        let message =
            EchoRequest { region: GUANGZHOU, call_id: call_id.to_owned(), code, ..Default::default() };
        let path = format!("/suiyue.test.v1.EchoService/{method}");
        let subject = format!("{:032x}", rand::random::<u128>());
        let request = request(&path, &[(metadata::SUBJECT.as_str(), &subject)]);
        self.client.call(&request, &framed(&message)).await
    }

    async fn arrange(&mut self, faults: Faults) -> anyhow::Result<()> {
        for node in &self.federation.nodes {
            node.arrange(faults).await?;
        }
        self.sick = faults.fail_percent > 0;
        Ok(())
    }

    fn executed(&self, call_id: &str) -> usize {
        self.federation.nodes.iter().map(|node| node.executions().count(call_id)).sum()
    }

    /// A query is answered OK, or refused with the reason that nobody can answer.
    async fn query_is(&self, answered: bool) -> anyhow::Result<()> {
        eventually(&format!("queries are answered: {answered}"), async || {
            let answer = self.call(QUERY, "is-it").await?;
            let as_wanted = if answered {
                answer.code() == Some(Code::Ok)
            } else {
                answer.reason() == Some(Reason::NoNodeAvailable)
            };
            ensure!(as_wanted, "{answer:?}");
            Ok(())
        })
        .await
    }
}

/// Health checks and calls say so. A scan is tried and gets the node's own answer.
#[tokio::test]
async fn with_every_tier_sick_scans_fail_open_and_queries_fail_closed() -> anyhow::Result<()> {
    let federation = city_and_province().start().await?;
    let client = Failover::new(federation.data(), 0);
    let mut scene = Scene { federation, client, sick: false };
    scene.query_is(true).await?;
    let ill = Faults {
        fail_percent: 100,
        fail_code: Code::Unavailable.into(),
        not_serving: true,
        ..Faults::default()
    };
    scene.arrange(ill).await?;
    scene.query_is(false).await?;
    let mut open = 0;
    for number in 0..CALLS {
        let scan = format!("scan-{number}");
        let answer = scene.call(SCAN, &scan).await?;
        ensure!(answer.meta(&metadata::SERVED_BY).is_some(), "{answer:?}");
        ensure!(scene.executed(&scan) > 0, "{scan} was not tried");
        open += usize::from(answer.meta(&metadata::REASON).as_deref() == Some("fail_open"));
        let query = format!("query-{number}");
        let answer = scene.call(QUERY, &query).await?;
        ensure!(answer.reason() == Some(Reason::NoNodeAvailable), "{answer:?}");
        let pushback = http::HeaderName::from_static("grpc-retry-pushback-ms");
        let pushback = answer.meta(&pushback).context("a refusal says when to come back")?;
        ensure!(pushback.parse::<u32>()? > 0, "{pushback}");
        ensure!(scene.executed(&query) == 0, "{query} was executed");
    }
    scene.arrange(Faults::default()).await?;
    scene.query_is(true).await?;
    ensure!(open > 0, "no scan says that it failed open");
    table::remark(&format!(
        "all tiers sick: {CALLS} scans tried at a node, {open} as fail_open; {CALLS} queries refused uncalled"
    ))
}

/// Health checks pass and every call fails: the nodes are left, scans go on to be tried, and the first
/// one after the fault is answered.
#[tokio::test]
async fn with_every_tier_failing_scans_go_on_to_be_tried() -> anyhow::Result<()> {
    let federation = city_and_province().start().await?;
    let client = Failover::new(federation.data(), 0);
    let mut scene = Scene { federation, client, sick: false };
    scene.query_is(true).await?;
    let ill = Faults { fail_percent: 100, fail_code: Code::Unavailable.into(), ..Faults::default() };
    scene.arrange(ill).await?;
    for number in 0..CALLS {
        let id = format!("scan-{number}");
        let answer = scene.call(SCAN, &id).await?;
        ensure!(answer.code() == Some(Code::Unavailable), "{answer:?}");
        let executed = scene.executed(&id);
        ensure!((1..=3).contains(&executed), "{id} was tried {executed} times");
    }
    scene.arrange(Faults::default()).await?;
    for number in 0..CALLS {
        let answer = scene.call(SCAN, &format!("well-{number}")).await?;
        ensure!(answer.code() == Some(Code::Ok), "{number} calls after the fault: {answer:?}");
    }
    Ok(())
}
