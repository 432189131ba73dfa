//! Does a client that shares no code with us get what the contract promises?

use anyhow::ensure;
use std::process::Command;
use suiyue_tests::{
    federation::Federation,
    node::Node,
    programs,
    region::{GUANGDONG, GUANGZHOU},
};

#[tokio::test]
async fn grpcio_shows_verifies_records_and_watches_with_reflection() -> anyhow::Result<()> {
    let federation = Federation::builder()
        .etcd()
        .node(Node::codes("suikang", GUANGZHOU))
        .node(Node::codes("yuekang", GUANGDONG).scopes(&[GUANGZHOU]))
        .start()
        .await?;
    let subject: String =
        crate::federation::holder(GUANGZHOU, 1).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut command = Command::new(programs::python());
    command
        .arg(programs::file("python/calls.py"))
        .arg(programs::file("../proto"))
        .arg(federation.gateway().data.to_string())
        .arg(federation.nodes[0].address.to_string())
        .arg(subject);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{said}\n{complained}");
    ensure!(said.trim().ends_with("all calls answered"), "{said}");
    Ok(())
}
