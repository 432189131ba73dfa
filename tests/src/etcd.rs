//! How does a test get an etcd of its own?
//!
//! One process on free ports with its own data directory, gone when dropped. It can be stopped and
//! started again on the same ports with the same data, with none, or with those of a snapshot, and asked
//! with `etcdctl`. [`Cluster`] is three of them.

use crate::{
    eventually::eventually,
    process::{Process, Signal},
    programs,
};
use anyhow::{Context as _, bail};
use std::{fs, net::TcpListener, path::PathBuf, process::Command};
use suiyue_proto::identity::Files;
use tempfile::TempDir;

/// Below are ports that services are known by, ours among them.
const LOWEST_PORT: u16 = 15_000;

/// A running etcd.
#[derive(Debug)]
pub struct Etcd {
    process: Option<Process>,
    name: String,
    client: u16,
    peer: u16,
    /// `NAME=URL` of every member.
    members: String,
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

/// Three members of one cluster.
#[derive(Debug)]
pub struct Cluster {
    /// The members.
    pub members: Vec<Etcd>,
}

impl Cluster {
    /// Starts three and waits until all of them answer.
    ///
    /// # Errors
    /// When they do not start.
    pub async fn start() -> anyhow::Result<Self> {
        let mut last = None;
        for _ in 0..5 {
            match Self::try_start().await {
                Ok(cluster) => return Ok(cluster),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("tried at least once")?)
    }

    async fn try_start() -> anyhow::Result<Self> {
        let ports: [u16; 6] = free_ports()?;
        let url = |n: usize| format!("m{n}=http://127.0.0.1:{}", ports[2 * n + 1]);
        let members = (0..3).map(url).collect::<Vec<_>>().join(",");
        let member = |n: usize| -> anyhow::Result<Etcd> {
            let (name, members) = (format!("m{n}"), members.clone());
            let (client, peer) = (ports[2 * n], ports[2 * n + 1]);
            Ok(Etcd { process: None, name, client, peer, members, dir: TempDir::new()?, tls: None })
        };
        let mut cluster = Self { members: (0..3).map(member).collect::<anyhow::Result<_>>()? };
        // None answers before two run.
        for member in &mut cluster.members {
            member.launch()?;
        }
        for member in &mut cluster.members {
            member.answers().await?;
        }
        Ok(cluster)
    }

    /// Where clients reach them.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Etcd::endpoint).collect()
    }

    /// Index of the leader, as the members see it that run.
    ///
    /// # Errors
    /// When there is none within the time of a test.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        eventually("the cluster has a leader", async || {
            for (at, member) in self.members.iter().enumerate() {
                let Ok(json) = member.ctl(&["endpoint", "status", "-w", "json"]).await else { continue };
                let json: serde_json::Value = serde_json::from_str(&json)?;
                let status = &json[0]["Status"];
                let (own, leader) = (&status["header"]["member_id"], &status["leader"]);
                if own.is_number() && own == leader {
                    return Ok(at);
                }
            }
            bail!("no member says that it leads")
        })
        .await
    }
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
            let (name, members) = ("one".to_owned(), format!("one=http://127.0.0.1:{peer}"));
            let (dir, tls) = (TempDir::new()?, tls.clone());
            let mut etcd = Self { process: None, name, client, peer, members, dir, tls };
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
        self.launch()?;
        self.answers().await
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        let (client, peer) = (self.endpoint(), self.peer_url());
        let mut command = Command::new(programs::etcd());
        command
            .arg("--data-dir")
            .arg(self.data())
            .args(["--name", &self.name, "--log-level", "error", "--unsafe-no-fsync"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.members]);
        if let Some(Tls { server, .. }) = &self.tls {
            command.arg("--client-cert-auth").arg("--cert-file").arg(&server.cert);
            command.arg("--key-file").arg(&server.key).arg("--trusted-ca-file").arg(&server.trust);
        }
        let mut process = Process::spawn("etcd", &mut command, &self.dir.path().join("log"))?;
        // Its own error words are not ours to judge; that it serves is.
        process.expect("");
        self.process = Some(process);
        Ok(())
    }

    async fn answers(&mut self) -> anyhow::Result<()> {
        eventually("etcd answers", async || {
            let alive = self.process.as_mut().map_or(Ok(()), Process::alive);
            match alive {
                Ok(()) => self.ctl(&["endpoint", "health"]).await.map(|_| Ok(())),
                Err(ended) => Ok(Err(ended)),
            }
        })
        .await?
    }

    /// Kills it, deletes its data and starts it again, as if it had never been.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn wipe(&mut self) -> anyhow::Result<()> {
        self.stop();
        fs::remove_dir_all(self.data())?;
        self.resume().await
    }

    /// Writes a snapshot of its data beside them.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn snapshot(&self) -> anyhow::Result<()> {
        let file = self.snapshot_file();
        let _ = fs::remove_file(&file);
        self.ctl(&["snapshot", "save", &file]).await.map(drop)
    }

    /// Kills it and starts it again on the snapshot.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restore(&mut self) -> anyhow::Result<()> {
        self.stop();
        fs::remove_dir_all(self.data())?;
        let (data, peer) = (self.data().display().to_string(), self.peer_url());
        let place = ["--data-dir", &data, "--name", &self.name];
        let cluster = ["--initial-cluster", &self.members, "--initial-advertise-peer-urls", &peer];
        let file = self.snapshot_file();
        self.ctl(&[&["snapshot", "restore", &file], &place[..], &cluster[..]].concat()).await?;
        self.resume().await
    }

    /// Its revision now.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn revision(&self) -> anyhow::Result<i64> {
        let json: serde_json::Value = serde_json::from_str(&self.ctl(&["get", "x", "-w", "json"]).await?)?;
        json["header"]["revision"].as_i64().context("an answer has a revision")
    }

    /// Forgets everything but the present.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn compact(&self) -> anyhow::Result<()> {
        let revision = self.revision().await?.to_string();
        self.ctl(&["compact", "--physical", &revision]).await.map(drop)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn snapshot_file(&self) -> String {
        self.dir.path().join("snapshot").display().to_string()
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer)
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

/// Ports below those that the system gives to whoever asks for any: an etcd that is stopped for a while
/// must find its own free again.
fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|port| port.parse().ok()).unwrap_or(32_768);
    let mut held = Vec::new();
    for _ in 0..1000 {
        let port = rand::random_range(LOWEST_PORT..first.max(LOWEST_PORT + 1_000));
        held.extend(TcpListener::bind(("127.0.0.1", port)).map(|listener| (port, listener)));
        if held.len() == N {
            return Ok(std::array::from_fn(|at| held[at].0));
        }
    }
    bail!("of 1000 ports fewer than {N} are free")
}
