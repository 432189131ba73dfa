//! What does a gateway do that has lost its own network?
//!
//! It does not blame its nodes: when more than half of at least four fail at once, it stops ejecting and
//! says that its own network is suspect. Where this machine allows it, all four nodes live behind one
//! virtual cable, which is pulled: packets vanish, and nobody is told. Elsewhere the four nodes are
//! stopped at the same moment, which looks the same from the gateway.

use crate::scene::{Felt, HANDLER_MS, STEADY, fill};
use anyhow::ensure;
use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
    sync::Arc,
    time::Instant,
};
use suiyue_proto::v1::Health;
use suiyue_tests::{
    gateway::Gateway,
    load::{Mix, Wish},
    netns::Namespace,
    node::Node,
    process::Signal,
    region::{GUANGDONG, GUANGZHOU, XIAN},
    table::{Row, remark},
    watch::Watch,
};

/// Callers of each region.
const CALLERS: usize = 20;

/// Four nodes of two regions and a gateway that knows them from its file: they cannot reach it.
struct Island {
    gateway: Gateway,
    nodes: Vec<Node>,
    namespace: Option<Arc<Namespace>>,
}

impl Island {
    async fn start() -> anyhow::Result<Self> {
        let namespace = Namespace::create().map(Arc::new);
        let how = match &namespace {
            Ok(_) => "a network namespace, its cable pulled".to_owned(),
            Err(error) => format!("all nodes stopped at once, for there is no namespace: {error:#}"),
        };
        remark(&format!("the gateway's own network cut: {how}"))?;
        let namespace = namespace.ok();
        let mut nodes = Vec::new();
        for (name, region) in
            [("city", GUANGZHOU), ("sibling", GUANGZHOU), ("province", GUANGDONG), ("xian", XIAN)]
        {
            let mut node = Node::echo(name, region).delay_ms(HANDLER_MS);
            if region == GUANGDONG {
                node = node.scopes(&[GUANGZHOU]);
            }
            if let Some(namespace) = &namespace {
                node = node.within(namespace);
            }
            nodes.push(node.start().await?);
        }
        let gateway = Gateway::builder("gw-1").toml(&config(&nodes)).start().await?;
        for node in &nodes {
            gateway.sees(&node.name, node.address).await?;
        }
        Ok(Self { gateway, nodes, namespace })
    }

    /// The network is cut, or whole again.
    fn cut(&self, cut: bool) -> anyhow::Result<()> {
        match &self.namespace {
            Some(namespace) if cut => namespace.cut(),
            Some(namespace) => namespace.mend(),
            None => {
                let signal = if cut { Signal::STOP } else { Signal::CONT };
                self.nodes.iter().try_for_each(|node| node.process.signal(signal))
            }
        }
    }
}

fn config(nodes: &[Node]) -> String {
    let mut toml = String::new();
    for node in nodes {
        let (name, address) = (&node.name, node.address);
        let (region, role, scopes) = match name.as_str() {
            "province" => (GUANGDONG, "province", format!("[{GUANGDONG}, {GUANGZHOU}]")),
            "xian" => (XIAN, "city", format!("[{XIAN}]")),
            _ => (GUANGZHOU, "city", format!("[{GUANGZHOU}]")),
        };
        let _ = write!(
            toml,
            "[[node]]\nname = {name:?}\nregion = {region}\nrole = {role:?}\nscopes = {scopes}\naddresses = [\"{address}\"]\n"
        );
    }
    for (method, idempotency) in [("Unary", "idempotent"), ("UnaryOnce", "none")] {
        let _ = write!(
            toml,
            "[[method]]\npath = \"/suiyue.test.v1.EchoService/{method}\"\nclass = \"scan\"\nidempotency = {idempotency:?}\n"
        );
    }
    toml
}

#[tokio::test]
async fn a_gateway_without_network_does_not_eject_everybody() -> anyhow::Result<()> {
    let mut island = Island::start().await?;
    // To tell a person is what it must do.
    island.gateway.process.expect("network");
    let watch = Watch::start(&island.gateway, GUANGZHOU).await?;
    let data = [island.gateway.data];
    let guangzhou = Wish::new(GUANGZHOU, CALLERS, Mix::WithOnce).start(&data);
    let xian = Wish::new(XIAN, CALLERS, Mix::WithOnce).start(&data);
    guangzhou.proceeds(STEADY).await?;
    let fault = Instant::now();
    island.cut(true)?;
    // Every node is doubted.
    let mut left = std::time::Duration::ZERO;
    for node in &island.nodes {
        let doubted = |o: &suiyue_tests::watch::Opinion| o.endpoints.values().any(|e| e.0 != Health::Ok);
        left = left.max(watch.until(&node.name, "is doubted", fault, doubted).await?);
    }
    // Long enough for three checks of each to fail: calls fail only by their deadlines meanwhile.
    guangzhou.proceeds(6 * CALLERS as u64).await?;
    xian.proceeds(CALLERS as u64).await?;
    let end = Instant::now();
    island.cut(false)?;
    guangzhou.reaches("city", STEADY).await?;
    xian.reaches("xian", STEADY / 4).await?;
    let returned = end.elapsed();
    let (report, others) = (guangzhou.stop().await?, xian.stop().await?);

    let counts = executions_of(&island.nodes);
    let felt = Felt { at: "city", from: Some(fault), until: Some(end) };
    let mut row = Row { fault: "gateway's network cut".to_owned(), ..Row::default() };
    fill(&mut row, &report, &counts, felt);
    (row.left, row.returned) = (Some(left), Some(returned));
    row.print()?;
    let mut xian_row = Row::default();
    fill(&mut xian_row, &others, &counts, felt);
    ensure!(row.doubled + xian_row.doubled == 0, "calls were executed twice: {row} {xian_row}");
    let ejected: BTreeSet<_> = island
        .nodes
        .iter()
        .filter(|node| !watch.offences(&node.name, suiyue_tests::watch::Opinion::nobody_ejected).is_empty())
        .map(|node| node.name.as_str())
        .collect();
    ensure!(ejected.len() <= 2, "more than half of four nodes were ejected: {ejected:?}");
    let log = island.gateway.process.log();
    ensure!(log.contains("own network"), "nobody is told that the gateway's own network is suspect");
    Ok(())
}

fn executions_of(nodes: &[Node]) -> HashMap<String, u32> {
    let mut counts = HashMap::new();
    nodes.iter().for_each(|node| node.executions().count_into(&mut counts));
    counts
}
