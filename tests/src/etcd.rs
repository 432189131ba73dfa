//! How does a test get an etcd of its own?
//!
//! One process on free ports with its own data directory, gone when dropped. It can be stopped and
//! started again on the same ports with the same data, and asked with `etcdctl`.

use crate::{
    eventually::eventually,
    process::{Process, Signal},
    programs,
};
use anyhow::{Context as _, bail};
use std::{net::TcpListener, process::Command};
use suiyue_proto::identity::Files;
use tempfile::TempDir;

/// A running etcd.
#[derive(Debug)]
pub struct Etcd {
    process: Option<Process>,
    client: u16,
    peer: u16,
    dir: TempDir,
    tls: Option<Tls>,
}

/// Certificates of an etcd that takes nobody without one.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Its own.
    pub server: Files,
    /// The one that `etcdctl` shows, named `root`.
    pub root: Files,
}

impl Etcd {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(None).await
    }

    /// Starts one that takes nobody without a certificate.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn secured(tls: Tls) -> anyhow::Result<Self> {
        Self::start_with(Some(tls)).await
    }

    async fn start_with(tls: Option<Tls>) -> anyhow::Result<Self> {
        // Another program may take a free port before etcd does: then try others.
        let mut last = None;
        for _ in 0..5 {
            let [client, peer] = free_ports()?;
            let mut etcd = Self { process: None, client, peer, dir: TempDir::new()?, tls: tls.clone() };
            match etcd.resume().await {
                Ok(()) => return Ok(etcd),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("tried at least once")?)
    }

    /// Starts it again on its data.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn resume(&mut self) -> anyhow::Result<()> {
        let (client, peer) = (self.endpoint(), format!("http://127.0.0.1:{}", self.peer));
        let mut command = Command::new(programs::etcd());
        command
            .arg("--data-dir")
            .arg(self.dir.path().join("data"))
            .args(["--name", "one", "--log-level", "error", "--unsafe-no-fsync"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")]);
        if let Some(Tls { server, .. }) = &self.tls {
            command.arg("--client-cert-auth").arg("--cert-file").arg(&server.cert);
            command.arg("--key-file").arg(&server.key).arg("--trusted-ca-file").arg(&server.trust);
        }
        let mut process = Process::spawn("etcd", &mut command, &self.dir.path().join("log"))?;
        // Its own error words are not ours to judge; that it serves is.
        process.expect("");
        self.process = Some(process);
        eventually("etcd answers", async || {
            let alive = self.process.as_mut().map_or(Ok(()), Process::alive);
            match alive {
                Ok(()) => self.ctl(&["endpoint", "health"]).await.map(|_| Ok(())),
                Err(ended) => Ok(Err(ended)),
            }
        })
        .await?
    }

    /// Kills it. The data stays.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Sends a signal: STOP freezes it, CONT lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.as_ref().context("etcd was stopped")?.signal(signal)
    }

    /// Where clients reach it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.client)
    }

    /// Runs `etcdctl` and returns what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub async fn ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.ctl_as(self.tls.as_ref().map(|tls| &tls.root), arguments).await
    }

    /// The same, with another certificate.
    ///
    /// # Errors
    /// When it fails.
    pub async fn ctl_as(&self, who: Option<&Files>, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(programs::etcdctl());
        if let Some(Files { cert, key, trust }) = who {
            command.arg("--cert").arg(cert).arg("--key").arg(key).arg("--cacert").arg(trust);
        }
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint(), "--command-timeout=3s"])
            .args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        if !output.status.success() {
            bail!("etcdctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Keys that contain `part`, with the lease each hangs on.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn leases(&self, part: &str) -> anyhow::Result<Vec<(String, i64)>> {
        let keys = self.ctl(&["get", "--prefix", "--keys-only", "/suiyue/"]).await?;
        let mut found = Vec::new();
        for key in keys.lines().filter(|key| key.contains(part)) {
            let json: serde_json::Value =
                serde_json::from_str(&self.ctl(&["get", key, "-w", "json"]).await?)?;
            if let Some(entry) = json["kvs"].get(0) {
                found.push((key.to_owned(), entry["lease"].as_i64().unwrap_or_default()));
            }
        }
        Ok(found)
    }
}

fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
