//! Which command line does `suiyue breakglass` take?

use super::{Format, Moved};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `suiyue breakglass`.
#[derive(Debug, Subcommand)]
pub enum Breakglass {
    /// Send a node no more calls of this gateway.
    Drain(BreakNode),
    /// Send a node calls of this gateway although the registry says that it is drained.
    Undrain(BreakNode),
    /// Move a part of a node's calls at this gateway.
    Shift(BreakShift),
    /// End one action or all: drains at once, shifts by the way that they came.
    Cancel(CancelBreak),
    /// Say what is in force at this gateway, and which the other gateways are.
    #[command(after_help = "Example:
  suiyue breakglass list --socket /var/lib/suiyue/breakglass.sock")]
    List {
        /// Where, and how it prints.
        #[command(flatten)]
        at: At,
    },
}

/// Which gateway: that of this machine.
#[derive(Debug, Args)]
pub struct At {
    /// The gateway's socket: `breakglass.sock` in its state directory, if its file names no other.
    #[arg(
        long,
        env = "SUIYUE_BREAKGLASS_SOCKET",
        value_name = "PATH",
        default_value = "/var/lib/suiyue/breakglass.sock"
    )]
    pub socket: PathBuf,
    /// Lines for a person, or a JSON document for a program.
    #[arg(short, long, env = "SUIYUE_OUTPUT", value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

/// What every action takes.
#[derive(Debug, Args)]
pub struct Break {
    /// Where, and how it prints.
    #[command(flatten)]
    pub at: At,
    /// Why: it goes into the audit.
    #[arg(long, env = "SUIYUE_REASON", value_name = "TEXT")]
    pub reason: String,
    /// Who you are, where several people share this account; nobody checks it.
    #[arg(long, env = "SUIYUE_ACTOR", value_name = "NAME")]
    pub actor: Option<String>,
    /// Check everything and show what would happen, but do nothing.
    #[arg(long, env = "SUIYUE_DRY_RUN")]
    pub dry_run: bool,
}

/// How long, and how far an action goes.
#[derive(Debug, Args)]
pub struct Bounds {
    /// It is over after so many seconds, a shift's way back included; at most 30 min.
    #[arg(long, env = "SUIYUE_TTL_S", value_name = "S", default_value_t = 900)]
    pub ttl_s: u32,
    /// Although a node would be too full. That nobody would be left is never overruled.
    #[arg(long, env = "SUIYUE_FORCE")]
    pub force: bool,
}

/// `suiyue breakglass drain` and `undrain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue breakglass drain suikang --reason 'wrong answers, and etcd is away' --dry-run
  suiyue breakglass drain suikang --reason 'wrong answers, and etcd is away'
  suiyue breakglass undrain yuekang --ttl-s 1800 --reason 'suikang is down, yuekang was drained'

It counts at this gateway only, ends by itself, and the audit is told. Exit code 3: refused.")]
pub struct BreakNode {
    /// The node.
    #[arg(value_name = "NODE")]
    pub node: String,
    /// How long, and how far.
    #[command(flatten)]
    pub bounds: Bounds,
    /// Where, why and who.
    #[command(flatten)]
    pub order: Break,
}

/// `suiyue breakglass shift`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  suiyue breakglass shift --region 440100 --from suikang --to yuekang --percent 30 --reason 'suikang is slow'

It counts at this gateway only, instead of a shift of the registry from the same node, and is held when a
guard is breached. Exit code 3: refused, with the number that refused it.")]
pub struct BreakShift {
    /// What moves, and how.
    #[command(flatten)]
    pub moved: Moved,
    /// How long, and how far.
    #[command(flatten)]
    pub bounds: Bounds,
    /// Where, why and who.
    #[command(flatten)]
    pub order: Break,
}

/// `suiyue breakglass cancel`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue breakglass cancel bg-0199c1 --reason 'suikang is well'
  suiyue breakglass cancel --all --reason 'etcd is back'")]
pub struct CancelBreak {
    /// The action, by its id or a beginning of it that no other one has.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub id: Option<String>,
    /// Everything that is in force at this gateway.
    #[arg(long, env = "SUIYUE_ALL")]
    pub all: bool,
    /// Where, why and who.
    #[command(flatten)]
    pub order: Break,
}
