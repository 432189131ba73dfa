//! How does a test start a whole federation?
//!
//! etcd (or the embedded registry of one gateway), then gateways, then nodes that register at them;
//! [`Builder::start`] returns when every gateway has every node in rotation.

use crate::{
    etcd::Etcd,
    gateway::{self, Gateway},
    node::{self, Node, token},
    region,
};
use anyhow::Context as _;
use std::net::SocketAddr;

/// What a federation is made of.
#[derive(Debug)]
pub struct Builder {
    etcd: bool,
    gateways: usize,
    nodes: Vec<node::Builder>,
    adapt: fn(gateway::Builder) -> gateway::Builder,
}

/// A running federation. Gateways go first when it is dropped: one whose nodes die all together rightly
/// says so, as an ERROR. etcd goes last.
#[derive(Debug)]
pub struct Federation {
    /// The gateways.
    pub gateways: Vec<Gateway>,
    /// The nodes, in the order they were named.
    pub nodes: Vec<Node>,
    /// The registry, unless it is embedded.
    pub etcd: Option<Etcd>,
}

impl Builder {
    /// With this node.
    #[must_use]
    pub fn node(mut self, node: node::Builder) -> Self {
        self.nodes.push(node);
        self
    }

    /// With so many gateways over one etcd.
    #[must_use]
    pub fn gateways(mut self, gateways: usize) -> Self {
        self.gateways = gateways;
        self.etcd()
    }

    /// With a real etcd instead of the embedded registry.
    #[must_use]
    pub fn etcd(mut self) -> Self {
        self.etcd = true;
        self
    }

    /// With gateways that are configured further.
    #[must_use]
    pub fn configure(mut self, adapt: fn(gateway::Builder) -> gateway::Builder) -> Self {
        self.adapt = adapt;
        self
    }

    /// Starts everything and waits until every gateway has every node in rotation.
    ///
    /// # Errors
    /// What did not start.
    pub async fn start(self) -> anyhow::Result<Federation> {
        let etcd = if self.etcd { Some(Etcd::start().await?) } else { None };
        let mut federation = Federation { nodes: Vec::new(), gateways: Vec::new(), etcd };
        for number in 1..=self.gateways {
            let mut builder = Gateway::builder(&format!("gw-{number}"));
            builder = match &federation.etcd {
                Some(etcd) => builder.etcd(&etcd.endpoint()),
                None => builder.embedded(),
            };
            for region in [region::GUANGZHOU, region::GUANGDONG, region::XIAN, region::SHAANXI] {
                builder = builder.join(region, &token(region));
            }
            federation.gateways.push((self.adapt)(builder).start().await?);
        }
        let control = federation.control();
        for node in self.nodes {
            federation.nodes.push(node.gateways(&control).start().await?);
        }
        federation.settled().await?;
        Ok(federation)
    }
}

impl Federation {
    /// One gateway with the embedded registry, no nodes yet.
    #[must_use]
    pub fn builder() -> Builder {
        Builder { etcd: false, gateways: 1, nodes: Vec::new(), adapt: |builder| builder }
    }

    /// Waits until every gateway has every node in rotation.
    ///
    /// # Errors
    /// Who does not see whom.
    pub async fn settled(&self) -> anyhow::Result<()> {
        for gateway in &self.gateways {
            for node in &self.nodes {
                gateway.sees(&node.name, node.address).await?;
            }
        }
        Ok(())
    }

    /// Data ports of the gateways.
    #[must_use]
    pub fn data(&self) -> Vec<SocketAddr> {
        self.gateways.iter().map(|gateway| gateway.data).collect()
    }

    /// Control ports of the gateways.
    #[must_use]
    pub fn control(&self) -> Vec<SocketAddr> {
        self.gateways.iter().map(|gateway| gateway.control).collect()
    }

    /// The first gateway.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateways[0]
    }

    /// The etcd.
    ///
    /// # Errors
    /// When the registry is embedded.
    pub fn etcd(&mut self) -> anyhow::Result<&mut Etcd> {
        self.etcd.as_mut().context("this federation has no etcd")
    }

    /// The node of a name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&mut self, name: &str) -> anyhow::Result<&mut Node> {
        self.nodes.iter_mut().find(|node| node.name == name).context("no node of this name")
    }
}
