//! Does the harness itself see what happens? A test that cannot fail shows nothing.

use anyhow::ensure;
use std::{collections::HashMap, process::Command};
use suiyue_tests::{
    client::{Connection, framed, request},
    etcd::Etcd,
    eventually::eventually,
    failover::Failover,
    load::{Load, Mix},
    node::Node,
    process::Process,
    region::GUANGZHOU,
    v1::{EchoRequest, EchoResponse},
};

const UNARY: &str = "/suiyue.test.v1.EchoService/Unary";

fn message(call_id: &str) -> EchoRequest {
    EchoRequest { region: GUANGZHOU, call_id: call_id.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn etcd_tells_the_lease_of_a_key_and_survives_a_stop() -> anyhow::Result<()> {
    let mut etcd = Etcd::start().await?;
    let granted = etcd.ctl(&["lease", "grant", "60"]).await?;
    let lease = granted.split_whitespace().nth(1).unwrap_or_default().to_owned();
    etcd.ctl(&["put", "/suiyue/v1/a/live/b", "x", "--lease", &lease]).await?;
    etcd.ctl(&["put", "/suiyue/v1/a/spec", "x"]).await?;
    let expected = [("/suiyue/v1/a/live/b".to_owned(), i64::from_str_radix(&lease, 16)?)];
    assert_eq!(etcd.leases("/live/").await?, expected);
    etcd.stop();
    assert!(etcd.leases("/live/").await.is_err());
    etcd.resume().await?;
    assert_eq!(etcd.leases("/live/").await?, expected);
    Ok(())
}

#[tokio::test]
async fn a_journal_survives_the_death_of_its_node() -> anyhow::Result<()> {
    let mut node = Node::echo("alone", GUANGZHOU).start().await?;
    let connection = Connection::open(node.address).await?;
    let answer = connection.call(request(UNARY, &[]), framed(&message("whole"))).await?;
    assert_eq!(answer.message::<EchoResponse>()?.node, "alone");
    let hang = connection.call(request("/suiyue.test.v1.EchoService/Hang", &[]), framed(&message("cut")));
    let killed = async {
        eventually("the call arrives", async || {
            ensure!(node.executions().unfinished() == 1);
            Ok(())
        })
        .await?;
        node.process.kill()
    };
    let (lost, killed) = tokio::join!(hang, killed);
    killed?;
    assert!(lost.is_err(), "{lost:?}");
    node.restart().await?;
    let again = Failover::new(vec![node.address], 0);
    again.call(&request(UNARY, &[]), &framed(&message("whole"))).await?;
    let executions = node.executions();
    let mut counts = HashMap::new();
    executions.count_into(&mut counts);
    assert_eq!(counts, HashMap::from([("whole".to_owned(), 2), ("cut".to_owned(), 1)]));
    assert_eq!((executions.begun(), executions.unfinished()), (3, 1));
    Ok(())
}

#[tokio::test]
async fn a_load_counts_what_fails() -> anyhow::Result<()> {
    let mut node = Node::echo("alone", GUANGZHOU).delay_ms(20).start().await?;
    let load = Load::start(&[node.address], GUANGZHOU, 30, Mix::WithOnce);
    load.proceeds(300).await?;
    assert!(load.so_far().failed.is_empty() && load.so_far().failed_once.is_empty(), "{:?}", load.so_far());
    node.process.kill()?;
    load.proceeds(100).await?;
    let report = load.stop().await?;
    assert!(report.flawless().is_err());
    assert!(!report.failed.is_empty() && !report.failed_once.is_empty(), "{report:?}");
    Ok(())
}

#[tokio::test]
async fn a_process_that_logs_an_error_fails_its_test() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let complains = async |line: &str, expected: Option<&str>| -> anyhow::Result<bool> {
        let mut command = Command::new("sh");
        command.args(["-c", "echo \"$0\" >&2", line]);
        let mut process = Process::spawn("sh", &mut command, &dir.path().join(line))?;
        process.ended().await?;
        if let Some(text) = expected {
            process.expect(text);
        }
        Ok(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(process))).is_err())
    };
    assert!(complains("2030-01-01T00:00:00Z ERROR gateway: wrong", None).await?);
    assert!(complains("thread 'main' panicked at src", None).await?);
    assert!(!complains("2030-01-01T00:00:00Z ERROR gateway: announced", Some("announced")).await?);
    assert!(!complains("2030-01-01T00:00:00Z  INFO gateway: ERRORS are counted", None).await?);
    Ok(())
}
