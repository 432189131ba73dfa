//! `suiyue top` and `suiyue status`.

use super::{Ask, Reach};
use crate::verbs::output::Format;
use clap::Args;

/// `suiyue top`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue top                                             until q or Ctrl-C
  suiyue top --gateway 10.0.0.1:8441,10.0.0.2:8441       calls of both, added up
  suiyue top --sort errors --filter 'guangzhou'
  suiyue top --once                                      one table, as in a pipe
  suiyue top --once -o json

Keys: r n s c u p e w sort by region, node, share, calls, utilization, p99, errors, worst state, once more
turns it round; / filters, Esc forgets the filter; i hides who has nothing to do; space stops the picture;
arrows, PgUp and PgDn scroll; q leaves.
Every gateway of --gateway is asked; one that dies is told above the table, and the others go on. Calls/s,
p99 and errors are those of the last 5 s (--once: of --interval-ms), at the gateways that are asked: name
all of them for the whole federation. p99 is estimated within the buckets of /metrics. Shares are the plan's.
Without a terminal on stdout it prints one table, as with --once.")]
pub struct Top {
    /// Which gateways: all of the list.
    #[command(flatten)]
    pub reach: Reach,
    /// Time between two looks.
    #[arg(long, env = "SUIYUE_INTERVAL_MS", value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(200..=60_000))]
    pub interval_ms: u32,
    /// What to sort by.
    #[arg(long, env = "SUIYUE_SORT", value_name = "COLUMN", default_value = "region")]
    pub sort: By,
    /// Only rows that contain all of these words: a code, a name, a node, a state.
    #[arg(long, env = "SUIYUE_FILTER", value_name = "WORDS", default_value = "")]
    pub filter: String,
    /// Print one table and end.
    #[arg(long, env = "SUIYUE_ONCE")]
    pub once: bool,
    /// Of one look: a table for a person, or a JSON document for a program (which is one look).
    #[arg(short, long, env = "SUIYUE_OUTPUT", value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

/// A column of `suiyue top`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum By {
    /// Region, tier and node.
    #[default]
    Region,
    /// Name of the node.
    Node,
    /// Planned share, largest first.
    Share,
    /// Calls a second, most first.
    Calls,
    /// Part of what the node declared, fullest first.
    Utilization,
    /// p99, longest first.
    P99,
    /// Part of the calls that failed, most first.
    Errors,
    /// State, worst first.
    Worst,
}

/// `suiyue status`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue status
  suiyue status --gateway 10.0.0.1:8441,10.0.0.2:8441    what any of them sees
  suiyue status -o json

Worst first: critical (calls are refused or may be soon), warning (something is broken, and others carry
it), notice (somebody wants it so, or it passes). It takes a second: errors are those of that second.
Exit code 0 when nothing is worse than a notice, 1 when something is, or when no gateway answers.")]
pub struct Status {
    /// Which gateways to ask: all of the list.
    #[command(flatten)]
    pub ask: Ask,
}
