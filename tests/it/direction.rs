//! Do dependencies point the way that the house wants?
//!
//! proto ← gateway, proto ← node; never gateway ↔ node.

use anyhow::Context as _;
use std::{collections::BTreeSet, process::Command};

/// Our other crates that `name` depends on, in whatever kind of dependency. (Tests of a crate may name the
/// crate itself, to have a feature of it.)
fn ours(metadata: &serde_json::Value, name: &str) -> anyhow::Result<BTreeSet<String>> {
    let packages = metadata["packages"].as_array().context("a list of packages")?;
    let names: BTreeSet<_> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let package = packages.iter().find(|p| p["name"] == name).context("no such package")?;
    let dependencies = package["dependencies"].as_array().context("a list of dependencies")?;
    let named = dependencies.iter().filter_map(|d| d["name"].as_str());
    Ok(named.filter(|other| names.contains(other) && *other != name).map(str::to_owned).collect())
}

#[test]
fn gateway_and_node_know_only_the_contract() -> anyhow::Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let proto_only = BTreeSet::from(["suiyue-proto".to_owned()]);
    assert_eq!(ours(&metadata, "suiyue-proto")?, BTreeSet::new());
    assert_eq!(ours(&metadata, "suiyue-gateway")?, proto_only);
    assert_eq!(ours(&metadata, "suiyue-node")?, proto_only);
    Ok(())
}
