//! Which command line does `suiyue route` take?

use super::{Ask, Subject};
use clap::Subcommand;
use std::{fmt, path::PathBuf, str::FromStr};
use suiyue_proto::{method::Class, region::Code};

/// `suiyue route`.
#[derive(Debug, Subcommand)]
pub enum Route {
    /// Explain where calls of one region and class go, and why; also where they would go if.
    #[command(after_help = "Examples:
  suiyue route explain --region 440100 --class scan
  suiyue route explain --region 440100 --class show --subject 04c8dab17da6027c0f3ca6f3af3606fb -o json
  suiyue route explain --region 440100 --what-if node-down=suikang
  suiyue route explain --region 440100 --what-if drain=yuekang --what-if shift.toml

A shift file:
  region = 440100
  from = \"suikang\"
  percent = 10                of what suikang has
  classes = [\"scan\"]          absent: all
  [[to]]
  target = \"yuekang\"
  weight = 1                  relative to other targets; absent: 1

Shares stand after each step of the plan: base (tiers, health, weights), shifted, clamped (what is kept
within the cap), share (with what others hand over). Supposing touches nothing.")]
    Explain {
        /// Which gateway to ask.
        #[command(flatten)]
        ask: Ask,
        /// The region; a county is rolled up as in a call.
        #[arg(long, env = "SUIYUE_REGION", value_name = "CODE")]
        region: Code,
        /// The class: scan, show, query or sync.
        #[arg(long, env = "SUIYUE_CLASS", value_name = "CLASS", default_value = "scan")]
        class: Class,
        /// Also say where this holder's calls go.
        #[arg(long, env = "SUIYUE_SUBJECT", value_name = "HEX")]
        subject: Option<Subject>,
        /// An earlier plan, by the generation in an answer's `suiyue-plan`; 0: the current one. The last
        /// 64 are kept.
        #[arg(long, env = "SUIYUE_PLAN", value_name = "N", default_value_t = 0)]
        plan: u64,
        /// Suppose this too: node-down=NAME, drain=NAME, or a shift file. May be repeated.
        #[arg(long, env = "SUIYUE_WHAT_IF", value_name = "CHANGE")]
        what_if: Vec<WhatIf>,
    },
}

/// One thing to suppose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhatIf {
    /// None of the node's endpoints is in rotation.
    NodeDown(String),
    /// An operator has drained the node.
    Drain(String),
    /// The shift in this file is active.
    Shift(PathBuf),
}

impl FromStr for WhatIf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("node-down", name)) if !name.is_empty() => Ok(Self::NodeDown(name.to_owned())),
            Some(("drain", name)) if !name.is_empty() => Ok(Self::Drain(name.to_owned())),
            None if !text.is_empty() => Ok(Self::Shift(text.into())),
            _ => {
                Err("node-down=NAME, drain=NAME or a shift file (without '=' in its name) is wanted"
                    .to_owned())
            }
        }
    }
}

impl fmt::Display for WhatIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeDown(name) => write!(f, "node-down={name}"),
            Self::Drain(name) => write!(f, "drain={name}"),
            Self::Shift(path) => write!(f, "{}", path.display()),
        }
    }
}
