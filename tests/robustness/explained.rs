//! Does `explain` say where each call really went?
//!
//! While nodes leave, return and drain, every call's first attempt must be what `explain` says of the
//! plan that the answer names, for the subject of the call: node, tier and reason.

use crate::scene::{Scene, echo};
use anyhow::{Context as _, ensure};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use suiyue_proto::{
    metadata,
    v1::{Class, ExplainRouteRequest, operator_service_client::OperatorServiceClient},
};
use suiyue_tests::{
    client::{Answer, channel, framed, request},
    eventually::eventually,
    failover::Failover,
    federation::Federation,
    load::{Mix, Wish},
    region::{GUANGDONG, GUANGZHOU},
    table::remark,
    v1::{EchoRequest, Faults},
};
use tokio::task::JoinSet;
use tonic::{Code, transport::Channel};

const UNARY: &str = "/suiyue.test.v1.EchoService/Unary";
/// Calls that are explained, at least.
const CALLS: u64 = 10_000;
/// Calls at a time.
const AT_A_TIME: usize = 24;
/// Callers besides, whose calls are counted and not explained.
const OTHERS: usize = 16;
/// Seconds in which a node gets its share back: many plans, each with another share.
const RAMP_S: u32 = 6;
/// Calls that are explained between two events.
const BETWEEN: u64 = 500;

/// What is compared, from all callers.
#[derive(Default)]
struct Findings {
    stop: AtomicBool,
    /// First attempts that were compared.
    first: AtomicU64,
    calls: AtomicU64,
    /// By the reason that the answer gave.
    reasons: Mutex<BTreeMap<String, u64>>,
    wrong: Mutex<Vec<String>>,
}

#[tokio::test]
async fn explain_names_node_tier_and_reason_of_every_first_attempt() -> anyhow::Result<()> {
    let builder = Federation::builder()
        .configure(|gateway| gateway.ramp_s(RAMP_S))
        .node(echo("city", GUANGZHOU))
        .node(echo("sibling", GUANGZHOU))
        .node(echo("province", GUANGDONG).scopes(&[GUANGZHOU]));
    let others = Wish::new(GUANGZHOU, OTHERS, Mix::WithOnce);
    let mut scene = Scene::open("ramp, ejection, drain", builder, others).await?;
    let findings = Arc::new(Findings::default());
    let (data, control) = (scene.federation.data(), scene.federation.gateway().control);
    let mut callers = JoinSet::new();
    for _ in 0..AT_A_TIME {
        callers.spawn(compare(data.clone(), control, findings.clone()));
    }
    events(&mut scene, &findings).await?;
    while findings.first.load(Relaxed) < CALLS {
        findings.more(BETWEEN).await?;
    }
    findings.stop.store(true, Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    scene.finish().await?;
    findings.judge()
}

/// A death with a return over a ramp, an ejection by failing calls, and a drain.
async fn events(scene: &mut Scene, findings: &Findings) -> anyhow::Result<()> {
    findings.more(BETWEEN).await?;
    let fault = scene.happens();
    scene.node("city")?.process.kill()?;
    scene.watch.until("city", "leaves", fault, |o| o.share == 0.0).await?;
    findings.more(BETWEEN).await?;
    let end = Instant::now();
    scene.node("city")?.restart().await?;
    scene.watch.until("city", "begins its ramp", end, |o| o.share > 0.0).await?;
    findings.more(BETWEEN).await?;
    scene.watch.until("city", "ends its ramp", end, |o| o.share > 0.49).await?;
    let ill = Faults { fail_percent: 100, fail_code: Code::Unavailable.into(), ..Faults::default() };
    let fault = scene.arrange("sibling", ill).await?;
    scene.watch.until("sibling", "leaves", fault, |o| o.share == 0.0).await?;
    findings.more(BETWEEN).await?;
    let end = scene.arrange("sibling", Faults::default()).await?;
    scene.watch.until("sibling", "begins its ramp", end, |o| o.share > 0.0).await?;
    findings.more(BETWEEN).await?;
    scene.node("city")?.process.terminate().await?;
    findings.more(BETWEEN).await?;
    scene.node("city")?.restart().await?;
    findings.more(BETWEEN).await
}

impl Findings {
    async fn more(&self, calls: u64) -> anyhow::Result<()> {
        let goal = self.first.load(Relaxed) + calls;
        eventually("calls are explained", async || {
            let first = self.first.load(Relaxed);
            ensure!(first >= goal, "{first} of {goal}");
            Ok(())
        })
        .await
    }

    fn judge(&self) -> anyhow::Result<()> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, calls) = (self.first.load(Relaxed), self.calls.load(Relaxed));
        let text =
            format!("explain: {first} first attempts of {calls} calls compared, {} differ", wrong.len());
        remark(&format!("{text}; by reason {reasons:?}"))?;
        ensure!(wrong.is_empty(), "{text}: {:#?}", &wrong[..wrong.len().min(10)]);
        Ok(())
    }
}

/// Calls, and asks at once: a gateway keeps only the last plans.
async fn compare(data: Vec<SocketAddr>, control: SocketAddr, findings: Arc<Findings>) -> anyhow::Result<()> {
    let client = Failover::new(data, 0);
    let mut operator = OperatorServiceClient::new(channel(control).await?);
    while !findings.stop.load(Relaxed) {
        let number = findings.calls.fetch_add(1, Relaxed);
        let subject = rand::random::<[u8; 16]>();
        let hex: String = subject.iter().map(|byte| format!("{byte:02x}")).collect();
        let call_id = format!("explained-{number}");
        let message = EchoRequest { region: GUANGZHOU, call_id, ..Default::default() };
        let request = request(UNARY, &[(metadata::SUBJECT.as_str(), &hex)]);
        let answer = client.call(&request, &framed(&message)).await?;
        if answer.attempt() != 1 {
            continue;
        }
        let said = (
            meta(&answer, &metadata::SERVED_BY),
            meta(&answer, &metadata::TIER),
            meta(&answer, &metadata::REASON),
        );
        let plan = meta(&answer, &metadata::PLAN).parse()?;
        let explained = explain(&mut operator, plan, &subject).await?;
        if said != explained {
            let text = format!("plan {plan}, subject {hex}: answered by {said:?}, explained {explained:?}");
            findings.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        }
        *findings.reasons.lock().unwrap_or_else(PoisonError::into_inner).entry(said.2).or_default() += 1;
        findings.first.fetch_add(1, Relaxed);
    }
    Ok(())
}

fn meta(answer: &Answer, name: &http::HeaderName) -> String {
    answer.meta(name).unwrap_or_default()
}

/// Node, tier and reason of the first attempt of a subject's calls under a plan.
async fn explain(
    operator: &mut OperatorServiceClient<Channel>,
    plan: u64,
    subject: &[u8],
) -> anyhow::Result<(String, String, String)> {
    let subject = bytes::Bytes::copy_from_slice(subject);
    let asked = ExplainRouteRequest { subject, plan, ..Default::default() };
    let request = ExplainRouteRequest { region: GUANGZHOU, class: Class::Scan.into(), ..asked };
    let route = operator.explain_route(request).await?.into_inner();
    let pick = route.pick.with_context(|| format!("plan {plan} sends the subject nowhere"))?;
    Ok((pick.node, pick.tier.to_string(), pick.reason))
}
