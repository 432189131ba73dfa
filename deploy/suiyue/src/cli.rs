//! Which command line does the program take?
//!
//! Every flag has a help text and an environment variable; a flag wins over its variable, both win
//! over a configuration file. Values are checked here, so that a wrong one ends with code 2 and the
//! allowed ones named.

mod app;
mod breakglass;
mod console;
mod gateway;
mod node;
mod region;
mod registry;
mod route;
mod shift;
pub mod trust;
mod value;
mod watch;

pub use app::{Account, AddApp, App, Audit};
pub use breakglass::{At, Bounds, Break, BreakNode, BreakShift, Breakglass, CancelBreak};
pub use console::Console;
pub use gateway::{DrainGateway, Gateway, GatewayVerb};
pub use node::{DescribeNode, Drain, Intend, Promote, Suspend, To, Verify};
pub use region::{Describe, DescribeFormat, Region, SetPolicy};
pub use registry::Registry;
pub use route::{Route, WhatIf};
pub use shift::{
    ApplyShift, ApproveShift, CancelShift, ChangeShift, Completions, Moved, OnBreach, PlanShift, Shift,
    Target,
};
pub use value::{Address, Subject};
pub use watch::{By, Status, Top};

use crate::{exit::Usage, load::mix::Mix, verbs::output::Format};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use suiyue_proto::{identity::Files, region::Code};

const EXAMPLES: &str = "\
Examples:
  suiyue demo                                      a whole federation, nothing to install
  suiyue gateway --config gateway.toml             a gateway
  suiyue node --config node.toml                   a node
  suiyue status                                    what is wrong, since when, what is done about it
  suiyue top                                       regions, nodes, shares, calls, p99, errors, live
  suiyue node list                                 who is there, and how healthy
  suiyue node verify 127.0.0.1:9101 --region 440100
                                                   does it keep the contract?
  suiyue route explain --region 440100 --class scan
  suiyue status                                    what is wrong, worst first
  suiyue shift plan --region 440100 --from suikang --to yuekang --percent 30
  suiyue breakglass list                           on a gateway's machine, with or without etcd
  suiyue gateway list                              the gateways, and how each is
  suiyue region describe 440100                    its policy, its nodes, where calls go
  suiyue app list                                  which apps may call what
  suiyue audit tail                                who changed what, and why
  suiyue console token                             an address that opens the web console, once
  suiyue code show --region 440100 --subject 04c8dab17da6027c0f3ca6f3af3606fb
  suiyue code verify 'SY1:440100:…'
  suiyue load --server 127.0.0.1:8440 --rate 2000 --seconds 10

Exit codes: 0 done; 1 failed; 2 wrong command line, configuration or file; 3 refused by a guard;
4 verdict DENY or UNKNOWN (code verify); 130 stopped by Ctrl-C.";

/// Flags that every command takes stand apart from its own.
const LOGGING: &str = "Log";
const IDENTITY: &str = "Certificate, to ask a gateway whose control port wants one";

/// A federated, multi-region code gateway, its nodes, and what to ask and try on them.
#[derive(Debug, Parser)]
#[command(name = "suiyue", version, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    /// How log lines on stderr look.
    #[arg(long, global = true, help_heading = LOGGING, env = "SUIYUE_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Which log lines appear: a level, or levels by module as in `warn,suiyue_gateway=debug`.
    #[arg(long, global = true, help_heading = LOGGING, env = "SUIYUE_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// Who asks.
    #[command(flatten)]
    pub identity: Identity,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Who an operator is, as files in PEM.
#[derive(Debug, Clone, Default, Args)]
pub struct Identity {
    /// Your certificate.
    #[arg(long, global = true, help_heading = IDENTITY, env = "SUIYUE_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Its private key, which only you may be able to read.
    #[arg(long, global = true, help_heading = IDENTITY, env = "SUIYUE_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Certificates of the authorities that vouch for gateways.
    #[arg(long, global = true, help_heading = IDENTITY, env = "SUIYUE_TRUST", value_name = "FILE")]
    pub trust: Option<PathBuf>,
}

impl Identity {
    /// The files; `None`: none is given.
    ///
    /// # Errors
    /// Some are given and some are not.
    pub fn files(self) -> Result<Option<Files>, Usage> {
        match (self.cert, self.key, self.trust) {
            (None, None, None) => Ok(None),
            (Some(cert), Some(key), Some(trust)) => Ok(Some(Files { cert, key, trust })),
            _ => Err(Usage("--cert, --key and --trust come together".to_owned())),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// For a program: one JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one, and it is made once")]
pub enum Command {
    /// Run a gateway, list them, or make one leave.
    Gateway(Gateway),
    /// Run a node, check one, say what is wanted of it, list nodes, or make a population.
    Node(Node),
    /// Say what is wrong, since when, and what is being done about it; worst first.
    Status(Status),
    /// Watch regions and nodes: shares, calls, utilization, p99, errors.
    Top(Top),
    /// List regions, describe one, or set its policy.
    #[command(subcommand)]
    Region(Region),
    /// Look into the registry, and decide what gateways make of it.
    #[command(subcommand)]
    Registry(Registry),
    /// Ask where calls go.
    #[command(subcommand)]
    Route(Route),
    /// Move a part of a node's calls to others, for a time, under guards.
    #[command(subcommand)]
    Shift(Shift),
    /// On a gateway's machine: drain, undrain and shift at this one gateway, with or without etcd.
    #[command(subcommand)]
    Breakglass(Breakglass),
    /// Register apps, and say what each may call.
    #[command(subcommand)]
    App(App),
    /// Read and check the audit: who changed what, and why.
    #[command(subcommand)]
    Audit(Audit),
    /// Open a gateway's web console.
    #[command(subcommand)]
    Console(Console),
    /// Show or verify one code.
    #[command(subcommand)]
    Code(CodeVerb),
    /// Make a federation's anchor and authorities, and issue, show, publish and revoke.
    #[command(subcommand)]
    Trust(trust::Trust),
    /// Call a gateway at a constant rate and say how it went.
    Load(Load),
    /// Start a whole federation here and watch it survive the loss of either system.
    Demo(Demo),
    /// Print what completes this program's command line in a shell.
    Completions(Completions),
}

/// `suiyue gateway run`, or `suiyue gateway`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue gateway --config gateway.toml
  suiyue gateway --listen 127.0.0.1:8440 --etcd http://127.0.0.1:2379 --default-region 440100

A first SIGTERM or Ctrl-C drains (no new calls, those in flight finish), a second one exits at once.")]
pub struct GatewayRun {
    /// Configuration file.
    #[arg(long, env = "SUIYUE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of this gateway in the registry.
    #[arg(long, env = "SUIYUE_ID", value_name = "NAME")]
    pub id: Option<String>,
    /// Data port, for apps.
    #[arg(long, env = "SUIYUE_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Control port, for nodes and operators.
    #[arg(long, env = "SUIYUE_CONTROL", value_name = "HOST:PORT")]
    pub control: Option<String>,
    /// Admin port: /metrics, /ready, /live and the web console.
    #[arg(long, env = "SUIYUE_ADMIN", value_name = "HOST:PORT")]
    pub admin: Option<String>,
    /// Worker threads of the data path; default: one a core.
    #[arg(long, env = "SUIYUE_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub workers: Option<u16>,
    /// Directory for what the next start must know: copies of the registry.
    #[arg(long, value_name = "DIR", env = "SUIYUE_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Region of calls that name none.
    #[arg(long, env = "SUIYUE_DEFAULT_REGION", value_name = "CODE")]
    pub default_region: Option<Code>,
    /// etcd endpoints.
    #[arg(long, env = "SUIYUE_ETCD", value_name = "URL", value_delimiter = ',')]
    pub etcd: Vec<String>,
    /// Prefix of all keys in the registry.
    #[arg(long, env = "SUIYUE_PREFIX", value_name = "PREFIX")]
    pub prefix: Option<String>,
    /// How it is watched over.
    #[command(flatten)]
    pub process: Process,
}

/// What whoever starts the process wants of it.
#[derive(Debug, Clone, Default, Args)]
pub struct Process {
    /// Once ready, write the bound addresses into this file, as JSON.
    #[arg(long, env = "SUIYUE_ADDRESS_FILE", value_name = "FILE")]
    pub address_file: Option<PathBuf>,
    /// Exit at once when stdin ends: the parent holds the other end.
    #[arg(long, env = "SUIYUE_EXIT_WITH_PARENT", hide = true)]
    pub exit_with_parent: bool,
}

/// `suiyue node`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Node {
    /// Without a subcommand: run.
    #[command(flatten)]
    pub run: NodeRun,
    /// Something else than run.
    #[command(subcommand)]
    pub verb: Option<NodeVerb>,
}

/// `suiyue node run`, or `suiyue node`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  suiyue node run --config node.toml")]
pub struct NodeRun {
    /// Configuration file.
    #[arg(long, env = "SUIYUE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on.
    #[arg(long, env = "SUIYUE_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Address that gateways are told; default: the one it listens on.
    #[arg(long, env = "SUIYUE_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Its own region.
    #[arg(long, env = "SUIYUE_NODE_REGION", value_name = "CODE")]
    pub region: Option<Code>,
    /// Its name in the federation.
    #[arg(long, env = "SUIYUE_NODE_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Name of this endpoint within the node.
    #[arg(long, env = "SUIYUE_ENDPOINT", value_name = "NAME")]
    pub endpoint: Option<String>,
    /// Calls a second that it declares to carry.
    #[arg(long, env = "SUIYUE_RPS_MAX", value_name = "N")]
    pub rps_max: Option<u32>,
    /// Control addresses of the gateways that it joins.
    #[arg(long, env = "SUIYUE_JOIN", value_name = "HOST:PORT", value_delimiter = ',')]
    pub join: Vec<Address>,
    /// Directory of the durable log and the keys.
    #[arg(long, env = "SUIYUE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// How it is watched over.
    #[command(flatten)]
    pub process: Process,
}

/// What `suiyue node` can do.
#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// Run a node until SIGTERM or Ctrl-C drains it.
    Run(NodeRun),
    /// List nodes with their endpoints and health, as one gateway sees them.
    #[command(after_help = "Examples:
  suiyue node list
  suiyue node list --region 440100 -o json")]
    List {
        /// Which gateway to ask.
        #[command(flatten)]
        ask: Ask,
        /// Only nodes of this region.
        #[arg(long, env = "SUIYUE_REGION", value_name = "CODE")]
        region: Option<Code>,
    },
    /// Describe a node: what is wanted of it, its endpoints, and the calls that it gets.
    Describe(DescribeNode),
    /// Check whether a node keeps the contract, on its own port.
    Verify(Verify),
    /// Trust a node with more calls: one stage up, or to a stage.
    Promote(Promote),
    /// Trust a node with no calls at all.
    Suspend(Suspend),
    /// Send a node, or some of its endpoints, no new calls.
    Drain(Drain),
    /// Send them calls again.
    Undrain(Drain),
    /// Write a synthetic population, one holder a line, as JSONL.
    #[command(after_help = "Example: suiyue node seed --region 440100 --holders 1000000 --out holders.jsonl")]
    Seed(Seed),
}

/// `suiyue node seed`.
#[derive(Debug, Args)]
pub struct Seed {
    /// Home region of the holders.
    #[arg(long, env = "SUIYUE_REGION", value_name = "CODE")]
    pub region: Code,
    /// How many.
    #[arg(long, env = "SUIYUE_HOLDERS", value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub holders: u64,
    /// The same seed makes the same population.
    #[arg(long, env = "SUIYUE_SEED", value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// The file; it appears when it is complete.
    #[arg(long, env = "SUIYUE_OUT", value_name = "FILE")]
    pub out: PathBuf,
}

/// Which gateway an operator asks.
#[derive(Debug, Args)]
pub struct Reach {
    /// Control addresses of gateways; the first that can be reached answers.
    #[arg(
        long,
        env = "SUIYUE_GATEWAY",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:8441"
    )]
    pub gateway: Vec<Address>,
}

impl Reach {
    /// The addresses as text.
    #[must_use]
    pub fn gateways(&self) -> Vec<String> {
        self.gateway.iter().map(Address::to_string).collect()
    }
}

/// Which gateway an operator asks, and how it prints.
#[derive(Debug, Args)]
pub struct Ask {
    /// Which gateway.
    #[command(flatten)]
    pub reach: Reach,
    /// A table for a person, or a JSON document for a program.
    #[arg(short, long, env = "SUIYUE_OUTPUT", value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

impl Ask {
    /// The addresses as text.
    #[must_use]
    pub fn gateways(&self) -> Vec<String> {
        self.reach.gateways()
    }
}

/// Where apps' calls go.
#[derive(Debug, Args)]
pub struct Server {
    /// Data addresses of gateways (or of nodes); the first that can be reached answers.
    #[arg(
        long,
        env = "SUIYUE_SERVER",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:8440"
    )]
    pub server: Vec<Address>,
    /// File with the app's token; default: calls of nobody.
    #[arg(long, env = "SUIYUE_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl Server {
    /// The addresses as text.
    #[must_use]
    pub fn servers(&self) -> Vec<String> {
        self.server.iter().map(Address::to_string).collect()
    }

    /// The value of `authorization`, where a token is given. It comes from a file, because a command line
    /// can be read by everybody on the machine.
    ///
    /// # Errors
    /// [`Usage`] when the file cannot be read, or holds no token.
    pub fn authorization(&self) -> Result<Option<http::HeaderValue>, Usage> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let wrong = |problem: String| Usage(format!("--token-file {}: {problem}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let value = http::HeaderValue::try_from(format!("Bearer {}", text.trim())).ok();
        let mut value =
            value.filter(|_| !text.trim().is_empty()).ok_or_else(|| wrong("it holds no token".to_owned()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// `suiyue code`.
#[derive(Debug, Subcommand)]
pub enum CodeVerb {
    /// Draw a holder's code in the terminal, and say who served it.
    #[command(after_help = "Example:
  suiyue code show --region 440100 --subject 04c8dab17da6027c0f3ca6f3af3606fb")]
    Show {
        /// Where to ask.
        #[command(flatten)]
        server: Server,
        /// Home region of the holder.
        #[arg(long, env = "SUIYUE_REGION", value_name = "CODE")]
        region: Code,
        /// The holder: 32 hex digits from the region's own sign-in.
        #[arg(long, env = "SUIYUE_SUBJECT", value_name = "HEX")]
        subject: Subject,
        /// Print the code text only.
        #[arg(long, env = "SUIYUE_TEXT", conflicts_with = "output")]
        text: bool,
        /// A drawing for a person, or a JSON document for a program.
        #[arg(short, long, env = "SUIYUE_OUTPUT", value_name = "FORMAT", default_value = "table")]
        output: Format,
    },
    /// Say what a code is worth, and who served it.
    #[command(after_help = "Example:
  suiyue code verify 'SY1:440100:…'
  suiyue code verify --region 440100 'GZ2020:…'    a code of an existing system

Exit codes: 0 for PASS and CAUTION, 4 for DENY and UNKNOWN; -o json tells them apart.")]
    Verify {
        /// Where to ask.
        #[command(flatten)]
        server: Server,
        /// The text read from the QR code.
        #[arg(value_name = "CODE")]
        code: String,
        /// Its region; default: the one that stands in the text, if it is one of ours.
        #[arg(long, env = "SUIYUE_REGION", value_name = "CODE")]
        region: Option<Code>,
        /// Lines for a person, or a JSON document for a program.
        #[arg(short, long, env = "SUIYUE_OUTPUT", value_name = "FORMAT", default_value = "table")]
        output: Format,
    },
}

/// `suiyue load`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue load --rate 2000 --seconds 10
  suiyue load --server 10.0.0.1:8440,10.0.0.2:8440 --mix show=40,scan=50,cross=10 --regions 440100,610100 -o json

Call n is due at start + n / rate, whatever became of the calls before it; its latency counts from
then. Exit code 1 when a call failed or a code just shown got a wrong verdict.")]
pub struct Load {
    /// Where to call.
    #[command(flatten)]
    pub server: Server,
    /// Calls a second.
    #[arg(long, env = "SUIYUE_RATE", value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// For how long, in seconds.
    #[arg(long, env = "SUIYUE_SECONDS", value_name = "S", default_value = "10", value_parser = value::seconds)]
    pub seconds: f64,
    /// Weights of the kinds of calls.
    #[arg(
        long,
        env = "SUIYUE_MIX",
        value_name = "KIND=WEIGHT,…",
        default_value = "show=40,scan=50,cross=10"
    )]
    pub mix: Mix,
    /// Connections, spread over the servers.
    #[arg(long, env = "SUIYUE_CONNECTIONS", value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,
    /// Regions, drawn evenly.
    #[arg(
        long,
        env = "SUIYUE_REGIONS",
        value_name = "CODE,…",
        value_delimiter = ',',
        default_value = "440100,610100"
    )]
    pub regions: Vec<Code>,
    /// Holders of each region, as in the nodes' generated population.
    #[arg(long, env = "SUIYUE_HOLDERS", value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub holders: u64,
    /// Seed of the population, as in the nodes' configuration.
    #[arg(long, env = "SUIYUE_SEED", value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Seed of the calls: the same seed plays the same calls.
    #[arg(long, env = "SUIYUE_CALL_SEED", value_name = "N", default_value_t = 1)]
    pub call_seed: u64,
    /// Calls in flight at most; a call that is due beyond fails at once.
    #[arg(long, env = "SUIYUE_IN_FLIGHT", value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub in_flight: u32,
    /// Timeout of every call in milliseconds; default: its class's (scan 1500, show 3000).
    #[arg(long, env = "SUIYUE_TIMEOUT_MS", value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=600_000))]
    pub timeout_ms: Option<u32>,
    /// Tables for a person, or a JSON document for a program.
    #[arg(short, long, env = "SUIYUE_OUTPUT", value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

/// `suiyue demo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue demo                     a minute, with a live table
  suiyue demo --json --seconds 20 one JSON object on stdout, events on stderr
  suiyue demo --hold              afterwards it keeps running: the web console, your own calls

It plays: normal, Suikang is killed, Suikang returns, Yuekang is killed, Yuekang returns. Exit code 1
when a call failed or a code just shown got a wrong verdict.")]
pub struct Demo {
    /// Length of the play.
    #[arg(long, env = "SUIYUE_SECONDS", value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u32).range(10..=86_400))]
    pub seconds: u32,
    /// Calls a second.
    #[arg(long, env = "SUIYUE_RATE", value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Print one JSON object on stdout at the end; events go to stderr.
    #[arg(long, env = "SUIYUE_JSON")]
    pub json: bool,
    /// After the play, keep everything running until Ctrl-C.
    #[arg(long, env = "SUIYUE_HOLD", conflicts_with = "json")]
    pub hold: bool,
    /// Keep the registry in this etcd instead of in the gateway.
    #[arg(long, env = "SUIYUE_ETCD", value_name = "URL")]
    pub etcd: Option<String>,
    /// Holders of each region.
    #[arg(long, env = "SUIYUE_HOLDERS", value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub holders: u64,
}

#[cfg(test)]
mod tests;
