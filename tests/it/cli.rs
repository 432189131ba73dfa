//! Do the operator's verbs say what is, as a table and as JSON?

use anyhow::{Context as _, ensure};
use std::{
    fs,
    process::{Command, Output, Stdio},
};
use suiyue_tests::{
    eventually::eventually,
    federation::Federation,
    node::Node,
    process::{Process, Signal},
    programs,
    region::{GUANGDONG, GUANGZHOU},
};

/// Runs a verb, beside the runtime.
pub(crate) async fn run(arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(programs::suiyue());
    command.args(arguments).stdin(Stdio::null());
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

/// Runs a verb that must succeed.
pub(crate) async fn suiyue(arguments: &[&str]) -> anyhow::Result<String> {
    let output = run(arguments).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

pub(crate) async fn json(arguments: &[&str]) -> anyhow::Result<serde_json::Value> {
    let text = suiyue(&[arguments, &["-o", "json"]].concat()).await?;
    serde_json::from_str(&text).with_context(|| format!("{arguments:?} printed no JSON: {text}"))
}

async fn city_and_province() -> anyhow::Result<Federation> {
    Federation::builder()
        .node(Node::codes("suikang", GUANGZHOU))
        .node(Node::codes("yuekang", GUANGDONG).scopes(&[GUANGZHOU]))
        .start()
        .await
}

#[tokio::test]
async fn the_verbs_print_tables_and_json() -> anyhow::Result<()> {
    let federation = city_and_province().await?;
    let control = federation.gateway().control.to_string();
    let gateway = ["--gateway", control.as_str()];
    let explain = ["route", "explain", "--region", "440100", "--class", "scan"];
    let verbs: [(&[&str], &[&str]); 5] = [
        (&["node", "list"], &["suikang", "yuekang"]),
        (&["node", "list", "--region", "440100"], &["suikang"]),
        (&["region", "list"], &["440100", "440000", "广州", "Guangzhou"]),
        (&["registry", "dump"], &["nodes/440100/suikang", "nodes/440000/yuekang"]),
        (&explain, &["suikang", "yuekang"]),
    ];
    for (verb, words) in verbs {
        let table = suiyue(&[verb, &gateway].concat()).await?;
        let json = json(&[verb, &gateway].concat()).await?.to_string();
        for word in words {
            ensure!(table.contains(word), "{verb:?}: {word:?} is not in the table:\n{table}");
            ensure!(json.contains(word), "{verb:?}: {word:?} is not in {json}");
        }
    }
    let all = suiyue(&[&["region", "list", "--all"], &gateway[..]].concat()).await?;
    ensure!(all.contains("110000") && all.contains("650100"), "{all}");
    Ok(())
}

#[tokio::test]
async fn a_verb_tries_the_next_gateway() -> anyhow::Result<()> {
    let federation = city_and_province().await?;
    // A port that was free a moment ago: nobody listens there.
    let dead = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let both = format!("{dead},{}", federation.gateway().control);
    ensure!(suiyue(&["node", "list", "--gateway", &both]).await?.contains("suikang"));
    let nobody = suiyue(&["node", "list", "--gateway", &dead.to_string()]).await;
    ensure!(nobody.is_err(), "{nobody:?}");
    Ok(())
}

#[tokio::test]
async fn a_code_is_shown_and_verified() -> anyhow::Result<()> {
    let federation = city_and_province().await?;
    let server = federation.gateway().data.to_string();
    let subject: String =
        crate::federation::holder(GUANGZHOU, 1).iter().map(|byte| format!("{byte:02x}")).collect();
    let show = ["code", "show", "--region", "440100", "--subject", &subject, "--server", &server];
    let drawn = suiyue(&show).await?;
    ensure!(drawn.contains('█') && drawn.lines().count() > 20, "no QR code:\n{drawn}");
    let text = suiyue(&[&show[..], &["--text"]].concat()).await?;
    let code = text.trim();
    ensure!(code.starts_with("SY1:440100:"), "{text}");
    let verdict = suiyue(&["code", "verify", code, "--server", &server]).await?;
    ensure!(verdict.contains("suikang"), "{verdict}");
    let forged = suiyue(&["code", "verify", &code.replace("440100:", "440100:0"), "--server", &server]).await;
    ensure!(!forged.is_ok_and(|said| said.contains("PASS")), "a forged code passed");
    Ok(())
}

/// A process: its id and the instant of its start, which tell it from a later one of the same id.
type Identity = (u32, String);

/// Parent and identity of a process; nothing when it is gone.
fn parent_of(pid: u32) -> Option<(u32, Identity)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let is_dead = matches!(fields.first(), Some(&("Z" | "X")));
    (!is_dead).then_some((fields.get(1)?.parse().ok()?, (pid, (*fields.get(19)?).to_owned())))
}

/// Children of a process, and theirs.
fn descendants(of: u32) -> anyhow::Result<Vec<Identity>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        all.extend(pid.and_then(parent_of));
    }
    let (mut found, mut generation) = (Vec::new(), vec![of]);
    while let Some(parent) = generation.pop() {
        for (_, child) in all.iter().filter(|(p, _)| *p == parent) {
            generation.push(child.0);
            found.push(child.clone());
        }
    }
    Ok(found)
}

fn is_running(process: &Identity) -> bool {
    parent_of(process.0).is_some_and(|(_, now)| now == *process)
}

#[tokio::test]
async fn the_demo_fails_no_call() -> anyhow::Result<()> {
    let report = suiyue(&["demo", "--json", "--seconds", "12", "--rate", "300"]).await?;
    let report: serde_json::Value = serde_json::from_str(&report).with_context(|| report.clone())?;
    assert_eq!(report["failed"], 0, "{report:#}");
    let calls = report["calls"].as_f64().context("calls")?;
    assert!((calls - 3600.0).abs() <= 36.0, "rate × seconds are 3600 calls: {report:#}");
    let phases = report["phases"].as_array().context("phases")?;
    let mut sum = 0;
    for phase in phases {
        ensure!(phase["name"].is_string() && phase["seconds"].is_number(), "{phase}");
        ensure!(phase["p50_ms"].is_number() && phase["p99_ms"].is_number(), "{phase}");
        ensure!(phase["failed"] == 0 && phase["guangzhou"].is_object(), "{phase}");
        let served = phase["served_by"].as_object().context("served_by")?;
        let served: u64 = served.values().filter_map(serde_json::Value::as_u64).sum();
        ensure!(Some(served) == phase["calls"].as_u64(), "{phase}");
        sum += served;
    }
    assert_eq!(Some(sum), report["calls"].as_u64());
    let guangzhou = |node: &str| phases.iter().any(|phase| phase["guangzhou"][node].as_u64() > Some(0));
    assert!(guangzhou("suikang") && guangzhou("yuekang"), "{report:#}");
    Ok(())
}

#[tokio::test]
async fn an_interrupted_demo_leaves_no_process_behind() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut command = Command::new(programs::suiyue());
    command.args(["demo", "--json", "--seconds", "600", "--rate", "50"]);
    let mut demo = Process::spawn("demo", &mut command, &dir.path().join("log"))?;
    let children = eventually("the demo has started four nodes", async || {
        demo.alive()?;
        let children = descendants(demo.pid())?;
        ensure!(children.len() >= 4, "{children:?}");
        Ok(children)
    })
    .await?;
    demo.signal(Signal::INT)?;
    demo.ended().await?;
    eventually("no process is left", async || {
        let left: Vec<_> = children.iter().filter(|child| is_running(child)).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}
