//! How does a test start a node?
//!
//! Two kinds: the real code system (`suiyue node`) and the node of the test service (`testnode`),
//! which keeps a journal of what it executed. Both register at the gateways that the builder names. A
//! restarted node has a new port and the same journal.

use crate::{
    client,
    echo::Executions,
    gateway::ready,
    netns::Namespace,
    process::Process,
    programs,
    v1::{Faults, fault_service_client::FaultServiceClient},
};
use anyhow::Context as _;
use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};
use tempfile::TempDir;

/// Holders of each region in a real node's generated population.
pub const HOLDERS: u64 = 1_000;
/// Seed of that population.
pub const SEED: u64 = 1;

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Codes,
    Echo,
}

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct Builder {
    kind: Kind,
    name: String,
    region: u32,
    role: &'static str,
    scopes: Vec<u32>,
    gateways: Vec<SocketAddr>,
    token: String,
    listen: SocketAddr,
    delay_ms: u32,
    durable: bool,
    endpoint: u32,
    rps_max: Option<u32>,
    tables: Option<String>,
    data_dir: Option<PathBuf>,
    namespace: Option<Arc<Namespace>>,
    identity: String,
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// The process.
    pub process: Process,
    /// Where it serves.
    pub address: SocketAddr,
    /// Executions that its killed lives never ended, as a test has counted them.
    pub left_behind: usize,
    /// Where the test service's switch for faults is.
    switch: Option<SocketAddr>,
    builder: Builder,
    dir: TempDir,
}

impl Builder {
    fn new(kind: Kind, name: &str, region: u32) -> Self {
        let role = if region.is_multiple_of(10_000) { "province" } else { "city" };
        Self {
            kind,
            name: name.to_owned(),
            region,
            role,
            scopes: vec![region],
            gateways: Vec::new(),
            token: token(region),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            delay_ms: 0,
            durable: false,
            endpoint: 1,
            rps_max: None,
            tables: None,
            data_dir: None,
            namespace: None,
            identity: String::new(),
        }
    }

    /// The code system has this `[identity]`, and joins by it alone.
    #[must_use]
    pub fn identity(mut self, section: &str) -> Self {
        section.clone_into(&mut self.identity);
        self
    }

    /// It answers for these regions too.
    #[must_use]
    pub fn scopes(mut self, more: &[u32]) -> Self {
        self.scopes.extend_from_slice(more);
        self
    }

    /// It registers at the first of these control ports that takes it.
    #[must_use]
    pub fn gateways(mut self, control: &[SocketAddr]) -> Self {
        self.gateways = control.to_vec();
        self
    }

    /// It shows this join token instead of its region's.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        token.clone_into(&mut self.token);
        self
    }

    /// The test service waits so long in every handler.
    #[must_use]
    pub fn delay_ms(mut self, delay_ms: u32) -> Self {
        self.delay_ms = delay_ms;
        self
    }

    /// It is this endpoint of its node, of several processes with one name.
    #[must_use]
    pub fn endpoint(mut self, number: u32) -> Self {
        self.endpoint = number;
        self
    }

    /// The code system declares that it carries so many calls a second.
    #[must_use]
    pub fn rps_max(mut self, rps: u32) -> Self {
        self.rps_max = Some(rps);
        self
    }

    /// The code system has these tables in its file instead of a generated population.
    #[must_use]
    pub fn tables(mut self, toml: &str) -> Self {
        self.tables = Some(toml.to_owned());
        self
    }

    /// The code system keeps its log and its keys in this directory.
    #[must_use]
    pub fn keys_of(mut self, data_dir: &Path) -> Self {
        self.data_dir = Some(data_dir.to_owned());
        self
    }

    /// It runs in a network of its own and listens there. Nothing outside can switch its faults, and it
    /// reaches no registrar.
    #[must_use]
    pub fn within(mut self, namespace: &Arc<Namespace>) -> Self {
        self.listen = SocketAddr::new(namespace.inside(), 0);
        self.namespace = Some(namespace.clone());
        self
    }

    /// The code system keeps its log in its directory.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Starts it and waits until it serves (which is before a gateway knows it).
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(self) -> anyhow::Result<Node> {
        let dir = TempDir::new()?;
        let (process, address, switch) = self.launch(dir.path()).await?;
        Ok(Node { name: self.name.clone(), process, address, left_behind: 0, switch, builder: self, dir })
    }

    async fn launch(&self, dir: &Path) -> anyhow::Result<(Process, SocketAddr, Option<SocketAddr>)> {
        let addresses = dir.join("addresses.json");
        let _ = fs::remove_file(&addresses);
        let mut command = match self.kind {
            Kind::Codes => self.code_system(dir)?,
            Kind::Echo => self.test_service(dir),
        };
        command.current_dir(dir).arg("--address-file").arg(&addresses);
        let mut process = Process::spawn(&self.name, &mut command, &dir.join("log"))?;
        let json = ready(&self.name, &mut process, &addresses).await?;
        let address = json["address"].as_str().with_context(|| format!("no address in {json}"))?.parse()?;
        let switch = json["faults"].as_str().map(str::parse).transpose()?;
        Ok((process, address, switch))
    }

    fn code_system(&self, dir: &Path) -> anyhow::Result<Command> {
        let Self { name, region, role, scopes, listen, token, .. } = self;
        let mut text = format!(
            "name = {name:?}\nregion = {region}\nrole = {role:?}\nscopes = {scopes:?}\nlisten = \"{listen}\"\n"
        );
        let data_dir = self.data_dir.clone().or_else(|| self.durable.then(|| dir.join("data")));
        if let Some(data_dir) = data_dir {
            let _ = writeln!(text, "data_dir = {data_dir:?}");
        }
        if let Some(rps) = self.rps_max {
            let _ = writeln!(text, "rps_max = {rps}");
        }
        let populated = if self.tables.is_some() { &[][..] } else { &scopes[..] };
        for region in populated {
            let _ = write!(text, "[[population]]\nregion = {region}\nholders = {HOLDERS}\nseed = {SEED}\n");
        }
        if let Some(tables) = &self.tables {
            let _ = writeln!(text, "{tables}");
        }
        if !self.gateways.is_empty() {
            let gateways: Vec<_> = self.gateways.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "[join]\ngateways = {gateways:?}");
            if self.identity.is_empty() {
                let _ = writeln!(text, "token = {token:?}");
            }
        }
        text.push_str(&self.identity);
        let config = dir.join("node.toml");
        fs::write(&config, text)?;
        let mut command = Command::new(programs::suiyue());
        command.args(["node", "run", "--config"]).arg(config);
        Ok(command)
    }

    fn test_service(&self, dir: &Path) -> Command {
        let program = programs::testnode();
        let mut command = match &self.namespace {
            None => Command::new(program),
            Some(namespace) => namespace.command(&program),
        };
        command
            .args(["--endpoint", &self.endpoint.to_string()])
            .args(["--name", &self.name, "--role", self.role, "--token", &self.token])
            .args(["--region", &self.region.to_string(), "--delay-ms", &self.delay_ms.to_string()])
            .args(["--listen", &self.listen.to_string(), "--journal"])
            .arg(journal(dir));
        if let Some(rps) = self.rps_max {
            command.args(["--rps-max", &rps.to_string()]);
        }
        for scope in &self.scopes {
            command.args(["--scope", &scope.to_string()]);
        }
        for gateway in &self.gateways {
            command.args(["--gateway", &gateway.to_string()]);
        }
        command
    }
}

impl Node {
    /// The real code system with a generated population.
    #[must_use]
    pub fn codes(name: &str, region: u32) -> Builder {
        Builder::new(Kind::Codes, name, region)
    }

    /// The test service.
    #[must_use]
    pub fn echo(name: &str, region: u32) -> Builder {
        Builder::new(Kind::Echo, name, region)
    }

    /// Starts it again, after its process has ended.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        (self.process, self.address, self.switch) = self.builder.launch(self.dir.path()).await?;
        Ok(())
    }

    /// Starts it again on the port it had: somebody's configuration names it.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_there(&mut self) -> anyhow::Result<()> {
        self.builder.listen = self.address;
        self.restart().await
    }

    /// Makes the test service sick in these ways and no others; [`Faults::default`] heals it. Returns
    /// when it is in force. A restart heals, too.
    ///
    /// # Errors
    /// When it is no test service, or its switch does not answer.
    pub async fn arrange(&self, faults: Faults) -> anyhow::Result<()> {
        let switch = self.switch.with_context(|| format!("{} has no switch for faults", self.name))?;
        FaultServiceClient::new(client::channel(switch).await?).arrange(faults).await?;
        Ok(())
    }

    /// What the test service noted so far, over all its lives.
    #[must_use]
    pub fn executions(&self) -> Executions {
        Executions::read(&journal(self.dir.path()))
    }
}

/// The join token of a region in every test federation.
#[must_use]
pub fn token(region: u32) -> String {
    format!("token-of-{region}")
}

fn journal(dir: &Path) -> PathBuf {
    dir.join("journal")
}
