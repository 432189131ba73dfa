//! Where are the programs that the tests start?
//!
//! `tests/run` says it in the environment. Without it (a single test started by hand) the binaries
//! beside the test binary are taken, and the tools that an earlier `tests/run` set up.

use std::{env, path::PathBuf};

/// The one binary.
#[must_use]
pub fn suiyue() -> PathBuf {
    built("SUIYUE_BIN", "suiyue")
}

/// The node of the test service.
#[must_use]
pub fn testnode() -> PathBuf {
    built("SUIYUE_TESTNODE", "testnode")
}

/// The etcd server.
#[must_use]
pub fn etcd() -> PathBuf {
    tool("SUIYUE_ETCD_BIN", ".tools/usr/bin/etcd", "etcd")
}

/// The etcd command-line client.
#[must_use]
pub fn etcdctl() -> PathBuf {
    tool("SUIYUE_ETCDCTL", ".tools/usr/bin/etcdctl", "etcdctl")
}

/// A Python with grpcio.
#[must_use]
pub fn python() -> PathBuf {
    tool("SUIYUE_PYTHON", ".venv/bin/python", "python3")
}

/// A browser without a screen.
#[must_use]
pub fn chromium() -> PathBuf {
    tool("SUIYUE_CHROMIUM", "/usr/bin/chromium", "chromium")
}

/// What runs the browser's scripts.
#[must_use]
pub fn node() -> PathBuf {
    tool("SUIYUE_NODE", "/usr/bin/node", "node")
}

/// What these scripts need.
#[must_use]
pub fn node_modules() -> PathBuf {
    tool("SUIYUE_NODE_MODULES", ".tools/browser", ".")
}

/// A file of the crate `tests`.
#[must_use]
pub fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn built(variable: &str, name: &str) -> PathBuf {
    env::var_os(variable).map_or_else(|| beside_test(name), PathBuf::from)
}

/// Test binaries stand in `PROFILE/deps`, the programs in `PROFILE`.
fn beside_test(name: &str) -> PathBuf {
    let here = env::current_exe().unwrap_or_default();
    let deps = here.parent().map(PathBuf::from).unwrap_or_default();
    deps.parent().map_or_else(|| PathBuf::from(name), |profile| profile.join(name))
}

fn tool(variable: &str, local: &str, name: &str) -> PathBuf {
    if let Some(path) = env::var_os(variable) {
        return path.into();
    }
    let local = file(local);
    if local.exists() { local } else { name.into() }
}
