//! Does the walk-through in `deploy/README.md` do what it says?
//!
//! Its command blocks are run as they stand, one after the other in one shell, against a federation that
//! is alive; only the addresses are others. Where the text shows what they print, every line shown must
//! be among the lines printed, in this order; numbers may differ.

use anyhow::{Context as _, ensure};
use std::{fmt::Write as _, fs, net::SocketAddr, path::Path, process::Command};
use suiyue_tests::{
    gateway::Gateway,
    node::{Node, token},
    programs,
    region::{SHAANXI, XIAN},
};

/// Commands, and what the text says that they print.
pub(crate) struct Step {
    pub(crate) commands: String,
    pub(crate) shown: String,
}

/// The steps below a heading, up to the next one.
pub(crate) fn steps(text: &str, heading: &str) -> anyhow::Result<Vec<Step>> {
    let from = text.find(heading).with_context(|| format!("no {heading:?}"))? + heading.len();
    let section = &text[from..];
    let section = &section[..section.find("\n## ").unwrap_or(section.len())];
    let mut steps = Vec::<Step>::new();
    let mut fence = None::<String>;
    let mut block = String::new();
    let mut directly_below = false;
    for line in section.lines() {
        match (&fence, line.strip_prefix("```")) {
            (None, Some(kind)) => {
                fence = Some(kind.to_owned());
                block.clear();
            }
            (None, None) => directly_below = false,
            (Some(kind), Some("")) => {
                match kind.as_str() {
                    "sh" => steps.push(Step { commands: block.clone(), shown: String::new() }),
                    "" if directly_below => steps.last_mut().context("commands")?.shown.clone_from(&block),
                    _ => {}
                }
                directly_below = kind == "sh";
                fence = None;
            }
            (Some(_), _) => {
                let _ = writeln!(block, "{line}");
            }
        }
    }
    Ok(steps)
}

/// A line without what may differ: numbers, and the widths that follow from them.
fn plain(line: &str) -> String {
    let mut text = String::new();
    for c in line.chars() {
        let c = if c.is_ascii_digit() { '#' } else { c };
        let again = matches!(c, '#' | ' ' | '-' | '=') && text.ends_with(c);
        if !again {
            text.push(c);
        }
    }
    text.trim().to_owned()
}

pub(crate) fn shows(printed: &str, shown: &str) -> anyhow::Result<()> {
    let mut lines = printed.lines().map(plain);
    for line in shown.lines() {
        let wanted = plain(line);
        ensure!(
            lines.any(|line| line == wanted),
            "{line:?} is not printed, or not in this order:\n{printed}"
        );
    }
    Ok(())
}

pub(crate) const MARK: &str = "@@ step ";

/// One shell runs all steps and says where each begins; what it started ends with it.
pub(crate) fn script(steps: &[Step], addresses: &[(&str, String)]) -> String {
    let mut text = "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\nset -e\n".to_owned();
    for (at, step) in steps.iter().enumerate() {
        let _ = write!(text, "echo '{MARK}{at}'\n{}", step.commands);
    }
    addresses.iter().fold(text, |text, (from, to)| text.replace(from, to))
}

pub(crate) async fn shell(script: String, dir: &Path, control: &str, data: &str) -> anyhow::Result<String> {
    let bin = programs::suiyue();
    let here = bin.parent().context("a directory")?.display().to_string();
    let path = format!("{here}:{}", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command
        .arg("-c")
        .arg(script)
        .current_dir(dir)
        .env("PATH", path)
        .env("SUIYUE_GATEWAY", control)
        .env("SUIYUE_SERVER", data);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    let log = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    let logs = format!("{}\n{}", log("data/xian/log"), log("gateway.log"));
    ensure!(output.status.success(), "{}: {said}\n{complaint}\n{logs}", output.status);
    Ok(said)
}

/// A port that nobody listens on.
fn free() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Every step was run, and shows what the text says.
fn shown(steps: &[Step], printed: &str) -> anyhow::Result<()> {
    let mut parts = printed.split(MARK).skip(1);
    for (at, step) in steps.iter().enumerate() {
        let part = parts.next().with_context(|| format!("step {at} was not run"))?;
        shows(part, &step.shown).with_context(|| format!("step {at}: {}", step.commands))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_city_joins_as_the_walk_through_says() -> anyhow::Result<()> {
    let text = fs::read_to_string(programs::file("../deploy/README.md"))?;
    let steps = steps(&text, "## A city joins, from nothing to ACTIVE")?;
    let showing = steps.iter().filter(|step| !step.shown.is_empty()).count();
    ensure!(steps.len() >= 9 && showing >= 6, "{} steps, {showing} show what they print", steps.len());
    let gateway = Gateway::builder("gw-1")
        .embedded()
        .join(XIAN, "xian-trial-token")
        .join(SHAANXI, &token(SHAANXI))
        .start()
        .await?;
    let province =
        Node::codes("shaanxi", SHAANXI).scopes(&[XIAN]).gateways(&[gateway.control]).start().await?;
    gateway.sees("shaanxi", province.address).await?;
    let dir = tempfile::tempdir()?;
    let addresses =
        [("127.0.0.1:8441", gateway.control.to_string()), ("127.0.0.1:9301", free()?.to_string())];
    let (control, data) = (gateway.control.to_string(), gateway.data.to_string());
    let printed = shell(script(&steps, &addresses), dir.path(), &control, &data).await?;
    println!("{printed}");
    shown(&steps, &printed)
}

#[tokio::test]
async fn a_federation_begins_with_certificates_as_the_walk_through_says() -> anyhow::Result<()> {
    let text = fs::read_to_string(programs::file("../deploy/README.md"))?;
    let steps = steps(&text, "## The same with certificates")?;
    let showing = steps.iter().filter(|step| !step.shown.is_empty()).count();
    ensure!(steps.len() >= 8 && showing >= 4, "{} steps, {showing} show what they print", steps.len());
    let dir = tempfile::tempdir()?;
    let mut addresses = Vec::new();
    for shown in ["127.0.0.1:8440", "127.0.0.1:8441", "127.0.0.1:8442", "127.0.0.1:9301"] {
        addresses.push((shown, free()?.to_string()));
    }
    let (data, control) = (addresses[0].1.clone(), addresses[1].1.clone());
    let printed = shell(script(&steps, &addresses), dir.path(), &control, &data).await?;
    println!("{printed}");
    shown(&steps, &printed)
}

#[test]
fn what_is_shown_must_be_printed() {
    let printed = "a 12.5 ms\n+-----+\n| x   | revision 9 |\n";
    assert!(shows(printed, "a 3.0 ms\n| x | revision 123 |").is_ok());
    assert!(shows(printed, "| x | revision 9 |\na 12.5 ms").is_err());
    assert!(shows(printed, "b").is_err());
}
