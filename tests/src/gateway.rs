//! How does a test start a gateway?
//!
//! The builder writes a `gateway.toml` into the gateway's own directory and starts the one binary on
//! ports that the system chooses. A restart keeps the ports: nodes and clients know them.

use crate::{client, eventually::eventually, process::Process, programs};
use anyhow::{Context as _, bail, ensure};
use std::{fmt::Write as _, fs, net::SocketAddr, path::Path, process::Command};
use suiyue_proto::identity::Identity;
use suiyue_proto::v1::{
    Class, DiffRegistryRequest, DumpRegistryRequest, ExplainRouteRequest, ExplainRouteResponse, Health,
    ListNodesRequest, ListNodesResponse, NodeInfo, RegistryStatusRequest, RegistryStatusResponse,
    operator_service_client::OperatorServiceClient,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::{Channel, Endpoint};

/// What a gateway is started with.
#[derive(Debug, Clone)]
pub struct Builder {
    id: String,
    registry: String,
    workers: usize,
    ramp_s: u32,
    top: String,
    tables: String,
    operator: Option<Identity>,
    anonymous: &'static str,
    two_person_above: f64,
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Its id.
    pub id: String,
    /// The process.
    pub process: Process,
    /// Data port: apps.
    pub data: SocketAddr,
    /// Control port: registrar and operator API.
    pub control: SocketAddr,
    /// Admin port: metrics, readiness.
    pub admin: SocketAddr,
    builder: Builder,
    dir: TempDir,
}

impl Builder {
    /// The registry is this etcd.
    #[must_use]
    pub fn etcd(self, endpoint: &str) -> Self {
        self.etcds(&[endpoint.to_owned()])
    }

    /// The registry is the etcd of these members, in this order.
    #[must_use]
    pub fn etcds(mut self, endpoints: &[String]) -> Self {
        self.registry = format!("[registry]\nkind = \"etcd\"\nendpoints = {endpoints:?}\n");
        self
    }

    /// These gateways are asked for their table when there is no other; after [`etcd`](Self::etcd).
    #[must_use]
    pub fn peers(mut self, control: &[SocketAddr]) -> Self {
        let peers: Vec<String> = control.iter().map(ToString::to_string).collect();
        let _ = writeln!(self.registry, "peers = {peers:?}");
        self
    }

    /// The registry is what this section says.
    #[must_use]
    pub fn registry(mut self, section: &str) -> Self {
        section.clone_into(&mut self.registry);
        self
    }

    /// The registry lives inside this gateway.
    #[must_use]
    pub fn embedded(mut self) -> Self {
        self.registry = "[registry]\nkind = \"embedded\"\n".to_owned();
        self
    }

    /// Nodes of `region` may register with `token`.
    #[must_use]
    pub fn join(mut self, region: u32, token: &str) -> Self {
        let _ = write!(self.tables, "[[join]]\nregion = {region}\ntoken = {token:?}\n");
        self
    }

    /// Calls without a region go to `region`.
    #[must_use]
    pub fn default_region(mut self, region: u32) -> Self {
        let _ = writeln!(self.top, "default_region = {region}");
        self
    }

    /// One person moves this part of a region's calls; by default everything here.
    #[must_use]
    pub fn two_person_above(mut self, part: f64) -> Self {
        self.two_person_above = part;
        self
    }

    /// Calls of nobody are refused; by default they are taken here.
    #[must_use]
    pub fn no_anonymous(mut self) -> Self {
        self.anonymous = "deny";
        self
    }

    /// More of `gateway.toml`: tables only.
    #[must_use]
    pub fn toml(mut self, tables: &str) -> Self {
        self.tables.push_str(tables);
        self.tables.push('\n');
        self
    }

    /// It is asked with this certificate, over TLS.
    #[must_use]
    pub fn operated_by(mut self, operator: Identity) -> Self {
        self.operator = Some(operator);
        self
    }

    /// Seconds in which a returning node gets its share back; by default it returns at once here.
    #[must_use]
    pub fn ramp_s(mut self, seconds: u32) -> Self {
        self.ramp_s = seconds;
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(self) -> anyhow::Result<Gateway> {
        let dir = TempDir::new()?;
        let free = "127.0.0.1:0".parse()?;
        let (process, [data, control, admin]) = self.launch(dir.path(), [free; 3]).await?;
        Ok(Gateway { id: self.id.clone(), process, data, control, admin, builder: self, dir })
    }

    async fn launch(
        &self,
        dir: &Path,
        listen: [SocketAddr; 3],
    ) -> anyhow::Result<(Process, [SocketAddr; 3])> {
        let (config, addresses) = (dir.join("gateway.toml"), dir.join("addresses.json"));
        let [data, control, admin] = listen;
        let text = format!(
            "id = {:?}\nstate_dir = \"state\"\nlisten = \"{data}\"\ncontrol = \"{control}\"\nadmin = \"{admin}\"\nworkers = {}\n{}[health]\nramp_s = {}\n[shifts]\ntwo_person_above = {:?}\n[apps]\nanonymous = {:?}\n{}{}",
            self.id,
            self.workers,
            self.top,
            self.ramp_s,
            self.two_person_above,
            self.anonymous,
            self.registry,
            self.tables,
        );
        fs::write(&config, text)?;
        let _ = fs::remove_file(&addresses);
        let mut command = Command::new(programs::suiyue());
        command
            .current_dir(dir)
            .arg("gateway")
            .arg("--config")
            .arg(&config)
            .arg("--address-file")
            .arg(&addresses);
        let mut process = Process::spawn(&self.id, &mut command, &dir.join("log"))?;
        let json = ready(&self.id, &mut process, &addresses).await?;
        let address = |key: &str| -> anyhow::Result<SocketAddr> {
            Ok(json[key].as_str().with_context(|| format!("no {key} in {json}"))?.parse()?)
        };
        Ok((process, [address("data")?, address("control")?, address("admin")?]))
    }
}

impl Gateway {
    /// A gateway with two workers, without a registry.
    #[must_use]
    pub fn builder(id: &str) -> Builder {
        let registry = "[registry]\nkind = \"none\"\n".to_owned();
        Builder {
            id: id.to_owned(),
            registry,
            workers: 2,
            ramp_s: 0,
            top: String::new(),
            tables: String::new(),
            operator: None,
            anonymous: "allow",
            two_person_above: 1.0,
        }
    }

    /// Starts it again on the same ports, after its process has ended.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let listen = [self.data, self.control, self.admin];
        let (process, addresses) = self.builder.launch(self.dir.path(), listen).await?;
        ensure!(addresses == listen, "{} came back on other ports", self.id);
        self.process = process;
        Ok(())
    }

    /// Its own directory, with its state and its log.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What its newest copy of the registry holds, as far as it is text.
    ///
    /// # Errors
    /// When there is none.
    pub fn copy(&self) -> anyhow::Result<String> {
        let files = fs::read_dir(self.dir.path().join("state/registry"))?;
        let mut copies: Vec<_> =
            files.collect::<Result<Vec<_>, _>>()?.iter().map(fs::DirEntry::path).collect();
        copies.retain(|path| path.extension().is_some_and(|kind| kind == "registry"));
        copies.sort();
        let newest = copies.pop().context("no copy yet")?;
        Ok(String::from_utf8_lossy(&fs::read(newest)?).into_owned())
    }

    /// The operator API.
    ///
    /// # Errors
    /// When the control port does not answer.
    pub async fn operator(&self) -> anyhow::Result<OperatorServiceClient<Channel>> {
        let channel = match &self.builder.operator {
            None => client::channel(self.control).await?,
            Some(own) => {
                let endpoint = Endpoint::from_shared(format!("http://{}", self.control))?;
                suiyue_node::identity::connect(own, endpoint).await?
            }
        };
        Ok(OperatorServiceClient::new(channel))
    }

    /// All nodes as this gateway sees them.
    ///
    /// # Errors
    /// When the control port does not answer.
    pub async fn nodes(&self) -> anyhow::Result<ListNodesResponse> {
        Ok(self.operator().await?.list_nodes(ListNodesRequest { region: 0 }).await?.into_inner())
    }

    /// One node as this gateway sees it.
    ///
    /// # Errors
    /// When it does not list the node.
    pub async fn node(&self, name: &str) -> anyhow::Result<NodeInfo> {
        let list = self.nodes().await?;
        let found = list.nodes.iter().find(|node| node.node == name).cloned();
        found.with_context(|| format!("{} does not list {name}: {list:?}", self.id))
    }

    /// Where calls of a region and class go.
    ///
    /// # Errors
    /// When the control port does not answer.
    pub async fn explain(
        &self,
        region: u32,
        class: suiyue_proto::v1::Class,
    ) -> anyhow::Result<ExplainRouteResponse> {
        let request = ExplainRouteRequest { region, class: class.into(), ..Default::default() };
        Ok(self.operator().await?.explain_route(request).await?.into_inner())
    }

    /// The registry as this gateway reads it, one line an entry.
    ///
    /// # Errors
    /// When the control port does not answer.
    pub async fn dump(&self) -> anyhow::Result<Vec<(String, String)>> {
        let dump = self.operator().await?.dump_registry(DumpRegistryRequest {}).await?.into_inner();
        Ok(dump.entries.into_iter().map(|entry| (entry.key, entry.text)).collect())
    }

    /// How well it follows the registry.
    ///
    /// # Errors
    /// When the control port does not answer.
    pub async fn following(&self) -> anyhow::Result<RegistryStatusResponse> {
        Ok(self.operator().await?.registry_status(RegistryStatusRequest {}).await?.into_inner())
    }

    /// Keys by which its table differs from etcd at this moment.
    ///
    /// # Errors
    /// When the control port or etcd does not answer.
    pub async fn differences(&self) -> anyhow::Result<Vec<String>> {
        let answer = self.operator().await?.diff_registry(DiffRegistryRequest {}).await?.into_inner();
        Ok(answer.differences.into_iter().map(|difference| difference.key).collect())
    }

    /// Waits until its table is that of etcd.
    ///
    /// # Errors
    /// The keys that still differ.
    pub async fn agrees(&self) -> anyhow::Result<()> {
        eventually(&format!("the table of {} is that of etcd", self.id), async || {
            let differences = self.differences().await?;
            ensure!(differences.is_empty(), "{differences:?}");
            let held = self.following().await?.held;
            ensure!(held.is_empty(), "{held:?}");
            Ok(())
        })
        .await
    }

    /// Waits until exactly these alarms are raised.
    ///
    /// # Errors
    /// Which are.
    pub async fn alarms(&self, words: &[&str]) -> anyhow::Result<()> {
        eventually(&format!("{} raises {words:?}", self.id), async || {
            let alarms = self.following().await?.alarms;
            let raised: Vec<&str> = alarms.iter().map(|alarm| alarm.alarm.as_str()).collect();
            ensure!(raised == words, "{alarms:?}");
            Ok(())
        })
        .await
    }

    /// What a GET on its admin port says: status and text.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn admin(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let mut socket = tokio::net::TcpStream::connect(self.admin).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("a head and a body")?;
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        Ok((status, body.to_owned()))
    }

    /// Waits until `node` at `address` is in rotation here.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn sees(&self, name: &str, address: SocketAddr) -> anyhow::Result<()> {
        eventually(&format!("{} has {name} at {address} in rotation", self.id), async || {
            let node = self.node(name).await?;
            let address = address.to_string();
            let endpoint = node.endpoints.iter().find(|e| e.address == address);
            let endpoint = endpoint.with_context(|| format!("{:?}", node.endpoints))?;
            let ready = node.static_node || node.scopes.iter().all(|scope| endpoint.ready.contains(scope));
            ensure!(endpoint.health == i32::from(Health::Ok) && ready, "{endpoint:?}");
            // The plan follows the health within milliseconds: calls go by the plan.
            let asked =
                ExplainRouteRequest { region: node.region, class: Class::Scan.into(), ..Default::default() };
            let route = self.operator().await?.explain_route(asked).await?.into_inner();
            let planned = route.candidates.iter().any(|c| c.node == name && !c.excluded && c.health > 0.0);
            ensure!(planned, "{:?}", route.candidates);
            // And every worker takes it over when its turn comes.
            let plan = route.table.context("an answer names its table")?.plan;
            let (_, metrics) = self.admin("/metrics").await?;
            let workers = metrics.lines().filter_map(|line| line.strip_prefix("suiyue_worker_plan{"));
            let plans: Vec<f64> = workers
                .map(|line| line.split(' ').nth(1).context("a number")?.parse().context("a number"))
                .collect::<anyhow::Result<_>>()?;
            ensure!(!plans.is_empty() && plans.iter().all(|at| *at >= plan as f64), "{plan} {plans:?}");
            Ok(())
        })
        .await
    }

    /// Waits until no endpoint at `address` is listed here.
    ///
    /// # Errors
    /// When it stays.
    pub async fn forgets(&self, address: SocketAddr) -> anyhow::Result<()> {
        eventually(&format!("{} forgets {address}", self.id), async || {
            let list = self.nodes().await?;
            let mut endpoints = list.nodes.iter().flat_map(|node| &node.endpoints);
            if let Some(still) = endpoints.find(|endpoint| endpoint.address == address.to_string()) {
                bail!("{still:?}");
            }
            Ok(())
        })
        .await
    }
}

/// Waits for the address file that a process writes when it is ready.
///
/// # Errors
/// When the process ends before.
pub async fn ready(name: &str, process: &mut Process, file: &Path) -> anyhow::Result<serde_json::Value> {
    eventually(&format!("{name} is ready"), async || {
        if let Err(ended) = process.alive() {
            return Ok(Err(ended));
        }
        let text = fs::read(file).context("no address file yet")?;
        Ok(Ok(serde_json::from_slice(&text)?))
    })
    .await?
}
