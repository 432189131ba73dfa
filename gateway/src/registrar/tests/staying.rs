//! What keeps an entry, and what takes it away.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_goodbye_takes_the_entry_away_at_once() {
    let mut gateway = Gateway::start("gw-1", &Arc::default());
    let mut node = gateway.join("guangzhou", plain()).await.unwrap();
    gateway.until(|table| table.nodes.contains_key("suikang")).await;
    let start = Instant::now();
    node.say(Message::Goodbye(Goodbye {})).await;
    while !matches!(node.next().await.unwrap(), register_response::Message::Farewell(_)) {}
    assert_eq!(node.end().await, None);
    assert!(gateway.live().await.is_none());
    gateway.until(|table| table.nodes["suikang"].endpoints.is_empty()).await;
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_waits_out_the_lease_time() {
    let gateway = Gateway::start("gw-1", &Arc::default());
    let node = gateway.join("guangzhou", plain()).await.unwrap();
    let mut updates = gateway.updates().await;
    let start = Instant::now();
    drop(node);
    assert!(matches!(suite::next(&mut updates).await.1[..], [Change::Delete { .. }]));
    assert_eq!(start.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_a_broken_one() {
    let gateway = Gateway::start("gw-1", &Arc::default());
    let mut node = gateway.join("guangzhou", plain()).await.unwrap();
    let mut updates = gateway.updates().await;
    let start = Instant::now();
    assert_eq!(node.end().await, None);
    assert_eq!(start.elapsed().as_secs(), 9);
    assert!(matches!(suite::next(&mut updates).await.1[..], [Change::Delete { .. }]));
    assert_eq!(start.elapsed().as_secs(), 9 + 15);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_an_entry_and_write_nothing() {
    let gateway = Gateway::start("gw-1", &Arc::default());
    let node = gateway.join("guangzhou", plain()).await.unwrap();
    let before = gateway.live().await.unwrap().0;
    let beating = node.beat();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(gateway.live().await.unwrap().0, before);
    beating.abort();
}

#[tokio::test(start_paused = true)]
async fn changes_of_readiness_are_written_and_foreign_ones_ignored() {
    let mut gateway = Gateway::start("gw-1", &Arc::default());
    let node = gateway.join("guangzhou", suikang(|h, _| h.report = None)).await.unwrap();
    gateway.until(|t| t.nodes.get("suikang").is_some_and(|n| n.endpoints[0].ready.is_empty())).await;
    node.say(Message::Report(ready(&[610_100, 440_100]))).await;
    let table = gateway.until(|t| t.nodes["suikang"].endpoints[0].ready.len() == 1).await;
    assert_eq!(table.quarantined, []);
    node.say(Message::Report(Report { draining: true, ..ready(&[440_100]) })).await;
    gateway.until(|t| t.nodes["suikang"].endpoints[0].draining).await;
}

#[tokio::test(start_paused = true)]
async fn the_next_gateway_takes_over_without_a_gap() {
    let registry = Arc::<Embedded>::default();
    let (first, second) = (Gateway::start("gw-1", &registry), Gateway::start("gw-2", &registry));
    let node = first.join("guangzhou", plain()).await.unwrap();
    let mut updates = first.updates().await;
    drop(node);
    let beating = second.join("guangzhou", plain()).await.unwrap().beat();
    // Long after the first gateway has given the stream up, the entry is the second one's.
    tokio::time::sleep(TTL * 4).await;
    assert_eq!(second.live().await.unwrap().1.gateway, "gw-2");
    let mut seen = Vec::new();
    while let Ok(update) = updates.try_recv() {
        if let Update::Changes { changes, .. } = update {
            seen.extend(changes);
        }
    }
    assert!(seen.iter().all(|change| matches!(change, Change::Put(_))), "{seen:?}");
    beating.abort();
}

#[tokio::test(start_paused = true)]
async fn a_newer_registration_supersedes_the_older_one() {
    let registry = Arc::<Embedded>::default();
    let (first, second) = (Gateway::start("gw-1", &registry), Gateway::start("gw-2", &registry));
    let mut one = first.join("guangzhou", of_incarnation(1)).await.unwrap();
    // At the same gateway …
    let mut two = first.join("guangzhou", of_incarnation(2)).await.unwrap();
    assert_eq!(one.end().await, Some(Reason::Superseded));
    assert_eq!(first.live().await.unwrap().1.incarnation, 2);
    // … the same process again, over a new connection …
    let mut again = first.join("guangzhou", of_incarnation(2)).await.unwrap();
    assert_eq!(two.end().await, Some(Reason::Superseded));
    // … and at another one.
    let beating = second.join("guangzhou", of_incarnation(3)).await.unwrap().beat();
    assert_eq!(again.end().await, Some(Reason::Superseded));
    tokio::time::sleep(TTL * 4).await;
    assert_eq!(first.live().await.unwrap().1.incarnation, 3);
    beating.abort();
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_granted_anew_and_every_entry_put_again() {
    let gateway = Gateway::start("gw-1", &Arc::default());
    let beating = gateway.join("guangzhou", plain()).await.unwrap().beat();
    let lease = gateway.live().await.unwrap().0.lease;
    let mut updates = gateway.updates().await;
    let start = Instant::now();
    gateway.registry.revoke(lease).await.unwrap();
    assert!(matches!(suite::next(&mut updates).await.1[..], [Change::Delete { .. }]));
    assert!(matches!(suite::next(&mut updates).await.1[..], [Change::Put(_)]));
    assert!(start.elapsed() <= TTL / 3);
    assert_ne!(gateway.live().await.unwrap().0.lease, lease);
    tokio::time::sleep(TTL * 4).await;
    assert!(gateway.live().await.is_some());
    beating.abort();
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_somebody_deleted_comes_back() {
    let mut gateway = Gateway::start("gw-1", &Arc::default());
    let beating = gateway.join("guangzhou", plain()).await.unwrap().beat();
    gateway.until(|t| t.nodes.contains_key("suikang")).await;
    let mut updates = gateway.updates().await;
    written(&*gateway.registry, Txn { deletes: vec![LIVE.to_owned()], ..Txn::default() }).await;
    assert!(matches!(suite::next(&mut updates).await.1[..], [Change::Delete { .. }]));
    assert!(matches!(suite::next(&mut updates).await.1[..], [Change::Put(_)]));
    beating.abort();
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_finishes_leaves_the_entries_to_the_next() {
    let registry = Arc::<Embedded>::default();
    let gateway = Gateway::start("gw-1", &registry);
    let mut node = gateway.join("guangzhou", plain()).await.unwrap();
    while registry.list("/suiyue/v1/gateways/").await.unwrap().entries.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    gateway.shutdown.cancel();
    assert_eq!(node.end().await, Some(Reason::GatewayDraining));
    let channel = gateway.channel().await;
    gateway.run.await.unwrap();
    assert_eq!(registry.list(LIVE).await.unwrap().entries.len(), 1);
    assert!(registry.list("/suiyue/v1/gateways/").await.unwrap().entries.is_empty());
    let request = Request::new(tokio_stream::pending());
    let status = RegistryServiceClient::new(channel).register(request).await.err().unwrap();
    assert_eq!(Reason::of(&status), Some(Reason::GatewayDraining));
    tokio::time::sleep(TTL).await;
    assert!(registry.list(LIVE).await.unwrap().entries.is_empty());
}

#[tokio::test(start_paused = true)]
async fn presence_is_written_under_the_lease_and_not_too_often() {
    let gateway = Gateway::start("gw-1", &Arc::default());
    let presence = async || gateway.registry.list("/suiyue/v1/gateways/gw-1").await.unwrap().entries;
    let _node = gateway.join("guangzhou", plain()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(21)).await;
    let entry = presence().await.remove(0);
    let said = v1::GatewayPresence::decode(entry.value.clone()).unwrap();
    assert_eq!((said.control_address.as_str(), entry.lease != 0), ("127.0.0.1:1", true));
    assert_eq!(said.admin_address, "127.0.0.1:2");
    let applied = gateway.tables.borrow().clone();
    assert_eq!((said.applied_revision, &said.table_hash), (applied.revision, &applied.hash));
    assert!(said.unix_ms > 0 && !applied.hash.is_empty());
    let mut updates = gateway.registry.watch("/suiyue/v1/gateways/", entry.mod_revision).await.unwrap();
    let start = Instant::now();
    for n in 0..20 {
        let policy = put(&format!("/suiyue/v1/regions/{}", 440_000 + n), "", 0, 0);
        written(&*gateway.registry, policy).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut writes = 0;
    while updates.try_recv().is_ok_and(|update| matches!(update, Update::Changes { .. })) {
        writes += 1;
    }
    assert!((1..=3).contains(&writes), "{writes} writes in {:?}", start.elapsed());
}

#[tokio::test]
async fn a_registration_lives_on_etcd_as_on_the_embedded_registry() {
    let Some(server) = Etcd::start() else { return };
    let registry = Arc::new(server.registry().await);
    let mut gateway = Gateway::over("gw-1", &registry, registry.clone());
    let mut next = Gateway::over("gw-2", &registry, registry.clone());
    let beating = gateway.join("guangzhou", of_incarnation(1)).await.unwrap().beat();
    gateway.until(|t| t.nodes.contains_key("suikang")).await;
    // The lease is revoked: back under another one.
    let lease = gateway.live().await.unwrap().0.lease;
    let mut updates = gateway.updates().await;
    registry.revoke(lease).await.unwrap();
    assert!(matches!(suite::next(&mut updates).await.1[..], [Change::Delete { .. }]));
    assert!(matches!(suite::next(&mut updates).await.1[..], [Change::Put(_)]));
    assert_ne!(gateway.live().await.unwrap().0.lease, lease);
    // Another gateway takes over, without a gap.
    let mut node = next.join("guangzhou", of_incarnation(2)).await.unwrap();
    assert!(matches!(suite::next(&mut updates).await.1[..], [Change::Put(_)]));
    beating.await.unwrap();
    next.until(|t| t.nodes["suikang"].endpoints.iter().any(|e| e.incarnation == 2)).await;
    node.say(Message::Goodbye(Goodbye {})).await;
    while !matches!(node.next().await.unwrap(), register_response::Message::Farewell(_)) {}
    assert!(matches!(suite::next(&mut updates).await.1[..], [Change::Delete { .. }]));
    gateway.until(|t| t.nodes["suikang"].endpoints.is_empty()).await;
    for gateway in [gateway, next] {
        gateway.shutdown.cancel();
        gateway.run.await.unwrap();
    }
}

#[tokio::test]
async fn a_restart_of_etcd_loses_no_registration() {
    let Some(mut server) = Etcd::start() else { return };
    let registry = Arc::new(server.registry().await);
    let mut gateway = Gateway::over("gw-1", &registry, registry.clone());
    let beating = gateway.join("guangzhou", plain()).await.unwrap().beat();
    let before = gateway.until(|t| t.nodes.contains_key("suikang")).await.revision;
    server.restart();
    // A change after the restart reaches the table, and with it the endpoint is still there.
    let second = suikang(|hello, _| hello.endpoint = "suikang-2".to_owned());
    let other = loop {
        match gateway.join("guangzhou", second.clone()).await {
            Ok(node) => break node.beat(),
            Err(status) => assert_eq!(Reason::of(&status), Some(Reason::RegistryUnavailable)),
        }
    };
    let table = gateway.until(|t| t.nodes["suikang"].endpoints.len() == 2).await;
    assert!(table.revision > before);
    beating.abort();
    other.abort();
}
