//! How does one process of the demo live and die?
//!
//! Its stdin is a pipe that we hold open, its stderr a file whose end is shown when it fails. Dropping
//! the child kills and reaps it; if we die without dropping anything, the pipe closes and it exits by
//! itself.

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tokio::time::Instant;

/// A process must be ready within this time.
const READY_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of the log that an error shows.
const LAST_LINES: usize = 12;

/// A running process.
pub(super) struct Child {
    name: &'static str,
    process: std::process::Child,
    log: PathBuf,
    addresses: PathBuf,
}

impl Child {
    /// Starts `suiyue PART --config DIR/NAME.toml`.
    pub(super) fn start(name: &'static str, part: &str, dir: &Path) -> anyhow::Result<Self> {
        let path = |extension: &str| dir.join(format!("{name}.{extension}"));
        let (log, addresses) = (path("log"), path("json"));
        if addresses.exists() {
            // Those of the process before it.
            std::fs::remove_file(&addresses)?;
        }
        let stderr = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(std::env::current_exe().context("the path of this program")?);
        for (variable, _) in std::env::vars_os() {
            // Variables meant for the demo must not change its children.
            if variable.to_string_lossy().starts_with("SUIYUE_") {
                command.env_remove(variable);
            }
        }
        command.arg(part).arg("--config").arg(path("toml"));
        command.arg("--address-file").arg(&addresses).arg("--exit-with-parent");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr);
        let process = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { name, process, log, addresses })
    }

    /// Its addresses, once it is ready. Cancel safe.
    pub(super) async fn ready<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let latest = Instant::now() + READY_WITHIN;
        loop {
            if let Ok(text) = std::fs::read_to_string(&self.addresses) {
                return serde_json::from_str(&text).context("the address file cannot be read");
            }
            self.still_running()?;
            if Instant::now() > latest {
                bail!("{} is not ready after {} s\n{}", self.name, READY_WITHIN.as_secs(), self.last_lines());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// An error with its last log lines when it has ended by itself.
    pub(super) fn still_running(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself ({status})\n{}", self.name, self.last_lines()),
        }
    }

    /// The end of its log.
    pub(super) fn last_lines(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        format!("its last log lines:\n  {}", last.join("\n  "))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill, and reaping it is harmless.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::address_file::Node;

    #[tokio::test]
    async fn a_child_that_ends_by_itself_is_reported_with_its_name() {
        // The program under test is this test's own binary, which does not know the flags.
        let dir = tempfile::tempdir().unwrap();
        let mut child = Child::start("suikang", "node", dir.path()).unwrap();
        let error = child.ready::<Node>().await.unwrap_err().to_string();
        assert!(error.starts_with("suikang ended by itself"), "{error}");
        assert!(error.contains("its last log lines"), "{error}");
    }

    #[tokio::test]
    async fn a_ready_child_tells_its_address() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Child::start("xian", "node", dir.path()).unwrap();
        let address = Node { address: "127.0.0.1:9101".parse().unwrap() };
        crate::serve::address_file::write(&dir.path().join("xian.json"), &address).unwrap();
        assert_eq!(child.ready::<Node>().await.unwrap(), address);
    }
}
