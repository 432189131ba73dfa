//! What registrars do when the registry has lost what they wrote, and what a goodbye leaves.

use super::*;

const GONE: &str = "/suiyue/v1/nodes/440100/suikang/gone/suikang-1";
const SPEC: &str = "/suiyue/v1/nodes/440100/suikang/spec";

async fn entry(registry: &dyn Registry, key: &str) -> Option<Entry> {
    registry.list(key).await.unwrap().entries.into_iter().find(|entry| entry.key == key)
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_leaves_a_mark_that_goes_by_itself_and_a_broken_stream_leaves_none() {
    let gateway = Gateway::start("gw-1", &Arc::default());
    let registry = gateway.registry.clone();
    let mut node = gateway.join("guangzhou", of_incarnation(7)).await.unwrap();
    let live = gateway.live().await.unwrap().0;
    node.say(Message::Goodbye(Goodbye {})).await;
    assert_eq!(node.end().await, None);
    let mark = entry(&*registry, GONE).await.unwrap();
    let said = v1::Departure::decode(mark.value.clone()).unwrap();
    assert_eq!((said.incarnation, said.gateway.as_str()), (7, "gw-1"));
    // Later than the entry that it explains, and not on the lease that the gateway renews.
    assert!(mark.mod_revision > live.mod_revision && mark.lease != 0 && mark.lease != live.lease);
    tokio::time::sleep(Duration::from_secs(15 * 60)).await;
    assert!(entry(&*registry, GONE).await.is_some());
    tokio::time::sleep(Duration::from_secs(5 * 60)).await;
    assert!(entry(&*registry, GONE).await.is_none());
    drop(gateway.join("guangzhou", of_incarnation(8)).await.unwrap());
    tokio::time::sleep(TTL * 2).await;
    assert!(gateway.live().await.is_none() && entry(&*registry, GONE).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_was_wiped_gets_everything_again() {
    let gateway = Gateway::start("gw-1", &Arc::default());
    let beating = gateway.join("guangzhou", plain()).await.unwrap().beat();
    let mut tables = gateway.tables.clone();
    tables.wait_for(|t| t.nodes.contains_key("suikang")).await.unwrap();
    let registry = &*gateway.registry;
    // Somebody deletes all of it, lease and spec.
    let spec = entry(registry, SPEC).await.unwrap();
    let txn = Txn { deletes: vec![SPEC.to_owned(), LIVE.to_owned()], ..Txn::default() };
    let deleted = written(registry, txn).await;
    // It is held meanwhile, and written again.
    let again = loop {
        tables.changed().await.unwrap();
        let table = tables.borrow_and_update().clone();
        assert_eq!(table.nodes["suikang"].endpoints.len(), 1);
        if let Some(again) = entry(registry, SPEC).await.filter(|_| table.stale.is_empty()) {
            break again;
        }
    };
    assert!(again.value == spec.value && again.mod_revision > deleted);
    beating.abort();
}

#[tokio::test(start_paused = true)]
async fn a_spec_alone_that_is_gone_is_written_again() {
    // A second node of the region: the first one's absence is believed, and not held.
    let gateway = Gateway::start("gw-1", &Arc::default());
    let beating = gateway.join("guangzhou", plain()).await.unwrap().beat();
    let other = suikang(|hello, manifest| {
        hello.endpoint = "other-1".to_owned();
        manifest.node = "other".to_owned();
    });
    let other = gateway.join("guangzhou", other).await.unwrap().beat();
    let mut tables = gateway.tables.clone();
    tables.wait_for(|t| t.nodes.len() == 2).await.unwrap();
    written(&*gateway.registry, Txn { deletes: vec![SPEC.to_owned()], ..Txn::default() }).await;
    tables.wait_for(|t| t.nodes.len() == 1).await.unwrap();
    tables.wait_for(|t| t.nodes.len() == 2).await.unwrap();
    beating.abort();
    other.abort();
}

#[tokio::test]
async fn an_etcd_that_is_wiped_and_restarted_gets_its_registrations_again() {
    let Some(mut server) = Etcd::start() else { return };
    let registry = Arc::new(server.registry().await);
    let gateway = Gateway::over("gw-1", &registry, registry.clone());
    let beating = gateway.join("guangzhou", plain()).await.unwrap().beat();
    let mut tables = gateway.tables.clone();
    tables.wait_for(|t| t.nodes.contains_key("suikang")).await.unwrap();
    server.wipe();
    // It is noticed, nothing is lost meanwhile, and then nothing has to be held any more.
    tables.wait_for(|t| t.histories == 1).await.unwrap();
    assert_eq!(tables.borrow().nodes["suikang"].endpoints.len(), 1);
    tables.wait_for(|t| t.histories == 1 && t.stale.is_empty()).await.unwrap();
    assert_eq!(tables.borrow().nodes["suikang"].endpoints.len(), 1);
    assert!(entry(&*registry, SPEC).await.is_some() && entry(&*registry, LIVE).await.is_some());
    beating.abort();
}
