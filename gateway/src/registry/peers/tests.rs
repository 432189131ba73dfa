//! A gateway that knows something, and one that asks.

use super::*;
use crate::identity::{port, trust::tests::Realm};
use crate::registry::{
    Entry,
    embedded::Embedded,
    follow::{Start, follow},
    suite::{put, written},
};
use crate::table::{Source, Table};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

/// A gateway's control port over a registry inside it; its tasks end when the set is dropped.
async fn gateway(registry: &Embedded, tasks: &mut JoinSet<()>) -> (String, Followed) {
    let (published, mut tables) = tokio::sync::watch::channel(Arc::new(Table::default()));
    let start = Start {
        registry: Arc::new(registry.clone()),
        prefix: Prefix::default(),
        base: Table::default(),
        source: Source::Embedded,
        copy: None,
        trust: None,
        peers: Peers::default(),
    };
    let publish = move |table| drop(published.send_replace(table));
    let (followed, following) = follow(start, publish, CancellationToken::new());
    tasks.spawn(following);
    tables.changed().await.unwrap();
    (serve(followed.clone(), tasks).await, followed)
}

async fn serve(followed: Followed, tasks: &mut JoinSet<()>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = Answering::service(followed, Prefix::default());
    let server = tonic::transport::Server::builder().add_service(service);
    let serving = server.serve_with_incoming(TcpListenerStream::new(listener));
    tasks.spawn(async move { drop(serving.await) });
    address
}

/// The same with certificates, as the control port has them.
async fn serve_secured(followed: Followed, trust: &Trust, tasks: &mut JoinSet<()>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = Answering::service(followed, Prefix::default());
    let incoming = tokio_stream::wrappers::ReceiverStream::new(port::accept(listener, Some(trust.clone())));
    let server = tonic::transport::Server::builder().add_service(service);
    tasks.spawn(async move { drop(server.serve_with_incoming(incoming).await) });
    address
}

#[tokio::test]
async fn with_certificates_gateways_give_their_tables_to_gateways_and_take_them_from_nobody_else() {
    let (realm, stranger, mut tasks) = (Realm::new(), Realm::new(), JoinSet::new());
    let registry = Embedded::new();
    written(&registry, put("/suiyue/v1/regions/440100", "one", 0, 0)).await;
    let (plain, followed) = gateway(&registry, &mut tasks).await;
    let trust = realm.trust();
    let secured = serve_secured(followed.clone(), &trust, &mut tasks).await;
    let newest = async |address: &String, trust: Option<&Trust>| {
        Peers::new(vec![address.clone()], trust).newest(&Prefix::default()).await
    };
    assert_eq!(newest(&secured, Some(&trust)).await.unwrap().entries.len(), 1);
    assert!(newest(&secured, None).await.is_err(), "in the clear");
    assert!(newest(&plain, Some(&trust)).await.is_err(), "one that shows no certificate");
    let why = newest(&secured, Some(&stranger.trust())).await.unwrap_err();
    assert!(why.contains(&secured), "{why}");
    // A node at the address of a gateway.
    let node = Trust::new(realm.identity("spiffe://lingnan/region/440100/node/suikang"), None);
    let posing = serve_secured(followed, &node, &mut tasks).await;
    assert!(newest(&posing, Some(&trust)).await.is_err(), "a node's certificate");
}

#[tokio::test]
async fn a_table_is_given_to_no_node() {
    let (realm, mut tasks) = (Realm::new(), JoinSet::new());
    let (_, followed) = gateway(&Embedded::new(), &mut tasks).await;
    let answering = Answering { followed, prefix: Prefix::default() };
    let asked = async |uri: &str| {
        let mut request = Request::new(CopyRegistryRequest { prefix: Prefix::default().root() });
        request.extensions_mut().insert(Peer::from(realm.signer(uri, |_| {}).leaf()));
        answering.copy_registry(request).await.map(drop).map_err(|status| Reason::of(&status))
    };
    assert_eq!(asked("spiffe://lingnan/gateway/gw-2").await, Ok(()));
    for other in ["spiffe://lingnan/region/440100/node/suikang", "spiffe://lingnan/operator/operator/li"] {
        assert_eq!(asked(other).await, Err(Some(Reason::IdentityRefused)), "{other}");
    }
}

fn saved(entries: usize, bytes: usize) -> Saved {
    let entry = |n: usize| {
        let key = format!("/suiyue/v1/regions/{n:06}");
        (key.clone(), Entry { key, value: vec![1; bytes].into(), mod_revision: 3, lease: 4 })
    };
    let entries = (0..entries).map(entry).collect();
    Saved { cluster: 1, revision: 9, unix_ms: 7, entries, held: [entry(999_999)].into() }
}

#[tokio::test]
async fn the_newest_copy_of_those_who_answer_is_taken() {
    let mut tasks = JoinSet::new();
    let (old, new) = (Embedded::new(), Embedded::new());
    written(&old, put("/suiyue/v1/regions/440100", "old", 0, 0)).await;
    for n in 0..5 {
        written(&new, put(&format!("/suiyue/v1/regions/44010{n}"), "new", 0, 0)).await;
    }
    let (first, _) = gateway(&old, &mut tasks).await;
    let (second, followed) = gateway(&new, &mut tasks).await;
    let dead = "127.0.0.1:1".to_owned();
    let peers = Peers::new(vec![dead, first, second], None);
    let copy = peers.newest(&Prefix::default()).await.unwrap();
    assert_eq!((copy.revision, copy.entries.len()), (6, 5));
    assert!(copy.unix_ms > 0 && Some(copy.unix_ms) <= followed.freshness().heard_unix_ms());
}

#[tokio::test]
async fn who_knows_nothing_says_so_and_another_federation_is_refused() {
    let mut tasks = JoinSet::new();
    let empty = Followed::new_for_tests();
    let unread = serve(empty, &mut tasks).await;
    let (other, _) = gateway(&Embedded::new(), &mut tasks).await;
    let why = Peers::new(vec![unread.clone()], None).newest(&Prefix::default()).await.unwrap_err();
    assert!(why.contains(&unread) && why.contains(Reason::RegistryUnread.text()), "{why}");
    let why = Peers::new(vec![other], None).newest(&"/other".parse().unwrap()).await.unwrap_err();
    assert!(why.contains(Reason::FieldInvalid.text()), "{why}");
    assert!(Peers::default().newest(&Prefix::default()).await.unwrap_err().contains("no peers"));
}

#[test]
fn a_copy_goes_in_pieces_and_comes_back_whole() {
    for (entries, bytes, at_least) in [(0, 0, 1), (10, 10, 1), (40, 100_000, 4)] {
        let whole = saved(entries, bytes);
        let pieces = pieces(&whole, &Prefix::default());
        assert!(pieces.len() >= at_least && pieces.iter().all(|piece| piece.encoded_len() < MAX_PIECE));
        let head = pieces[0].snapshot.clone().unwrap();
        assert!(pieces.iter().all(|piece| piece.total == entries as u64 + 1));
        let arrived = pieces.into_iter().flat_map(|piece| piece.snapshot.unwrap().entries).collect();
        assert_eq!(last_known_good::from_saved(&head, arrived), whole);
    }
}
