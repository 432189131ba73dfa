//! Which command line do the verbs take that look at the gateways, or make one leave?

use super::{Account, Ask, GatewayRun};
use clap::{Args, Subcommand};

/// `suiyue gateway`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Gateway {
    /// Without a subcommand: run.
    #[command(flatten)]
    pub run: GatewayRun,
    /// Something else than run.
    #[command(subcommand)]
    pub verb: Option<GatewayVerb>,
}

/// What `suiyue gateway` can do.
#[derive(Debug, Subcommand)]
pub enum GatewayVerb {
    /// Run a gateway until SIGTERM or Ctrl-C drains it.
    Run(GatewayRun),
    /// List the gateways of the registry: addresses, version, uptime, plan, registry age, share of calls.
    #[command(after_help = "Examples:
  suiyue gateway list
  suiyue gateway list -o json

A gateway that does not answer is listed with the reason, as long as the registry knows it.")]
    List {
        /// Which gateway to ask.
        #[command(flatten)]
        ask: Ask,
    },
    /// Make a gateway leave: not ready, GOAWAY, calls in flight finish, and its process ends.
    Drain(DrainGateway),
}

/// `suiyue gateway drain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue gateway drain gw-2 --dry-run
  suiyue gateway drain gw-2 --reason 'a new kernel'

It is looked up at the gateway that is asked, and told at its own control port. It cannot be taken back:
whoever started the gateway starts it again. The last gateway refuses (exit code 3), unless it is forced.")]
pub struct DrainGateway {
    /// Which gateway to ask where the other one is.
    #[command(flatten)]
    pub ask: Ask,
    /// The gateway, by its id.
    #[arg(value_name = "ID")]
    pub id: String,
    /// Although no other gateway is there.
    #[arg(long, env = "SUIYUE_FORCE")]
    pub force: bool,
    /// Check everything, but do nothing.
    #[arg(long, env = "SUIYUE_DRY_RUN")]
    pub dry_run: bool,
    /// Who, and why.
    #[command(flatten)]
    pub account: Account,
}
