//! `suiyue registry`.

use super::Ask;
use clap::Subcommand;

/// What `suiyue registry` can do.
#[derive(Debug, Subcommand)]
pub enum Registry {
    /// Say how well gateways follow the registry: source, age, what is held, alarms.
    #[command(after_help = "Examples:
  suiyue registry status
  suiyue registry status --gateway 10.0.0.1:8441,10.0.0.2:8441   every one of them
  suiyue registry status -o json

Exit code 1 when a gateway of the list cannot be asked.")]
    Status {
        /// Which gateways to ask: all of the list.
        #[command(flatten)]
        ask: Ask,
    },
    /// Print every key as a gateway reads it.
    #[command(after_help = "Example:
  suiyue registry dump -o json")]
    Dump {
        /// Which gateway to ask.
        #[command(flatten)]
        ask: Ask,
    },
    /// Compare a gateway's table with etcd as it is now, or the tables of several gateways.
    #[command(after_help = "Examples:
  suiyue registry diff                                           the gateway against etcd
  suiyue registry diff --gateway 10.0.0.1:8441,10.0.0.2:8441     the two against each other

Changes that are on their way show, too. Exit code 1 when something differs.")]
    Diff {
        /// One gateway: against etcd. Several: each against the first.
        #[command(flatten)]
        ask: Ask,
    },
    /// Make a gateway apply nothing more of what the registry says, or go on.
    #[command(after_help = "Examples:
  suiyue registry freeze --reason 'etcd is being restored'
  suiyue registry freeze --off
  suiyue registry freeze --off --dry-run                         how many keys the end would change

It is one gateway that freezes, the first of --gateway that can be reached. A freeze lasts until --off
or until the gateway restarts. It is carried out also while etcd cannot be written: the audit then lacks it,
and the gateway's log has it. Health, shares and the failover between nodes go on.")]
    Freeze {
        /// Which gateway.
        #[command(flatten)]
        ask: Ask,
        /// End the freeze: what the registry said meanwhile is applied.
        #[arg(long, env = "SUIYUE_FREEZE_OFF")]
        off: bool,
        /// Why, at most 200 characters: it stands in the audit and in the status.
        #[arg(long, env = "SUIYUE_REASON", value_name = "TEXT", required_unless_present = "off")]
        reason: Option<String>,
        /// Who, for the audit; a certificate wins over this.
        #[arg(long, env = "SUIYUE_ACTOR", value_name = "NAME")]
        actor: Option<String>,
        /// Change nothing, and say what would happen.
        #[arg(long, env = "SUIYUE_DRY_RUN")]
        dry_run: bool,
    },
    /// Apply the absences that a gateway has held back, and believe a restored registry.
    #[command(after_help = "Examples:
  suiyue registry accept --dry-run                               what would go
  suiyue registry accept --reason 'region 440100 is closed'

It is one gateway that accepts, the first of --gateway that can be reached; ask each one.")]
    Accept {
        /// Which gateway.
        #[command(flatten)]
        ask: Ask,
        /// Why, at most 200 characters: it stands in the audit.
        #[arg(long, env = "SUIYUE_REASON", value_name = "TEXT", default_value = "")]
        reason: String,
        /// Who, for the audit; a certificate wins over this.
        #[arg(long, env = "SUIYUE_ACTOR", value_name = "NAME")]
        actor: Option<String>,
        /// Change nothing, and say what would happen.
        #[arg(long, env = "SUIYUE_DRY_RUN")]
        dry_run: bool,
    },
}
