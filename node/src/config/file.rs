//! What may stand in `node.toml`?
//!
//! Every field is commented in `deploy/examples/node-suikang.toml`. A value that is checked against
//! others keeps its place in the file.

use serde::Deserialize;
use std::path::PathBuf;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) region: Option<Spanned<u32>>,
    pub(super) name: Option<Spanned<String>>,
    pub(super) endpoint: Option<Spanned<String>>,
    pub(super) role: Option<Spanned<String>>,
    pub(super) scopes: Option<Spanned<Vec<Spanned<u32>>>>,
    pub(super) rps_max: Option<u32>,
    pub(super) listen: Option<Spanned<String>>,
    pub(super) advertise: Option<String>,
    pub(super) data_dir: Option<PathBuf>,
    #[serde(default)]
    pub(super) holders: Vec<Holders>,
    #[serde(default)]
    pub(super) population: Vec<Population>,
    pub(super) join: Option<Spanned<Join>>,
    pub(super) identity: Option<Spanned<Identity>>,
    #[serde(default)]
    pub(super) key: Vec<Key>,
    #[serde(default)]
    pub(super) authority: Vec<Authority>,
    #[serde(default)]
    pub(super) foreign_code_prefixes: Vec<Spanned<String>>,
    pub(super) adapter: Option<Spanned<Adapter>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Holders {
    pub(super) file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Population {
    pub(super) region: Spanned<u32>,
    pub(super) holders: u64,
    #[serde(default = "first_seed")]
    pub(super) seed: u64,
}

fn first_seed() -> u64 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) trust: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Join {
    #[serde(default)]
    pub(super) gateways: Vec<String>,
    pub(super) token: Option<String>,
    pub(super) token_file: Option<Spanned<PathBuf>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub(super) id: Spanned<String>,
    pub(super) public_key: Spanned<String>,
    pub(super) regions: Vec<Spanned<u32>>,
    pub(super) not_before_unix_s: Option<i64>,
    pub(super) not_after_unix_s: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Adapter {
    pub(super) url: Spanned<String>,
    pub(super) mapping: Spanned<PathBuf>,
    pub(super) ca: Option<Spanned<PathBuf>>,
    pub(super) authorization_file: Option<Spanned<PathBuf>>,
    pub(super) timeout_ms: Option<Spanned<u32>>,
    pub(super) in_flight: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Authority {
    pub(super) region: Spanned<u32>,
    pub(super) node: Spanned<String>,
}
