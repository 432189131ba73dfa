//! Which command line do `suiyue app` and `suiyue audit` take?

use super::{Ask, Reach};
use clap::{Args, Subcommand};
use suiyue_proto::method::Class;

/// Who changes something, and why: it goes into the audit.
#[derive(Debug, Clone, Default, Args)]
pub struct Account {
    /// Why it is changed, for the audit; needed where gateways ask operators for certificates.
    #[arg(long, env = "SUIYUE_REASON", value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who changes it, for the audit; a certificate wins over this.
    #[arg(long, env = "SUIYUE_ACTOR", value_name = "NAME")]
    pub actor: Option<String>,
}

/// `suiyue app`.
#[derive(Debug, Subcommand)]
pub enum App {
    /// Register an app, and print its token.
    Add(AddApp),
    /// List apps with what they may call.
    #[command(after_help = "Example:
  suiyue app list -o json")]
    List {
        /// Which gateway to ask.
        #[command(flatten)]
        ask: Ask,
    },
    /// Describe an app: its grant, whether it is in force, and what became of its calls.
    #[command(after_help = "Example:
  suiyue app describe metro-gates")]
    Describe {
        /// Which gateway to ask.
        #[command(flatten)]
        ask: Ask,
        /// Its name.
        #[arg(value_name = "APP")]
        app: String,
    },
    /// Give an app another token, and print it; the present one stays good for a while.
    #[command(after_help = "Example:
  suiyue app rotate metro-gates --keep-old-s 86400 --reason 'yearly rotation'

The token is printed once and kept nowhere. Exit code 3: refused by the gateway.")]
    Rotate {
        /// Which gateway to ask.
        #[command(flatten)]
        ask: Ask,
        /// Its name.
        #[arg(value_name = "APP")]
        app: String,
        /// The present token stays good for so many seconds; 0: it ends at once.
        #[arg(long, env = "SUIYUE_KEEP_OLD_S", value_name = "S", default_value_t = 86_400, value_parser = clap::value_parser!(u32).range(0..=2_592_000))]
        keep_old_s: u32,
        /// Check everything, but write nothing.
        #[arg(long, env = "SUIYUE_DRY_RUN")]
        dry_run: bool,
        /// Who, and why.
        #[command(flatten)]
        account: Account,
    },
    /// Take everything from an app: its tokens end at once.
    #[command(after_help = "Example:
  suiyue app revoke metro-gates --reason 'token found in a public repository'

The name stays with what it could call; `app add --replace` gives it a new token. Exit code 3: refused by
the gateway.")]
    Revoke {
        /// Which gateway to ask.
        #[command(flatten)]
        ask: Ask,
        /// Its name.
        #[arg(value_name = "APP")]
        app: String,
        /// Forget the app altogether.
        #[arg(long, env = "SUIYUE_DELETE")]
        delete: bool,
        /// Check everything, but write nothing.
        #[arg(long, env = "SUIYUE_DRY_RUN")]
        dry_run: bool,
        /// Who, and why.
        #[command(flatten)]
        account: Account,
    },
}

/// `suiyue app add`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue app add metro-gates --method /suiyue.v1.CodeService/VerifyCode --region 440000 --rps 500
  suiyue app add mini-program --method 'suiyue.v1.CodeService/*' --class show,scan --region '*' --rps 2000 --dry-run

The app sends `authorization: Bearer TOKEN` with every call. The token is printed once and kept nowhere:
the registry has its hash only. With --certificate the app needs no token.
Exit code 3: refused by the gateway.")]
pub struct AddApp {
    /// Which gateway to ask.
    #[command(flatten)]
    pub ask: Ask,
    /// Its name: 1 to 63 characters of a-z, 0-9 and '-'.
    #[arg(value_name = "APP")]
    pub app: String,
    /// What it may call: `/package.Service/Method`, or `package.Service/*` for all of a service.
    #[arg(
        long = "method",
        env = "SUIYUE_METHODS",
        value_name = "PATH",
        value_delimiter = ',',
        required = true
    )]
    pub methods: Vec<String>,
    /// Classes that it may call; default: all.
    #[arg(long = "class", env = "SUIYUE_CLASSES", value_name = "CLASS", value_delimiter = ',')]
    pub classes: Vec<Class>,
    /// Regions that it may ask about; a province stands for its cities too, `*` for all.
    #[arg(
        long = "region",
        env = "SUIYUE_REGIONS",
        value_name = "CODE",
        value_delimiter = ',',
        required = true
    )]
    pub regions: Vec<String>,
    /// Calls a second over all gateways; default: no limit.
    #[arg(long, env = "SUIYUE_RPS", value_name = "N")]
    pub rps: Option<u32>,
    /// Seconds' worth of calls that it may make at once after a quiet time; default: 2.
    #[arg(long, env = "SUIYUE_BURST_S", value_name = "S")]
    pub burst_s: Option<u32>,
    /// Calls in flight over all gateways; default: no limit.
    #[arg(long, env = "SUIYUE_APP_IN_FLIGHT", value_name = "N")]
    pub in_flight: Option<u32>,
    /// The URI that its client certificate proves, instead of a token.
    #[arg(long, env = "SUIYUE_CERTIFICATE", value_name = "URI")]
    pub certificate: Option<String>,
    /// Who it is, for operators.
    #[arg(long, env = "SUIYUE_NOTE", value_name = "TEXT", default_value = "")]
    pub note: String,
    /// Change what an app that is there may call; it keeps its token.
    #[arg(long, env = "SUIYUE_REPLACE")]
    pub replace: bool,
    /// Check everything, but write nothing.
    #[arg(long, env = "SUIYUE_DRY_RUN")]
    pub dry_run: bool,
    /// Who, and why.
    #[command(flatten)]
    pub account: Account,
}

/// `suiyue audit`.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Print the last entries: who changed what, and why.
    #[command(after_help = "Examples:
  suiyue audit tail --last 50
  suiyue audit tail -f")]
    Tail {
        /// Which gateway to ask.
        #[command(flatten)]
        ask: Ask,
        /// So many entries.
        #[arg(long, env = "SUIYUE_LAST", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        last: u32,
        /// Go on with new entries as they come, until Ctrl-C.
        #[arg(short, long, env = "SUIYUE_FOLLOW")]
        follow: bool,
    },
    /// Check the whole chain, and what gateways remember of it.
    #[command(after_help = "Example:
  suiyue audit verify --gateway 10.0.0.1:8441,10.0.0.2:8441

The first gateway that can be reached gives the records; every gateway that is named is asked which head it
remembers on its own disk, so name all of them: who owns the registry can rewrite it, but not their disks.
Exit code 1: the chain is broken (the first bad entry is named), or a gateway cannot be asked.")]
    Verify {
        /// The gateways.
        #[command(flatten)]
        reach: Reach,
        /// A line for a person, or a JSON document for a program.
        #[arg(short, long, env = "SUIYUE_OUTPUT", value_name = "FORMAT", default_value = "table")]
        output: crate::verbs::output::Format,
    },
}
