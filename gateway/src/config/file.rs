//! What may stand in `gateway.toml`?
//!
//! Names and types only; unknown fields are refused. What the values mean is checked in [`super`].

use crate::table::Check;
use serde::Deserialize;
use std::path::PathBuf;
use toml::Spanned;

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    pub(super) id: Option<Spanned<String>>,
    pub(super) listen: Option<Spanned<String>>,
    pub(super) control: Option<Spanned<String>>,
    pub(super) admin: Option<Spanned<String>>,
    pub(super) workers: Option<Spanned<usize>>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) default_region: Option<Spanned<u32>>,
    pub(super) subject_key_file: Option<Spanned<PathBuf>>,
    pub(super) registry: Registry,
    pub(super) join: Vec<Join>,
    pub(super) node: Vec<Node>,
    pub(super) method: Vec<Method>,
    pub(super) tls: Option<Tls>,
    pub(super) identity: Option<Identity>,
    pub(super) trust: Option<Trust>,
    pub(super) limits: Limits,
    pub(super) health: Health,
    pub(super) telemetry: Telemetry,
    pub(super) apps: Apps,
    pub(super) console: Console,
    pub(super) shifts: Shifts,
    pub(super) breakglass: Breakglass,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Breakglass {
    pub(super) socket: Option<Spanned<PathBuf>>,
    pub(super) users: Vec<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Console {
    pub(super) token_s: Option<Spanned<u32>>,
    pub(super) session_s: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Shifts {
    pub(super) two_person_above: Option<Spanned<f64>>,
    pub(super) canary_step_s: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Apps {
    /// A word or a list of methods.
    pub(super) anonymous: Option<Spanned<toml::Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Telemetry {
    pub(super) otlp: Option<Spanned<String>>,
    pub(super) trace_ratio: Option<Spanned<f64>>,
    pub(super) access_log: bool,
    pub(super) access_log_ratio: Option<Spanned<f64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Health {
    pub(super) ramp_s: Option<Spanned<f64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Registry {
    pub(super) kind: Option<Kind>,
    pub(super) endpoints: Vec<String>,
    pub(super) prefix: Option<Spanned<String>>,
    pub(super) ca: Option<Spanned<PathBuf>>,
    pub(super) cert: Option<Spanned<PathBuf>>,
    pub(super) key: Option<Spanned<PathBuf>>,
    pub(super) peers: Vec<Spanned<String>>,
}

/// Which registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// etcd.
    Etcd,
    /// In this process: for demo and tests.
    Embedded,
    /// None: static nodes only.
    None,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Join {
    pub(super) region: Spanned<u32>,
    pub(super) token: Option<String>,
    pub(super) token_file: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) name: Spanned<String>,
    pub(super) region: Spanned<u32>,
    pub(super) role: Option<Role>,
    pub(super) scopes: Option<Spanned<Vec<u32>>>,
    pub(super) addresses: Spanned<Vec<String>>,
    #[serde(default)]
    pub(super) health: Check,
    pub(super) rps_max: Option<u32>,
    pub(super) tls: Option<Spanned<bool>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    City,
    Province,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Method {
    pub(super) path: Spanned<String>,
    pub(super) class: Spanned<String>,
    #[serde(default)]
    pub(super) idempotency: Idempotency,
    #[serde(default)]
    pub(super) access: Access,
    #[serde(default)]
    pub(super) shape: Shape,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Idempotency {
    #[default]
    None,
    Idempotent,
    NoSideEffects,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Access {
    #[default]
    Public,
    Authority,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Shape {
    #[default]
    Unary,
    ClientStream,
    ServerStream,
    Bidi,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    pub(super) cert: Spanned<PathBuf>,
    pub(super) key: Spanned<PathBuf>,
    pub(super) trust: Spanned<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trust {
    pub(super) federation: Spanned<String>,
    pub(super) anchor: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) cert: Spanned<String>,
    pub(super) key: Spanned<String>,
    pub(super) client_ca: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) connections: Option<Spanned<usize>>,
    pub(super) in_flight_per_worker: Option<Spanned<usize>>,
    pub(super) streams_per_connection: Option<Spanned<u32>>,
    pub(super) request_bytes: Option<Spanned<usize>>,
}
