//! What may stand in `mapping.toml`?
//!
//! Every field is commented in `deploy/examples/mapping-guangzhou.toml`.

use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

pub(super) type Words = BTreeMap<String, Spanned<String>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) code_prefixes: Spanned<Vec<Spanned<String>>>,
    pub(super) result: Option<Expected>,
    #[serde(default)]
    pub(super) errors: Words,
    pub(super) levels: Spanned<Words>,
    #[serde(default)]
    pub(super) reasons: Words,
    pub(super) divisions: Spanned<Words>,
    pub(super) show: Show,
    pub(super) verify: Verify,
    pub(super) status: Status,
    pub(super) health: Health,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    pub(super) field: Spanned<String>,
    pub(super) ok: Spanned<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Show {
    pub(super) method: Option<Spanned<String>>,
    pub(super) path: Spanned<String>,
    #[serde(default)]
    pub(super) send: Words,
    pub(super) code: Spanned<String>,
    pub(super) level: Spanned<String>,
    pub(super) issued: Option<Spanned<String>>,
    pub(super) time_unit: Option<Spanned<String>>,
    pub(super) ttl_s: Spanned<u32>,
    pub(super) refresh_after_s: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Verify {
    pub(super) method: Option<Spanned<String>>,
    pub(super) path: Spanned<String>,
    #[serde(default)]
    pub(super) send: Words,
    pub(super) level: Spanned<String>,
    pub(super) reason: Option<Spanned<String>>,
    pub(super) division: Option<Spanned<String>>,
    pub(super) issued: Option<Spanned<String>>,
    pub(super) expires: Option<Spanned<String>>,
    pub(super) time_unit: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Status {
    pub(super) method: Option<Spanned<String>>,
    pub(super) path: Spanned<String>,
    #[serde(default)]
    pub(super) send: Words,
    pub(super) level: Spanned<String>,
    pub(super) decided: Option<Spanned<String>>,
    pub(super) reason: Option<Spanned<String>>,
    pub(super) time_unit: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Health {
    pub(super) path: Spanned<String>,
    pub(super) field: Option<Spanned<String>>,
    pub(super) ok: Option<Spanned<Vec<String>>>,
}
