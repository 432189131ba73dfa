//! Which command line does `suiyue region` take?

use super::{Account, Ask, Reach};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use suiyue_proto::region::Code;

/// `suiyue region`.
#[derive(Debug, Subcommand)]
pub enum Region {
    /// List the regions that somebody serves.
    #[command(after_help = "Example:
  suiyue region list --all")]
    List {
        /// Which gateway to ask.
        #[command(flatten)]
        ask: Ask,
        /// Every region of GB/T 2260, served or not.
        #[arg(long, env = "SUIYUE_ALL")]
        all: bool,
    },
    /// Describe a region: its policy, who may answer for it, and where calls of each class go.
    Describe(Describe),
    /// Replace the policy of a region by a file.
    Set(SetPolicy),
}

/// `suiyue region describe`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue region describe 440100
  suiyue region describe 440100 -o toml > guangzhou.toml     the file that `region set` takes")]
pub struct Describe {
    /// Which gateway to ask.
    #[command(flatten)]
    pub reach: Reach,
    /// The region; a county is rolled up as in a call.
    #[arg(value_name = "CODE")]
    pub region: Code,
    /// Tables for a person, a JSON document for a program, or the policy as a file.
    #[arg(short, long, env = "SUIYUE_OUTPUT", value_name = "FORMAT", default_value = "table")]
    pub output: DescribeFormat,
}

/// What `region describe -o` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DescribeFormat {
    /// For a person.
    Table,
    /// For a program: one document.
    Json,
    /// The policy alone, to be changed and set again.
    Toml,
}

/// `suiyue region set`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue region describe 440100 -o toml > guangzhou.toml
  suiyue region set 440100 -f guangzhou.toml --dry-run
  suiyue region set 440100 -f guangzhou.toml

The file, every field of which may be left out:
  revision = 17               the revision it was read at: only that one is replaced
  two_person_above = 0.2      fraction of the calls whose move needs a second person, 0 to 1
  in_flight_max = 500         calls of the region in flight at one gateway, divided by its workers

  [[peers]]                   a node of another region that may answer
  node = \"chengma\"
  classes = [\"scan\"]          empty: scan only

  [[weights]]                 base shares across tiers; none: the first tier takes all
  node = \"suikang\"
  weight = 50.0

  [classes.scan]              scan, show, query or sync
  max_lag_s = 60              older data is left out while fresher data can be had
  nothing_healthy = \"spread_all\"    spread_all, spread_own or closed

Without `revision` whatever stands there is replaced. An empty file restores the defaults.
Exit codes: 2 the file is wrong (file, line and field are named), 3 refused by the gateway.")]
pub struct SetPolicy {
    /// Which gateway to ask.
    #[command(flatten)]
    pub ask: Ask,
    /// The region; no county.
    #[arg(value_name = "CODE")]
    pub region: Code,
    /// The policy, as `region describe -o toml` prints it; `-`: standard input.
    #[arg(short, long, env = "SUIYUE_FILE", value_name = "FILE")]
    pub file: PathBuf,
    /// Check everything and show what would happen, but write nothing.
    #[arg(long, env = "SUIYUE_DRY_RUN")]
    pub dry_run: bool,
    /// Although a guard refuses it; needs an approval.
    #[arg(long, env = "SUIYUE_FORCE")]
    pub force: bool,
    /// Change nothing: say that somebody else may make exactly this change.
    #[arg(long, env = "SUIYUE_APPROVE", conflicts_with = "dry_run")]
    pub approve: bool,
    /// Go without the load of this gateway, which does not answer; may be repeated.
    #[arg(long, env = "SUIYUE_WITHOUT", value_name = "GATEWAY", value_delimiter = ',')]
    pub without: Vec<String>,
    /// Take names of nodes that are not registered yet, with a warning.
    #[arg(long, env = "SUIYUE_ALLOW_UNREGISTERED")]
    pub allow_unregistered: bool,
    /// Who, and why.
    #[command(flatten)]
    pub account: Account,
}
