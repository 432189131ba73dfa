//! Which command line do the verbs take that look at one node, or change what is wanted of it?

use super::{Account, Address, Ask, Format};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use suiyue_proto::region::Code;

/// `suiyue node describe`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  suiyue node describe suikang")]
pub struct DescribeNode {
    /// Which gateway to ask.
    #[command(flatten)]
    pub ask: Ask,
    /// The node.
    #[arg(value_name = "NAME")]
    pub node: String,
}

/// What every verb takes that changes what is wanted of a node.
#[derive(Debug, Args)]
pub struct Intend {
    /// Which gateway to ask.
    #[command(flatten)]
    pub ask: Ask,
    /// The node.
    #[arg(value_name = "NAME")]
    pub node: String,
    /// Check everything and show what would happen, but write nothing.
    #[arg(long, env = "SUIYUE_DRY_RUN")]
    pub dry_run: bool,
    /// Skip stages on the way up, and leave a region with nobody who answers, if it must be; what a guard
    /// refuses needs an approval then.
    #[arg(long, env = "SUIYUE_FORCE")]
    pub force: bool,
    /// Change nothing: say that somebody else may make exactly this change.
    #[arg(long, env = "SUIYUE_APPROVE", conflicts_with = "dry_run")]
    pub approve: bool,
    /// Go without the load of this gateway, which does not answer; may be repeated.
    #[arg(long, env = "SUIYUE_WITHOUT", value_name = "GATEWAY", value_delimiter = ',')]
    pub without: Vec<String>,
    /// Who changes it, and why.
    #[command(flatten)]
    pub account: Account,
}

/// A stage to promote a node to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// Registered, gets no calls.
    Test,
    /// At most 1 % of a region's calls.
    #[value(name = "canary-1")]
    Canary1,
    /// At most 5 %.
    #[value(name = "canary-5")]
    Canary5,
    /// At most 25 %.
    #[value(name = "canary-25")]
    Canary25,
    /// Its full share.
    Active,
}

/// `suiyue node promote`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue node promote shaanxi --to test --region 610000   before it joins: it will get no calls
  suiyue node promote shaanxi --dry-run                    what the next stage would change
  suiyue node promote shaanxi                              one stage up
  suiyue node promote shaanxi --to active --force          all stages at once

Stages: suspended, test, canary-1, canary-5, canary-25, active. Exit code 3: refused, with the reason.")]
pub struct Promote {
    /// What every such verb takes.
    #[command(flatten)]
    pub intend: Intend,
    /// The stage; default: the next one.
    #[arg(long, env = "SUIYUE_TO", value_name = "STAGE")]
    pub to: Option<To>,
    /// Own region of a node that has not joined yet.
    #[arg(long, env = "SUIYUE_REGION", value_name = "CODE")]
    pub region: Option<Code>,
}

/// `suiyue node suspend`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  suiyue node suspend shaanxi

It gets no calls until it is promoted again, from stage test on. For a pause use `node drain`.")]
pub struct Suspend {
    /// What every such verb takes.
    #[command(flatten)]
    pub intend: Intend,
}

/// `suiyue node drain` and `suiyue node undrain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue node drain suikang --reason \"disk full\"     no new calls to any of its endpoints
  suiyue node drain suikang --endpoint suikang-2     none to this one
  suiyue node undrain suikang                        as before, its endpoints too
  suiyue node undrain suikang --endpoint suikang-2")]
pub struct Drain {
    /// What every such verb takes.
    #[command(flatten)]
    pub intend: Intend,
    /// Only this endpoint; may be repeated.
    #[arg(long = "endpoint", env = "SUIYUE_ENDPOINT", value_name = "NAME", value_delimiter = ',')]
    pub endpoints: Vec<String>,
}

/// `suiyue node verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue node seed --region 440100 --holders 1000 --out holders.jsonl
  suiyue node verify 127.0.0.1:9101 --holders holders.jsonl
  suiyue node verify 127.0.0.1:9101 --region 440100                  with the generated population
  suiyue node verify 127.0.0.1:9101 --holders holders.jsonl --load 500 -o json

It calls the node's own port, only about the test holders named. Every point is named, with what was
asked, expected and answered; a failed one shows the request. Exit code 1 when one failed.
A node with certificates lets in gateways only: show one's with --cert, --key and --trust.
Codes whose verdict is known (an old one: expired) stand in a file, one a line:
  {\"region\":440100,\"code\":\"SY1:440100:…\",\"verdict\":\"unknown\",\"reason\":\"code_expired\"}")]
pub struct Verify {
    /// The node's own port.
    #[arg(value_name = "HOST:PORT")]
    pub address: Address,
    /// Test holders with their levels, one a line, as `node seed` writes them.
    #[arg(long, env = "SUIYUE_HOLDERS_FILE", value_name = "FILE")]
    pub holders: Option<PathBuf>,
    /// Without a file: regions whose generated population the node has loaded.
    #[arg(
        long,
        env = "SUIYUE_REGIONS",
        value_name = "CODE",
        value_delimiter = ',',
        required_unless_present = "holders",
        conflicts_with = "holders"
    )]
    pub region: Vec<Code>,
    /// Size of that population.
    #[arg(long, env = "SUIYUE_POPULATION", value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub population: u64,
    /// Seed of that population.
    #[arg(long, env = "SUIYUE_SEED", value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Codes whose verdict is known, one a line.
    #[arg(long, env = "SUIYUE_GOLDEN", value_name = "FILE")]
    pub golden: Option<PathBuf>,
    /// 99 % of the verifications, one after the other, take at most so long.
    #[arg(long, env = "SUIYUE_SCAN_MS", value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub scan_ms: u32,
    /// How many verifications are timed.
    #[arg(long, env = "SUIYUE_CALLS", value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    pub calls: u32,
    /// Also put load on it: in four steps up to so many verifications a second, of test holders' codes.
    #[arg(long, env = "SUIYUE_LOAD", value_name = "RPS", value_parser = clap::value_parser!(u32).range(4..=20_000))]
    pub load: Option<u32>,
    /// How long each of the four steps lasts, in seconds.
    #[arg(long, env = "SUIYUE_LOAD_STEP_S", value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub load_step_s: u32,
    /// A table for a person, or a JSON document for a program.
    #[arg(short, long, env = "SUIYUE_OUTPUT", value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}
