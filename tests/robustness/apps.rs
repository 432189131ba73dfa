//! Can an app make the gateway give up a node?
//!
//! Not with garbage, not with deadlines that nobody can keep; and a request that kills its node must not
//! walk through the federation.

use crate::scene::{Outcome, STEADY, Scene, callers, city_and_province, echo};
use anyhow::{Context as _, ensure};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use suiyue_tests::{
    client::{Answer, Connection, REGION, framed, prefixed, request},
    eventually::{ends, eventually},
    failover::Failover,
    federation::Federation,
    load::{Mix, Wish},
    region::GUANGZHOU,
    table,
    v1::EchoRequest,
};
use tokio::task::JoinSet;
use tonic::Code;

const UNARY: &str = "/suiyue.test.v1.EchoService/Unary";
/// Bad calls that one app makes.
const BAD_CALLS: u64 = 4_000;
/// Bad calls of one app in flight: more than all others have together.
const BAD_AT_A_TIME: usize = 60;

/// Everybody else was answered by the city at the first attempt.
fn others_noticed_nothing(outcome: &Outcome) -> anyhow::Result<()> {
    outcome.never_ejected("city")?;
    outcome.report.flawless()?;
    ensure!(outcome.report.served_by.keys().eq(["city"]), "{:?}", outcome.report.served_by);
    ensure!(outcome.row.moved == 0, "{} calls needed another attempt", outcome.row.moved);
    Ok(())
}

#[tokio::test]
async fn garbage_from_one_app_ejects_nobody() -> anyhow::Result<()> {
    let scene = Scene::open("one app sends garbage", city_and_province(), callers()).await?;
    let connection = Connection::open(scene.federation.gateway().data).await?;
    let (made, mut app) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    for _ in 0..BAD_AT_A_TIME {
        app.spawn(send_garbage(connection.clone(), made.clone()));
    }
    while let Some(ended) = ends("the app's calls end", app.join_next()).await? {
        ended??;
    }
    scene.load.proceeds(STEADY).await?;
    others_noticed_nothing(&scene.finish().await?)
}

/// The region stands in the metadata, so that the gateway has no need to read the message.
async fn send_garbage(connection: Connection, made: Arc<AtomicU64>) -> anyhow::Result<()> {
    while made.fetch_add(1, Relaxed) < BAD_CALLS {
        let garbage = prefixed(0, &[0xff; 40]);
        let answer = connection.call(request(UNARY, &[(REGION, "440100")]), garbage).await?;
        ensure!(answer.code() != Some(Code::Ok), "garbage was understood: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn deadlines_of_one_app_that_nobody_can_keep_eject_nobody() -> anyhow::Result<()> {
    let scene = Scene::open("one app, 25 ms deadlines", city_and_province(), callers()).await?;
    let hasty = Wish::new(GUANGZHOU, BAD_AT_A_TIME, Mix::Replayable).timeout_ms(25);
    let app = hasty.callers_a_connection(BAD_AT_A_TIME).start(&scene.federation.data());
    app.proceeds(BAD_CALLS).await?;
    let app = app.stop().await?;
    let late = app.calls.iter().filter(|call| call.code == Some(Code::DeadlineExceeded)).count();
    ensure!(late == app.calls.len(), "{late} of {} calls were late", app.calls.len());
    scene.load.proceeds(STEADY).await?;
    others_noticed_nothing(&scene.finish().await?)
}

/// Six equal nodes, so that half of them are left after two such requests: the first and the second die
/// of it, and there it ends.
#[tokio::test]
async fn a_request_that_kills_its_node_ends_after_two_executions() -> anyhow::Result<()> {
    let mut builder = Federation::builder();
    for name in ["one", "two", "three", "four", "five", "six"] {
        builder = builder.node(echo(name, GUANGZHOU));
    }
    let mut federation = builder.start().await?;
    let client = Failover::new(federation.data(), 0);
    let mut left = federation.nodes.len();
    let mut died = Vec::new();
    for (method, most) in [("Unary", 2), ("UnaryOnce", 1)] {
        let message = deadly(method);
        let path = format!("/suiyue.test.v1.EchoService/{method}");
        let answer = ends("an answer", client.call(&request(&path, &[]), &framed(&message))).await??;
        ensure!(answer.code() == Some(Code::Unavailable), "{answer:?}");
        let executed: usize = federation.nodes.iter().map(|n| n.executions().count(&message.call_id)).sum();
        ensure!(executed == most, "{method}: executed {executed} times, not {most}");
        left -= most;
        died.push(format!("{method}: {executed} executions"));
        answers(&client, &mut federation, left).await?;
    }
    table::remark(&format!("a request that kills its node: {}", died.join(", ")))
}

fn deadly(method: &str) -> EchoRequest {
    let call_id = format!("deadly-{method}");
    EchoRequest { region: GUANGZHOU, call_id, deadly: true, ..Default::default() }
}

/// So many nodes are alive, and calls are answered.
async fn answers(client: &Failover, federation: &mut Federation, alive: usize) -> anyhow::Result<()> {
    eventually("the dead are dead", async || {
        let living = federation.nodes.iter_mut().filter_map(|node| node.process.alive().ok()).count();
        ensure!(living == alive, "{living} nodes live, not {alive}");
        Ok(())
    })
    .await?;
    let message = EchoRequest { region: GUANGZHOU, call_id: "after".to_owned(), ..Default::default() };
    let _: Answer = eventually("the others answer", async || {
        let answer = client.call(&request(UNARY, &[]), &framed(&message)).await?;
        let status = answer.status().context("a status")?;
        ensure!(status.code() == Code::Ok, "{status:?}");
        Ok(answer)
    })
    .await?;
    Ok(())
}
