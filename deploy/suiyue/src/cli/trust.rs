//! Which command line does `suiyue trust` take?

use super::{Account, Ask};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use suiyue_proto::{
    identity::{Role, SpiffeId},
    region::Code,
};

const EXAMPLES: &str = "\
A federation has one anchor, which is kept offline, and an authority for every province. The anchor signs,
for each province, whose certificates count and for which region codes; that record is published through
any gateway, which verifies the signature and needs no secret for it.

Examples:
  suiyue trust init --federation lingnan --province 440000         anchor, authority and record of Guangdong
  suiyue trust issue gateway --province 440000 --name gw-1
  suiyue trust issue node --region 440100 --name suikang
  suiyue trust issue operator --province 440000 --name li --role operator
  suiyue trust publish trust/trust-44.record --cert trust/li.pem --key trust/li.key --trust trust/ca-44.pem
  suiyue trust revoke --province 440000 --id spiffe://lingnan/region/440100/node/suikang
  suiyue trust show trust/*.pem trust/*.record";

/// `suiyue trust`.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Trust {
    /// Make the federation's anchor, or take the one that is there, and a province's authority and record.
    Init(Init),
    /// Issue a certificate to a node, a gateway, an operator or an app.
    Issue(Issue),
    /// Show certificates and records.
    Show(Show),
    /// Take identities or certificates of a province out, by a new record.
    Revoke(Revoke),
    /// Bring a record to the registry, through a gateway.
    Publish(Publish),
}

/// `suiyue trust init`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue trust init --federation lingnan --province 440000
  suiyue trust init --federation lingnan --province 610000       another province, with the same anchor

Writes into --dir: anchor.key (keep it offline), ca-44.key (keep it offline, too), ca-44.pem,
trust-44.record; prints the [trust] section for every gateway. Keys are readable by you only.")]
pub struct Init {
    /// Name of the federation: a-z, 0-9, '-' and '.'.
    #[arg(long, env = "SUIYUE_FEDERATION", value_name = "NAME")]
    pub federation: String,
    /// The province, by its region code.
    #[arg(long, env = "SUIYUE_PROVINCE", value_name = "CODE")]
    pub province: Code,
    /// Its nodes' region codes begin with one of these; default: the province's two digits.
    #[arg(long, env = "SUIYUE_CODE_PREFIXES", value_name = "DIGITS", value_delimiter = ',')]
    pub code_prefixes: Vec<String>,
    /// The authority's certificate ends after so many days.
    #[arg(long, env = "SUIYUE_DAYS", value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
    /// Where.
    #[command(flatten)]
    pub place: Place,
}

/// Where keys are.
#[derive(Debug, Args)]
pub struct Place {
    /// Directory of anchor and authorities.
    #[arg(long, env = "SUIYUE_TRUST_DIR", value_name = "DIR", default_value = "trust")]
    pub dir: PathBuf,
    /// Replace keys and certificates that are there.
    #[arg(long, env = "SUIYUE_FORCE")]
    pub force: bool,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A code system.
    Node,
    /// A gateway.
    Gateway,
    /// Who operates gateways.
    Operator,
    /// Who calls the data port.
    App,
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OperatorRole {
    /// Look.
    Viewer,
    /// Look and change.
    Operator,
    /// Look, change and approve.
    Approver,
}

impl From<OperatorRole> for Role {
    fn from(role: OperatorRole) -> Self {
        match role {
            OperatorRole::Viewer => Self::Viewer,
            OperatorRole::Operator => Self::Operator,
            OperatorRole::Approver => Self::Approver,
        }
    }
}

/// `suiyue trust issue`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue trust issue node --region 440100 --name suikang --days 30
  suiyue trust issue gateway --province 440000 --name gw-1 --host gw-1.example.cn
  suiyue trust issue operator --province 440000 --name li --role approver
  suiyue trust issue app --province 440000 --name gate-7

Writes NAME.pem and NAME.key (mode 0600) into --out, which is --dir by default.")]
pub struct Issue {
    /// Whom for.
    #[arg(value_name = "KIND")]
    pub kind: Kind,
    /// Its name: 1 to 63 of a-z, 0-9 and '-'.
    #[arg(long, env = "SUIYUE_NAME", value_name = "NAME")]
    pub name: String,
    /// Of a node: its own region.
    #[arg(long, env = "SUIYUE_REGION", value_name = "CODE", required_if_eq("kind", "node"))]
    pub region: Option<Code>,
    /// Whose authority issues it; of a node: the province that its region lies in.
    #[arg(long, env = "SUIYUE_PROVINCE", value_name = "CODE", required_unless_present = "region")]
    pub province: Option<Code>,
    /// Of an operator: what they may do.
    #[arg(long, env = "SUIYUE_ROLE", value_name = "ROLE", default_value = "viewer")]
    pub role: OperatorRole,
    /// Names or addresses of hosts, for clients of others that check them; ours do not.
    #[arg(long, env = "SUIYUE_HOSTS", value_name = "HOST", value_delimiter = ',')]
    pub host: Vec<String>,
    /// It ends after so many days.
    #[arg(long, env = "SUIYUE_DAYS", value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// Directory for the certificate and its key; default: --dir.
    #[arg(long, env = "SUIYUE_OUT", value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Where the authority is.
    #[command(flatten)]
    pub place: Place,
}

/// `suiyue trust show`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  suiyue trust show trust/suikang.pem trust/trust-44.record")]
pub struct Show {
    /// Certificates (PEM) and records.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Public key of the anchor, to check records with.
    #[arg(long, env = "SUIYUE_ANCHOR", value_name = "HEX")]
    pub anchor: Option<String>,
}

/// `suiyue trust revoke`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  suiyue trust revoke --province 440000 --id spiffe://lingnan/region/440100/node/suikang
  suiyue trust revoke --province 440000 --serial 5f3b0c6e8a91d2347b6c0a1e2d3f4a5b
  suiyue trust publish trust/trust-44.record

Writes a new record with the next serial number; it counts once it is published. An id is out whatever
certificate it shows; a serial number takes out one certificate and leaves its owner a new one.")]
pub struct Revoke {
    /// The province whose record says so.
    #[arg(long, env = "SUIYUE_PROVINCE", value_name = "CODE")]
    pub province: Code,
    /// Ids that are out.
    #[arg(long, env = "SUIYUE_REVOKE_IDS", value_name = "SPIFFE", value_delimiter = ',', required_unless_present_any = ["serial", "restore"])]
    pub id: Vec<SpiffeId>,
    /// Serial numbers of certificates that are out, in hexadecimal.
    #[arg(long, env = "SUIYUE_REVOKE_SERIALS", value_name = "HEX", value_delimiter = ',')]
    pub serial: Vec<String>,
    /// Ids that are in again.
    #[arg(long, env = "SUIYUE_RESTORE_IDS", value_name = "SPIFFE", value_delimiter = ',')]
    pub restore: Vec<SpiffeId>,
    /// Directory of anchor and authorities.
    #[arg(long, env = "SUIYUE_TRUST_DIR", value_name = "DIR", default_value = "trust")]
    pub dir: PathBuf,
}

/// `suiyue trust publish`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  suiyue trust publish trust/trust-44.record --gateway 10.0.0.1:8441")]
pub struct Publish {
    /// Which gateway to ask.
    #[command(flatten)]
    pub ask: Ask,
    /// The record, as `trust init` and `trust revoke` write it.
    #[arg(value_name = "FILE")]
    pub record: PathBuf,
    /// Who, and why.
    #[command(flatten)]
    pub account: Account,
}
