//! How does whoever started us learn the ports?
//!
//! With port 0 the system picks them. They are written as JSON into a file that appears complete,
//! under its name, once the process is ready.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::Path};

/// Addresses of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// Data port.
    pub data: SocketAddr,
    /// Control port.
    pub control: SocketAddr,
    /// Admin port.
    pub admin: SocketAddr,
}

/// Address of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Where it listens.
    pub address: SocketAddr,
}

/// Writes the file: first under another name, then renamed, so that a reader never sees half of it.
///
/// # Errors
/// When the directory cannot be written.
pub fn write(path: &Path, addresses: &impl Serialize) -> anyhow::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let text = serde_json::to_string(addresses).context("addresses cannot be written as JSON")?;
    std::fs::write(&partial, text)
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("the address file {} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_appears_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.json");
        write(&path, &Node { address: "127.0.0.1:9101".parse().unwrap() }).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), r#"{"address":"127.0.0.1:9101"}"#);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
