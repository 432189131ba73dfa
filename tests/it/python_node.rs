//! Can somebody else write a node?
//!
//! The one of `deploy/examples/python-node` shares no code with us: it registers, passes the conformance
//! run, and carries a city's calls through the gateway.

use crate::cli::suiyue;
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use std::{fs, net::SocketAddr, path::Path, process::Command};
use suiyue_node::population;
use suiyue_proto::{
    metadata,
    region::Code,
    v1::{ShowCodeRequest, ShowCodeResponse, Verdict, VerifyCodeRequest, VerifyCodeResponse},
};
use suiyue_tests::{
    client::{Connection, framed, request},
    federation::Federation,
    gateway::ready,
    node::token,
    process::Process,
    programs,
    region::XIAN,
};

/// Stubs of the contract, made as its head says.
async fn stubs(out: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(out)?;
    let contract = programs::file("../proto");
    let mut command = Command::new(programs::python());
    command.args(["-m", "grpc_tools.protoc"]).arg(format!("-I{}", contract.display()));
    command
        .arg(format!("--python_out={}", out.display()))
        .arg(format!("--grpc_python_out={}", out.display()));
    for file in fs::read_dir(contract.join("suiyue/v1"))? {
        command.arg(file?.path());
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

async fn start(dir: &Path, join: SocketAddr) -> anyhow::Result<(Process, SocketAddr, String)> {
    let stubs_dir = dir.join("stubs");
    stubs(&stubs_dir).await?;
    let holders = dir.join("holders.jsonl").display().to_string();
    suiyue(&["node", "seed", "--region", "610100", "--holders", "1000", "--out", &holders]).await?;
    let addresses = dir.join("addresses.json");
    let mut command = Command::new(programs::python());
    command
        .arg(programs::file("../deploy/examples/python-node/node.py"))
        .args(["--region", "610100", "--name", "xian-py", "--listen", "127.0.0.1:0"])
        .args(["--join", &join.to_string(), "--token", &token(XIAN), "--holders", &holders])
        .arg("--address-file")
        .arg(&addresses)
        .env("PYTHONPATH", &stubs_dir)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let mut process = Process::spawn("xian-py", &mut command, &dir.join("log"))?;
    let json = ready("xian-py", &mut process, &addresses).await?;
    let address = json["address"].as_str().context("an address")?.parse()?;
    Ok((process, address, holders))
}

#[tokio::test]
async fn a_python_node_registers_keeps_the_contract_and_carries_calls() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let federation = Federation::builder().start().await?;
    let gateway = federation.gateway();
    let (mut process, address, holders) = start(dir.path(), gateway.control).await?;
    gateway.sees("xian-py", address).await?;
    let told = suiyue(&["node", "verify", &address.to_string(), "--holders", &holders]).await?;
    ensure!(told.contains("keeps the contract"), "{told}");
    let connection = Connection::open(gateway.data).await?;
    let region = Code::new(XIAN).context("a region")?;
    for index in 0..200 {
        let holder = population::holder(region, index, 1);
        let subject = Bytes::copy_from_slice(&holder.subject);
        let show = ShowCodeRequest { region: XIAN, subject, max_staleness_s: None };
        let shown = connection.call(request("/suiyue.v1.CodeService/ShowCode", &[]), framed(&show)).await?;
        assert_eq!(shown.meta(&metadata::SERVED_BY).as_deref(), Some("xian-py"), "{shown:?}");
        let code = shown.message::<ShowCodeResponse>()?.code;
        let request_id = Bytes::copy_from_slice(&(u128::from(index) + 1).to_be_bytes());
        let verify = VerifyCodeRequest { region: XIAN, code, request_id, max_staleness_s: None };
        let judged =
            connection.call(request("/suiyue.v1.CodeService/VerifyCode", &[]), framed(&verify)).await?;
        let result = judged.message::<VerifyCodeResponse>()?.result.context("a result")?;
        let expected = match population::word(holder.level) {
            "green" => Verdict::Pass,
            "yellow" => Verdict::Caution,
            _ => Verdict::Deny,
        };
        assert_eq!(result.verdict(), expected, "{index}");
    }
    let server = gateway.data.to_string();
    let load = ["load", "--server", &server, "--regions", "610100", "--holders", "1000", "--rate", "100"];
    let report = suiyue(&[&load[..], &["--seconds", "3", "--mix", "show=50,scan=50"]].concat()).await?;
    println!("{report}");
    ensure!(report.contains("xian-py"), "{report}");
    process.terminate().await?;
    gateway.forgets(address).await
}
