//! Which command line does `suiyue shift` take?

use super::{Account, Ask};
use clap::{Args, Subcommand, ValueEnum};
use std::{path::PathBuf, str::FromStr};
use suiyue_proto::{method::Class, region::Code};

/// `suiyue shift`.
#[derive(Debug, Subcommand)]
pub enum Shift {
    /// Say what a shift would do, and what stands in its way. Changes nothing.
    Plan(PlanShift),
    /// Begin a shift as it was planned.
    Apply(ApplyShift),
    /// Say that somebody else may apply a plan.
    Approve(ApproveShift),
    /// Say which shifts run, and where each stands.
    #[command(after_help = "Example:
  suiyue shift status")]
    Status {
        /// Which gateway to ask.
        #[command(flatten)]
        ask: Ask,
        /// Only those of this region.
        #[arg(long, env = "SUIYUE_REGION", value_name = "CODE")]
        region: Option<Code>,
        /// Also those that have ended.
        #[arg(long, env = "SUIYUE_ENDED")]
        ended: bool,
    },
    /// Say which shifts there ever were, newest first.
    #[command(after_help = "Example:
  suiyue shift history --region 440100")]
    History {
        /// Which gateway to ask.
        #[command(flatten)]
        ask: Ask,
        /// Only those of this region.
        #[arg(long, env = "SUIYUE_REGION", value_name = "CODE")]
        region: Option<Code>,
    },
    /// Let a shift neither grow nor shrink.
    #[command(after_help = "Example:
  suiyue shift hold 0199c1-5d --reason 'yuekang answers slowly'")]
    Hold(ChangeShift),
    /// Let a held shift go on from where it is.
    #[command(after_help = "Example:
  suiyue shift resume 0199c1-5d --reason 'yuekang is well'")]
    Resume(ChangeShift),
    /// Let a shift last longer, or end sooner.
    #[command(after_help = "Example:
  suiyue shift extend 0199c1-5d --ttl-s 14400 --reason 'the repair takes longer'")]
    Extend {
        /// The shift.
        #[command(flatten)]
        change: ChangeShift,
        /// It begins to walk back in so many seconds, at most 72 h.
        #[arg(long, env = "SUIYUE_TTL_S", value_name = "S")]
        ttl_s: u32,
    },
    /// Let a shift walk back, step by step.
    Cancel(CancelShift),
    /// Restore what was before a shift, as fast as its source has room.
    #[command(after_help = "Example:
  suiyue shift rollback 0199c1-5d --reason 'it made things worse'

The shift that it replaced runs again if that still has time; else none does.")]
    Rollback(ChangeShift),
}

/// A target with its weight: `yuekang`, or `yuekang:2`.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The node.
    pub node: String,
    /// Relative to other targets.
    pub weight: f64,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (node, weight) = text.split_once(':').unwrap_or((text, "1"));
        let weight = weight.parse().map_err(|_| format!("{weight:?} is no number: NODE or NODE:WEIGHT"))?;
        Ok(Self { node: node.to_owned(), weight })
    }
}

/// What happens when a guard is breached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnBreach {
    /// The shift stays where it is.
    Hold,
    /// It goes back at once.
    Rollback,
}

/// What a shift moves, which steps it takes, and what holds it.
#[derive(Debug, Args)]
pub struct Moved {
    /// The region whose calls move.
    #[arg(long, env = "SUIYUE_REGION", value_name = "CODE")]
    pub region: Code,
    /// Only calls of this class; may be repeated. Absent: all.
    #[arg(long = "class", env = "SUIYUE_CLASSES", value_name = "CLASS", value_delimiter = ',')]
    pub classes: Vec<Class>,
    /// The node that they leave.
    #[arg(long, env = "SUIYUE_FROM", value_name = "NODE")]
    pub from: String,
    /// Where they go; may be repeated.
    #[arg(long, env = "SUIYUE_TO", value_name = "NODE[:WEIGHT]", value_delimiter = ',', required = true)]
    pub to: Vec<Target>,
    /// How much of what the node has moves in the end: above 0, at most 100.
    #[arg(long, env = "SUIYUE_PERCENT", value_name = "N", allow_negative_numbers = true)]
    pub percent: f64,
    /// Points by which it grows at a time; default 10.
    #[arg(long, env = "SUIYUE_STEP", value_name = "POINTS")]
    pub step: Option<f64>,
    /// Seconds between two steps; 0: all at once; default 30.
    #[arg(long, env = "SUIYUE_EVERY_S", value_name = "S")]
    pub every_s: Option<u32>,
    /// No target above this part of its declared capacity; default 0.80.
    #[arg(long, env = "SUIYUE_MAX_UTILIZATION", value_name = "PART")]
    pub max_utilization: Option<f64>,
    /// Points by which more calls of a target may fail than before; default 2.
    #[arg(long, env = "SUIYUE_ERROR_DELTA", value_name = "POINTS")]
    pub error_delta: Option<f64>,
    /// By how much longer a target's p99 may be than before; default 2.
    #[arg(long, env = "SUIYUE_P99_FACTOR", value_name = "FACTOR")]
    pub p99_factor: Option<f64>,
    /// What a breached guard does.
    #[arg(long, env = "SUIYUE_ON_BREACH", value_name = "WHAT", default_value = "hold")]
    pub on_breach: OnBreach,
}

/// `suiyue shift plan`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue shift plan --region 440100 --from suikang --to yuekang --percent 30 --reason 'suikang is slow'
  suiyue shift plan --region 440100 --from suikang --to yuekang:2 --to foshan --percent 30 --at-rps 4000
  suiyue shift plan --region 440100 --from suikang --to yuekang --percent 30 --out shift.json

The file of --out (the same as -o json prints) is what `shift apply` and `shift approve` take.
Exit code 3: a guard refuses the plan, with the number that refused it.")]
pub struct PlanShift {
    /// Which gateway to ask.
    #[command(flatten)]
    pub ask: Ask,
    /// What moves, and how.
    #[command(flatten)]
    pub moved: Moved,
    /// It begins to walk back after so many seconds, at most 72 h; default 2 h.
    #[arg(long, env = "SUIYUE_TTL_S", value_name = "S")]
    pub ttl_s: Option<u32>,
    /// Why, for those who come after.
    #[arg(long, env = "SUIYUE_REASON", value_name = "TEXT")]
    pub reason: Option<String>,
    /// The incident that it belongs to.
    #[arg(long, env = "SUIYUE_INCIDENT", value_name = "TEXT")]
    pub incident: Option<String>,
    /// Suppose so many calls a second of the region; default: those of now.
    #[arg(long, env = "SUIYUE_AT_RPS", value_name = "N", default_value_t = 0.0)]
    pub at_rps: f64,
    /// Go without the load of this gateway, which does not answer; may be repeated.
    #[arg(long, env = "SUIYUE_WITHOUT", value_name = "GATEWAY", value_delimiter = ',')]
    pub without: Vec<String>,
    /// Write the plan into this file.
    #[arg(long, env = "SUIYUE_OUT", value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `suiyue shift apply`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue shift apply shift.json --dry-run
  suiyue shift apply shift.json --reason 'suikang is slow'

Exit code 3: refused. PLAN_STALE names the key that has changed since: plan again.
APPROVAL_NEEDED: another person runs `suiyue shift approve shift.json` first.")]
pub struct ApplyShift {
    /// Which gateway to ask.
    #[command(flatten)]
    pub ask: Ask,
    /// The plan.
    #[arg(value_name = "FILE")]
    pub plan: PathBuf,
    /// Although a guard refuses it; needs an approval.
    #[arg(long, env = "SUIYUE_FORCE")]
    pub force: bool,
    /// Check everything, but write nothing.
    #[arg(long, env = "SUIYUE_DRY_RUN")]
    pub dry_run: bool,
    /// Who, and why.
    #[command(flatten)]
    pub account: Account,
}

/// `suiyue shift approve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue shift approve shift.json --dry-run
  suiyue shift approve shift.json --actor wang --reason 'seen with li'

It prints what is approved. The approval is for this plan, once, within ten minutes, and not for who gave
it.")]
pub struct ApproveShift {
    /// Which gateway to ask.
    #[command(flatten)]
    pub ask: Ask,
    /// The plan.
    #[arg(value_name = "FILE")]
    pub plan: PathBuf,
    /// Check everything, but write nothing.
    #[arg(long, env = "SUIYUE_DRY_RUN")]
    pub dry_run: bool,
    /// Who, and why.
    #[command(flatten)]
    pub account: Account,
}

/// What every verb takes that changes one shift.
#[derive(Debug, Args)]
pub struct ChangeShift {
    /// Which gateway to ask.
    #[command(flatten)]
    pub ask: Ask,
    /// The shift, by its id or a beginning of it that no other one has.
    #[arg(value_name = "ID")]
    pub id: String,
    /// Check everything, but write nothing.
    #[arg(long, env = "SUIYUE_DRY_RUN")]
    pub dry_run: bool,
    /// Who, and why.
    #[command(flatten)]
    pub account: Account,
}

/// `suiyue shift cancel`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue shift cancel 0199c1-5d --reason 'suikang is well'
  suiyue shift cancel --all --reason 'the incident is over'")]
pub struct CancelShift {
    /// Which gateway to ask.
    #[command(flatten)]
    pub ask: Ask,
    /// The shift, by its id or a beginning of it that no other one has.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub id: Option<String>,
    /// Every shift that runs.
    #[arg(long, env = "SUIYUE_ALL")]
    pub all: bool,
    /// Check everything, but write nothing.
    #[arg(long, env = "SUIYUE_DRY_RUN")]
    pub dry_run: bool,
    /// Who, and why.
    #[command(flatten)]
    pub account: Account,
}

/// `suiyue completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(suiyue completions bash)
  suiyue completions zsh > ~/.zfunc/_suiyue
  suiyue completions fish > ~/.config/fish/completions/suiyue.fish")]
pub struct Completions {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}
