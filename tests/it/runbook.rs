//! Does `deploy/RUNBOOK.md` do what it says?
//!
//! Every command block of every section is run as it stands, against a federation that is alive; only
//! the address is another. Where the text shows what they print, every line shown must be among
//! the lines printed, in this order; numbers may differ.

use crate::walkthrough::{MARK, script, shell, shows, steps};
use anyhow::{Context as _, ensure};
use std::fs;
use suiyue_tests::{
    federation::Federation,
    node::Node,
    programs,
    region::{GUANGDONG, GUANGZHOU},
};

const SECTIONS: [(&str, usize); 5] = [
    ("## Drain a city", 3),
    ("## Shift 30 % away", 4),
    ("## Find why a region is slow", 3),
    ("## End everything at once", 2),
    ("## Work without etcd", 2),
];

#[tokio::test]
async fn the_runbook_does_what_it_says() -> anyhow::Result<()> {
    let text = fs::read_to_string(programs::file("../deploy/RUNBOOK.md"))?;
    let mut federation = Federation::builder()
        .gateways(1)
        .node(Node::codes("suikang", GUANGZHOU))
        .node(Node::codes("yuekang", GUANGDONG).scopes(&[GUANGZHOU]))
        .start()
        .await?;
    for (heading, least) in SECTIONS {
        if heading.contains("without etcd") {
            federation.etcd()?.stop();
        }
        let steps = steps(&text, heading)?;
        ensure!(steps.len() >= least, "{heading}: {} steps", steps.len());
        let gateway = federation.gateway();
        let dir = tempfile::tempdir()?;
        let addresses = [("127.0.0.1:8441", gateway.control.to_string())];
        let (control, data) = (gateway.control.to_string(), gateway.data.to_string());
        let printed =
            shell(script(&steps, &addresses), dir.path(), &control, &data).await.context(heading)?;
        println!("{heading}\n{printed}");
        let mut parts = printed.split(MARK).skip(1);
        for (at, step) in steps.iter().enumerate() {
            let part = parts.next().with_context(|| format!("step {at} was not run"))?;
            shows(part, &step.shown).with_context(|| format!("{heading}: {}", step.commands))?;
        }
    }
    federation.etcd()?.resume().await
}
