//! Which configuration does each process of the demo get?
//!
//! The files that an operator would write, with port 0, an own directory, and join tokens that exist
//! only for this run.

use super::{NodeName, POPULATION_SEED};
use crate::{cli, demo::script};
use anyhow::Context as _;
use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr, path::Path, time::Duration};

/// Join tokens, by node.
pub(super) struct Tokens(BTreeMap<NodeName, String>);

impl Tokens {
    pub(super) fn draw() -> Self {
        Self(NodeName::ALL.map(|name| (name, format!("{:032x}", rand::random::<u128>()))).into())
    }
}

/// The gateway's file.
pub(super) fn gateway(flags: &cli::Demo, tokens: &Tokens, state_dir: &Path) -> String {
    let mut text = format!("id = \"demo\"\nworkers = 1\nstate_dir = {state_dir:?}\n");
    for port in ["listen", "control", "admin"] {
        let _ = writeln!(text, "{port} = \"127.0.0.1:0\"");
    }
    let ramp = script::ramp(Duration::from_secs(u64::from(flags.seconds)));
    let _ = writeln!(text, "\n[health]\nramp_s = {:.3}", ramp.as_secs_f64());
    // Its own callers, and those of `--hold`, are nobody.
    text.push_str(
        "\n[apps]\nanonymous = \"allow\"\n\n[shifts]\ntwo_person_above = 1.0\ncanary_step_s = 0\n\n",
    );
    // Nobody hurries to the console of a demo.
    text.push_str("[console]\ntoken_s = 3600\nsession_s = 43200\n\n[registry]\n");
    match &flags.etcd {
        None => text.push_str("kind = \"embedded\"\n"),
        Some(address) => {
            let url = if address.contains("://") { address.clone() } else { format!("http://{address}") };
            let prefix = format!("/suiyue-demo-{:08x}", rand::random::<u32>());
            let _ = writeln!(text, "kind = \"etcd\"\nendpoints = [{url:?}]\nprefix = {prefix:?}");
        }
    }
    for (name, token) in &tokens.0 {
        let _ = writeln!(text, "\n[[join]]\nregion = {}\ntoken = \"{token}\"", name.region());
    }
    text
}

/// A node's file.
pub(super) fn node(
    name: NodeName,
    holders: u64,
    gateway: SocketAddr,
    tokens: &Tokens,
    dir: &Path,
) -> anyhow::Result<String> {
    let scopes = name.scopes();
    let role = if scopes.len() == 1 { "city" } else { "province" };
    let listed: Vec<_> = scopes.iter().map(ToString::to_string).collect();
    // A JSON string is a TOML string, whatever the path contains.
    let data_dir =
        serde_json::to_string(&dir.join(name.as_str())).context("the temporary directory's name")?;
    let (word, region) = (name.as_str(), name.region());
    let mut text = format!(
        "region = {region}\nname = \"{word}\"\nrole = \"{role}\"\nscopes = [{}]\nlisten = \"127.0.0.1:0\"\ndata_dir = {data_dir}\n",
        listed.join(", ")
    );
    for scope in scopes {
        let _ = writeln!(
            text,
            "\n[[population]]\nregion = {scope}\nholders = {holders}\nseed = {POPULATION_SEED}"
        );
    }
    let token = tokens.0.get(&name).map_or("", String::as_str);
    let _ = writeln!(text, "\n[join]\ngateways = [\"{gateway}\"]\ntoken = \"{token}\"");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(etcd: Option<&str>) -> cli::Demo {
        let etcd = etcd.map(str::to_owned);
        cli::Demo { seconds: 10, rate: 1, json: false, hold: false, etcd, holders: 5 }
    }

    #[test]
    fn a_province_answers_for_its_city_and_has_its_holders() {
        let gateway = "127.0.0.1:1".parse().unwrap();
        let text = node(NodeName::Yuekang, 5, gateway, &Tokens::draw(), Path::new("/tmp/a \"b\"")).unwrap();
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["role"].as_str(), Some("province"));
        assert_eq!(table["population"].as_array().unwrap().len(), 2);
        assert_eq!(table["data_dir"].as_str(), Some("/tmp/a \"b\"/yuekang"));
        assert_eq!(table["join"]["token"].as_str().unwrap().len(), 32);
    }

    #[test]
    fn the_gateway_keeps_the_registry_itself_unless_etcd_is_named() {
        let read = |etcd| {
            gateway(&flags(etcd), &Tokens::draw(), Path::new("/tmp/state")).parse::<toml::Table>().unwrap()
        };
        assert_eq!(read(None)["registry"]["kind"].as_str(), Some("embedded"));
        let table = read(Some("127.0.0.1:2379"));
        assert_eq!(table["registry"]["endpoints"][0].as_str(), Some("http://127.0.0.1:2379"));
        assert_eq!(table["join"].as_array().unwrap().len(), 4);
        assert_eq!(table["apps"]["anonymous"].as_str(), Some("allow"));
    }
}
