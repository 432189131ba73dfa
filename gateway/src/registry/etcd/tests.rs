use super::*;
use crate::registry::suite::{self, put, written};
use std::process::{Child, Command, Stdio};

/// A real etcd in a directory of its own, if `SUIYUE_ETCD_BIN` names the program; killed when dropped.
pub(crate) struct Server {
    child: Child,
    command: Command,
    endpoint: String,
    directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Server {
    pub(crate) fn start() -> Option<Self> {
        let program = std::env::var_os("SUIYUE_ETCD_BIN")?;
        let directory = tempfile::tempdir().unwrap();
        let [client, peer] = [free_port(), free_port()].map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new(program);
        command
            .arg("--data-dir")
            .arg(directory.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--logger", "zap"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        Some(Self { child, command, endpoint: client, directory })
    }

    /// Kills it and starts it again on its own data.
    pub(crate) fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = self.command.spawn().unwrap();
    }

    /// Kills it, deletes its data and starts it again.
    pub(crate) fn wipe(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::fs::remove_dir_all(self.directory.path()).unwrap();
        self.child = self.command.spawn().unwrap();
    }

    /// Connected once it answers; a dead member stands before it, as it may in a configuration.
    pub(crate) async fn registry(&self) -> Etcd {
        let dead = format!("http://127.0.0.1:{}", free_port());
        let registry = Etcd::connect(&[dead.as_str(), &self.endpoint]).await.unwrap();
        while registry.list("/").await.is_err() {
            tokio::task::yield_now().await;
        }
        registry
    }
}

/// etcd cannot be told to choose a port itself and say which.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn it_is_a_registry() {
    let Some(server) = Server::start() else { return };
    suite::run(&server.registry().await).await;
}

#[tokio::test]
async fn a_compacted_watch_is_lost_and_says_so() {
    let Some(server) = Server::start() else { return };
    let registry = server.registry().await;
    let first = written(&registry, put("/x", "1", 0, 0)).await;
    let second = written(&registry, put("/y", "1", 0, 0)).await;
    registry.members().0[1].clone().compact(second, None).await.unwrap();
    let mut updates = registry.watch("/", first - 1).await.unwrap();
    loop {
        match updates.recv().await.unwrap() {
            Update::Heartbeat => {}
            update => break assert!(matches!(update, Update::Lost(Error::Compacted)), "{update:?}"),
        }
    }
    assert!(updates.recv().await.is_none());
}

#[tokio::test]
async fn a_store_that_went_back_is_noticed() {
    let Some(server) = Server::start() else { return };
    let mut updates = server.registry().await.watch("/", 1_000_000).await.unwrap();
    assert!(matches!(updates.recv().await, Some(Update::Lost(Error::Unreachable(_)))));
}

#[tokio::test]
async fn a_dead_etcd_is_unreachable_and_ends_the_watch() {
    let Some(mut server) = Server::start() else { return };
    let registry = server.registry().await;
    let lease = registry.grant(Duration::from_secs(60)).await.unwrap();
    let mut updates = registry.watch("/", 1).await.unwrap();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    while let Some(update) = updates.recv().await {
        assert!(matches!(update, Update::Heartbeat | Update::Lost(Error::Unreachable(_))), "{update:?}");
    }
    assert!(matches!(registry.list("/").await, Err(Error::Unreachable(_))));
    assert!(matches!(registry.keep_alive(lease).await, Err(Error::Unreachable(_))));
    // Nothing listens: it is certain that nothing was written.
    let result = registry.commit(put("/x", "1", 0, 0)).await;
    assert!(matches!(result, Err(Error::Unreachable(_))), "{result:?}");
}

#[tokio::test]
async fn large_values_are_listed_in_smaller_pages() {
    let Some(server) = Server::start() else { return };
    let registry = server.registry().await;
    let value = "v".repeat(1 << 20);
    for n in 0..40 {
        written(&registry, put(&format!("/large/{n:02}"), &value, 0, 0)).await;
    }
    assert_eq!(registry.list("/large/").await.unwrap().entries.len(), 40);
}

#[tokio::test]
async fn endpoints_are_checked() {
    assert!(matches!(Etcd::connect::<&str>(&[]).await, Err(Error::Refused(_))));
    assert!(matches!(Etcd::connect(&["http://no host"]).await, Err(Error::Refused(_))));
}

#[test]
fn a_range_ends_after_its_prefix() {
    assert_eq!(range_end("/suiyue/v1/"), "/suiyue/v10");
}
