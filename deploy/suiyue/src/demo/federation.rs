//! Which processes make up the demo's federation?
//!
//! A gateway with the registry inside it (or in etcd), and four nodes that join it with tokens drawn
//! at random. Everything lives in a temporary directory and on ports that the system picked.

mod config;

use super::{child::Child, screen::Screen, watch::Watch};
use crate::{cli, serve::address_file, verbs::operator::Operator};
use anyhow::{Context as _, bail};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use suiyue_proto::region::Code;
use tempfile::TempDir;

/// Guangzhou, whose systems are killed.
pub(super) const GUANGZHOU: Code = code(440_100);
/// Xi'an, which nobody touches.
pub(super) const XIAN: Code = code(610_100);
const GUANGDONG: Code = code(440_000);
const SHAANXI: Code = code(610_000);
/// Seed of the nodes' population.
pub(super) const POPULATION_SEED: u64 = 1;
const UP_WITHIN: Duration = Duration::from_secs(30);

const fn code(code: u32) -> Code {
    Code::new(code).expect("a region of this demo")
}

/// A node of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum NodeName {
    Suikang,
    Yuekang,
    Xian,
    Shaanxi,
}

impl NodeName {
    pub(super) const ALL: [Self; 4] = [Self::Suikang, Self::Yuekang, Self::Xian, Self::Shaanxi];

    /// Its name in the federation.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Suikang => "suikang",
            Self::Yuekang => "yuekang",
            Self::Xian => "xian",
            Self::Shaanxi => "shaanxi",
        }
    }

    /// Its name for a person.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Suikang => "Suikang",
            Self::Yuekang => "Yuekang",
            Self::Xian => "Xi'an",
            Self::Shaanxi => "Shaanxi",
        }
    }

    const fn region(self) -> Code {
        match self {
            Self::Suikang => GUANGZHOU,
            Self::Yuekang => GUANGDONG,
            Self::Xian => XIAN,
            Self::Shaanxi => SHAANXI,
        }
    }

    fn scopes(self) -> Vec<Code> {
        match self {
            Self::Suikang => vec![GUANGZHOU],
            Self::Yuekang => vec![GUANGDONG, GUANGZHOU],
            Self::Xian => vec![XIAN],
            Self::Shaanxi => vec![SHAANXI, XIAN],
        }
    }
}

/// Where the gateway keeps its state.
fn state(dir: &Path) -> PathBuf {
    dir.join("gateway-state")
}

/// The running processes. Dropping it ends them all and deletes their directory.
pub(super) struct Federation {
    // Fields are dropped in this order: processes before their directory.
    nodes: BTreeMap<NodeName, (Child, SocketAddr)>,
    gateway: Child,
    dir: TempDir,
    /// Addresses of the gateway.
    pub(super) addresses: address_file::Gateway,
}

impl Federation {
    /// Starts everything; the nodes are registering when this returns.
    pub(super) async fn start(flags: &cli::Demo, screen: &Screen) -> anyhow::Result<Self> {
        let dir =
            tempfile::Builder::new().prefix("suiyue-demo-").tempdir().context("a temporary directory")?;
        let tokens = config::Tokens::draw();
        let write = |name: &str, text: String| {
            let path = dir.path().join(format!("{name}.toml"));
            std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
        };
        write("gateway", config::gateway(flags, &tokens, &state(dir.path())))?;
        let mut gateway = Child::start("gateway", "gateway", dir.path())?;
        let addresses: address_file::Gateway = gateway.ready().await?;
        screen.event(&format!(
            "the gateway listens on {} (apps) and {} (operators)",
            addresses.data, addresses.control
        ));
        for name in NodeName::ALL {
            write(name.as_str(), config::node(name, flags.holders, addresses.control, &tokens, dir.path())?)?;
        }
        let mut federation = Self { nodes: BTreeMap::new(), gateway, dir, addresses };
        for name in NodeName::ALL {
            federation.spawn(name).await?;
        }
        Ok(federation)
    }

    /// Starts a node and waits for its address.
    pub(super) async fn spawn(&mut self, name: NodeName) -> anyhow::Result<()> {
        let mut child = Child::start(name.as_str(), "node", self.dir.path())?;
        let address: address_file::Node = child.ready().await?;
        self.nodes.insert(name, (child, address.address));
        Ok(())
    }

    /// Kills a node with SIGKILL and reaps it.
    pub(super) fn kill(&mut self, name: NodeName) -> anyhow::Result<()> {
        match self.nodes.remove(&name) {
            Some((child, _)) => {
                drop(child);
                Ok(())
            }
            None => bail!("{} is not running", name.title()),
        }
    }

    /// An error when a process has ended that nobody killed.
    pub(super) fn still_running(&mut self) -> anyhow::Result<()> {
        self.gateway.still_running()?;
        self.nodes.values_mut().try_for_each(|(child, _)| child.still_running())
    }

    /// Waits until the gateway has all nodes in rotation.
    pub(super) async fn all_up(&mut self, watch: &Watch) -> anyhow::Result<()> {
        for name in NodeName::ALL {
            self.up(name, watch, UP_WITHIN).await?;
        }
        Ok(())
    }

    /// Waits until the gateway has this process of the node in rotation, for all of its scopes.
    pub(super) async fn up(&mut self, name: NodeName, watch: &Watch, within: Duration) -> anyhow::Result<()> {
        let Some((child, address)) = self.nodes.get_mut(&name) else {
            bail!("{} is not running", name.title())
        };
        let wanted = watch.in_rotation(*address, &name.scopes());
        if tokio::time::timeout(within, wanted).await.is_ok() {
            return Ok(());
        }
        child.still_running()?;
        self.gateway.still_running()?;
        bail!(
            "{} is not in rotation after {} s; the gateway says: {}\n{}\nthe gateway, {}",
            name.title(),
            within.as_secs(),
            watch.says(name.as_str()),
            child.last_lines(),
            self.gateway.last_lines()
        )
    }

    /// Prints where everything is, and what to try.
    ///
    /// # Errors
    /// The gateway gives no token for its console.
    pub(super) async fn invite(&self, screen: &Screen, flags: &cli::Demo) -> anyhow::Result<()> {
        let subject = crate::load::subject(GUANGZHOU, flags.holders / 2, POPULATION_SEED);
        let (data, control) = (self.addresses.data, self.addresses.control);
        let metrics = self.addresses.admin;
        let minted = Operator::connect(&[control.to_string()]).await?.mint_console_token("").await?;
        let console = crate::verbs::console::url(&minted.address, &minted.token);
        // As the reader started it: `cargo run` leaves it outside of the PATH.
        let program = std::env::args().next().unwrap_or_else(|| "suiyue".to_owned());
        for line in [
            format!(
                "it keeps running until Ctrl-C: apps {data}, operators {control}, metrics http://{metrics}/metrics"
            ),
            format!("web console, once: {console}"),
            "try:".to_owned(),
            format!("  {program} code show --server {data} --region {GUANGZHOU} --subject {subject}"),
            format!("  {program} node list --gateway {control}"),
            format!("  {program} gateway list --gateway {control}"),
            format!(
                "  {program} breakglass list --socket {}",
                state(self.dir.path()).join("breakglass.sock").display()
            ),
            format!(
                "  {program} route explain --gateway {control} --region {GUANGZHOU} --class scan --subject {subject}"
            ),
        ] {
            screen.plain(&line);
        }
        Ok(())
    }
}
