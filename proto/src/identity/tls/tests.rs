use super::*;
use crate::identity::{
    Files,
    files::now,
    issue::{Authority, Order},
};
use rustls::{ClientConnection, ServerConnection, version::TLS12};
use std::{fs, os::unix::fs::PermissionsExt as _};

const GATEWAY: &str = "spiffe://lingnan/gateway/gw-1";
const NODE: &str = "spiffe://lingnan/region/440100/node/suikang";

struct Place {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Place {
    fn new() -> Self {
        let (authority, _) = Authority::new("Guangdong", 0, now() + 1000).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), authority }
    }

    fn identity(&self, uri: &str) -> Identity {
        self.changed(uri, |_| {})
    }

    fn changed(&self, uri: &str, change: impl FnOnce(&mut Order)) -> Identity {
        let mut order = Order {
            uris: vec![uri.to_owned()],
            hosts: Vec::new(),
            uses: vec![Usage::Client, Usage::Server],
            not_before_unix_s: now() - 10,
            not_after_unix_s: now() + 500,
        };
        change(&mut order);
        let issued = self.authority.issue(&order).unwrap();
        let path = |name: &str| self.dir.path().join(name);
        let files = Files { cert: path("cert"), key: path("key"), trust: path("trust") };
        fs::write(&files.cert, issued.cert).unwrap();
        fs::write(&files.key, issued.key).unwrap();
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&files.trust, self.authority.cert()).unwrap();
        Identity::open(files).unwrap()
    }
}

fn only(uri: &'static str) -> Expected {
    Arc::new(move |id| id.to_string() == uri)
}

/// The server's port for gateways.
fn port(own: &Identity) -> Arc<ServerConfig> {
    server(own, Arc::new(own.clone()), only(GATEWAY))
}

/// A call to the node.
fn call(own: &Identity) -> Arc<ClientConfig> {
    client(own, Arc::new(own.clone()), only(NODE))
}

/// Lets both sides talk until nobody has anything to say; what they think of each other.
fn shake(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<(Leaf, Leaf), String> {
    let mut client = ClientConnection::new(client, no_name()).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let mut bytes = Vec::new();
    for _ in 0..10 {
        bytes.clear();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        let judged = server.process_new_packets();
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        judged.map_err(|e| format!("server: {e}"))?;
        client.process_new_packets().map_err(|e| format!("client: {e}"))?;
    }
    let seen =
        |certs, alpn, usage| peer(certs, alpn, usage).map(|chain| chain.leaf).map_err(|e| e.to_string());
    Ok((
        seen(client.peer_certificates(), client.alpn_protocol(), Usage::Server)?,
        seen(server.peer_certificates(), server.alpn_protocol(), Usage::Client)?,
    ))
}

#[track_caller]
fn refused(client: Arc<ClientConfig>, server: Arc<ServerConfig>, expected: &str) {
    let error = shake(client, server).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn both_sides_know_each_other() {
    let place = Place::new();
    let (gateway, node) = (place.identity(GATEWAY), place.identity(NODE));
    let (served, caller) = shake(call(&gateway), port(&node)).unwrap();
    assert_eq!((served.id.to_string(), caller.id.to_string()), (NODE.to_owned(), GATEWAY.to_owned()));
}

#[test]
fn somebody_else_is_refused_on_either_side() {
    let place = Place::new();
    let (gateway, node) = (place.identity(GATEWAY), place.identity(NODE));
    let other = place.identity("spiffe://lingnan/gateway/gw-2");
    refused(call(&other), port(&node), "server: ");
    let elsewhere = place.identity("spiffe://lingnan/region/440100/node/yuekang");
    refused(call(&gateway), port(&elsewhere), "client: ");
    let foreign = Place::new();
    refused(call(&foreign.identity(GATEWAY)), port(&node), "");
    refused(call(&gateway), port(&foreign.identity(NODE)), "client: ");
}

#[test]
fn the_wrong_use_is_refused() {
    let place = Place::new();
    let (gateway, node) = (place.identity(GATEWAY), place.identity(NODE));
    let only_server = place.changed(GATEWAY, |order| order.uses = vec![Usage::Server]);
    refused(call(&only_server), port(&node), "Usage(\"calling");
    let only_client = place.changed(NODE, |order| order.uses = vec![Usage::Client]);
    refused(call(&gateway), port(&only_client), "Usage(\"being called");
}

#[test]
fn who_shows_nothing_is_refused() {
    let place = Place::new();
    let (gateway, node) = (place.identity(GATEWAY), place.identity(NODE));
    let verifier = Verifier { judge: Arc::new(gateway.clone()), expected: only(NODE), usage: Usage::Server };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    refused(Arc::new(config), port(&node), "server: peer sent no certificates");
}

#[test]
fn older_tls_and_other_protocols_are_refused() {
    let place = Place::new();
    let (gateway, node) = (place.identity(GATEWAY), place.identity(NODE));
    let verifier = Verifier { judge: Arc::new(gateway.clone()), expected: only(NODE), usage: Usage::Server };
    let old = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(gateway.clone()));
    refused(Arc::new(old), port(&node), "");
    let mut silent = ClientConfig::clone(&call(&gateway));
    silent.alpn_protocols.clear();
    refused(Arc::new(silent), port(&node), "h2");
    let mut other = ClientConfig::clone(&call(&gateway));
    other.alpn_protocols = vec![b"http/1.1".to_vec()];
    refused(Arc::new(other), port(&node), "");
}

#[derive(Debug)]
struct Strict(Identity);

impl Judge for Strict {
    fn authorities(&self, id: &SpiffeId) -> Option<Arc<Authorities>> {
        self.0.authorities(id)
    }

    fn is_revoked(&self, leaf: &Leaf) -> bool {
        leaf.id.to_string() == NODE
    }
}

#[test]
fn who_is_revoked_is_refused() {
    let place = Place::new();
    let (gateway, node) = (place.identity(GATEWAY), place.identity(NODE));
    let strict = client(&gateway, Arc::new(Strict(gateway.clone())), only(NODE));
    refused(strict, port(&node), "Revoked");
}

#[test]
fn nothing_is_resumed() {
    let place = Place::new();
    let (gateway, node) = (place.identity(GATEWAY), place.identity(NODE));
    let (call, port) = (call(&gateway), port(&node));
    for _ in 0..2 {
        let mut client = ClientConnection::new(call.clone(), no_name()).unwrap();
        let mut server = ServerConnection::new(port.clone()).unwrap();
        let mut bytes = Vec::new();
        for _ in 0..10 {
            bytes.clear();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            bytes.clear();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets().unwrap();
        }
        assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}
