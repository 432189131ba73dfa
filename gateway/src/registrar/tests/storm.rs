//! A thousand nodes that register at the same moment.

use super::*;
use futures_util::future::join_all;
use std::collections::BTreeSet;

const NODES: usize = 1000;
/// Streams of one connection, as the control port allows them.
const STREAMS: usize = 100;

fn numbered(n: usize) -> Hello {
    suikang(|hello, manifest| {
        manifest.node = format!("node-{n:04}");
        hello.endpoint = format!("node-{n:04}-1");
    })
}

/// All of them at once over ten connections; each has been welcomed, and beats on.
async fn join_all_at_once(gateway: &Gateway) -> Vec<JoinHandle<()>> {
    let mut channels = Vec::new();
    for _ in 0..NODES / STREAMS {
        channels.push(gateway.channel().await);
    }
    let joins = (0..NODES).map(|n| {
        let channel = channels[n / STREAMS].clone();
        async move { join_over(channel, "guangzhou", numbered(n)).await.unwrap() }
    });
    join_all(joins).await.into_iter().map(Node::beat).collect()
}

async fn live(registry: &dyn Registry) -> BTreeSet<String> {
    let entries = registry.list("/suiyue/v1/nodes/").await.unwrap().entries;
    entries.into_iter().map(|entry| entry.key).filter(|key| key.contains("/live/")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_registrations_at_once_all_land() {
    let mut gateway = Gateway::start("gw-1", &Arc::default());
    let beating = join_all_at_once(&gateway).await;
    assert_eq!(live(&*gateway.registry).await.len(), NODES);
    gateway.until(|table| table.nodes.len() == NODES).await;
    // They come back as well when the lease that they all hang on is lost; and none is ever out.
    let lease =
        gateway.registry.list("/suiyue/v1/nodes/440100/node-0000/live/").await.unwrap().entries[0].lease;
    gateway.registry.revoke(lease).await.unwrap();
    let table = gateway.until(|table| table.stale.len() == NODES).await;
    assert!(table.nodes.values().all(|node| node.endpoints.len() == 1));
    gateway.until(|table| table.stale.is_empty()).await;
    assert_eq!(live(&*gateway.registry).await.len(), NODES);
    beating.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_thousand_registrations_at_once_all_land_in_etcd() {
    let Some(server) = Etcd::start() else { return };
    let registry = Arc::new(server.registry().await);
    let mut gateway = Gateway::over("gw-1", &registry, registry.clone());
    let start = std::time::Instant::now();
    let beating = join_all_at_once(&gateway).await;
    let welcomed = start.elapsed();
    gateway.until(|table| table.nodes.len() == NODES).await;
    println!(
        "{NODES} nodes were welcomed within {welcomed:?} and stood in the table within {:?}",
        start.elapsed()
    );
    assert_eq!(live(&*registry).await.len(), NODES);
    beating.iter().for_each(JoinHandle::abort);
}
