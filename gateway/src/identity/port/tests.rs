use super::*;
use crate::identity::{dial::Dialer, trust::tests::Realm};
use tokio::{io::AsyncReadExt as _, net::TcpSocket};

/// A connection from an address of loopback.
async fn from(source: [u8; 4], port: std::net::SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    socket.connect(port).await.unwrap()
}

#[tokio::test]
async fn a_source_that_shakes_no_hands_keeps_no_other_out() {
    let (realm, listener) = (Realm::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (trust, port) = (realm.trust(), listener.local_addr().unwrap());
    let bounds = Bounds { handshakes: 4, crowd: 8, share: Share { handshakes: 2, crowd: 3 } };
    let mut incoming = accept_within(listener, Some(trust.clone()), bounds);
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(from([127, 0, 0, 1], port).await);
    }
    // One more than its crowd: it is closed, and nothing is said.
    let mut beyond = from([127, 0, 0, 1], port).await;
    assert_eq!(beyond.read(&mut [0; 8]).await.unwrap_or(0), 0);
    let dialer = Dialer::to_gateways(&trust);
    let other = from([127, 0, 0, 2], port).await;
    let (_stream, _) = dialer.secure(other).await.unwrap();
    let secured = incoming.recv().await.unwrap().unwrap();
    assert_eq!(secured.peer.unwrap().id().to_string(), "spiffe://lingnan/gateway/gw-1");
    // The silent ones are still there: nothing but their own time has ended them.
    assert!(silent.iter().all(|socket| socket.try_read(&mut [0; 1]).is_err()));
}
