//! Can anybody join, reroute or be called who is not who they say?
//!
//! Real processes and a real etcd, which the tests write to as its owner could.

use anyhow::{Context as _, bail, ensure};
use prost::Message as _;
use std::{net::SocketAddr, process::Command, sync::Arc};
use suiyue_proto::{
    identity::{Identity, Usage, files::now, issue::Order, signed::Kind, tls},
    reason::Reason,
    v1::{
        EndpointDeclaration, Health, Hello, LiveEndpoint, Manifest, RegionReady, RegisterRequest, Report,
        Role, SignedRecord, register_request::Message as Say, registry_service_client::RegistryServiceClient,
    },
};
use suiyue_tests::{
    etcd::{Etcd, Tls},
    eventually::{ends, eventually},
    gateway::Gateway,
    node::{Node, token},
    programs,
    region::{GUANGDONG, GUANGZHOU, XIAN},
    trust::{Desk, FEDERATION, node_id, sign},
};
use tokio::net::TcpStream;
use tonic::{Request, transport::Endpoint};

const SUIKANG: &str = "/suiyue/v1/nodes/440100/suikang";

/// A gateway over etcd, with Suikang and Yuekang; all of them have certificates.
pub(crate) struct Scene {
    pub(crate) desk: Desk,
    pub(crate) gateway: Gateway,
    pub(crate) suikang: Node,
    pub(crate) yuekang: Node,
    pub(crate) etcd: Etcd,
}

impl Scene {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let (desk, etcd) = (Desk::new()?, Etcd::start().await?);
        let gateway = Gateway::builder("gw-1")
            .etcd(&etcd.endpoint())
            .toml(&desk.gateway("gw-1")?)
            .operated_by(desk.operator()?)
            .start()
            .await?;
        desk.publish(&gateway, desk.record(1, |_| {})).await?;
        let control = [gateway.control];
        let suikang = Node::codes("suikang", GUANGZHOU).identity(&desk.node(GUANGZHOU, "suikang")?);
        let yuekang = Node::codes("yuekang", GUANGDONG)
            .scopes(&[GUANGZHOU])
            .identity(&desk.node(GUANGDONG, "yuekang")?);
        let suikang = suikang.gateways(&control).start().await?;
        let yuekang = yuekang.gateways(&control).start().await?;
        gateway.sees("suikang", suikang.address).await?;
        gateway.sees("yuekang", yuekang.address).await?;
        Ok(Self { desk, gateway, suikang, yuekang, etcd })
    }

    /// Writes into etcd as its owner can.
    async fn put(&self, key: &str, value: &[u8]) -> anyhow::Result<()> {
        // etcdctl takes a value that is no text on its standard input.
        let file = self.desk.path("value");
        std::fs::write(&file, value)?;
        let (etcdctl, endpoint) = (programs::etcdctl(), self.etcd.endpoint());
        let key = key.to_owned();
        let output = tokio::task::spawn_blocking(move || {
            Command::new(etcdctl)
                .env("ETCDCTL_API", "3")
                .args(["--endpoints", &endpoint, "put", &key])
                .stdin(std::fs::File::open(file)?)
                .output()
        });
        let output = output.await??;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// The routes, as an operator sees them.
    async fn routes(&self) -> anyhow::Result<Vec<(String, Vec<String>, u32)>> {
        let nodes = self.gateway.nodes().await?.nodes;
        let of = |node: suiyue_proto::v1::NodeInfo| {
            let addresses = node.endpoints.iter().map(|endpoint| endpoint.address.clone()).collect();
            (node.node, addresses, node.rps_max)
        };
        Ok(nodes.into_iter().map(of).collect())
    }

    /// The gateway says why it does not use a key, and no route has changed.
    pub(crate) async fn refuses(&self, key: &str, value: &[u8], reason: &str) -> anyhow::Result<()> {
        let before = self.routes().await?;
        self.put(key, value).await?;
        eventually(&format!("{key} is refused"), async || {
            let table = self.gateway.nodes().await?.table.context("a table")?;
            let bad = table.quarantined.iter().find(|bad| bad.key == key).context("not quarantined")?;
            ensure!(bad.reason.contains(reason), "{:?}", bad.reason);
            Ok(())
        })
        .await?;
        ensure!(self.routes().await? == before, "a route has changed");
        Ok(())
    }
}

fn manifest(name: &str, region: u32) -> Manifest {
    let role = if region.is_multiple_of(10_000) { Role::Province } else { Role::City };
    Manifest { region, node: name.to_owned(), role: role.into(), scopes: vec![region], ..Default::default() }
}

/// What a registrar answers to somebody with this certificate who says that.
async fn registered(
    control: SocketAddr,
    shown: &Identity,
    signer: &suiyue_proto::identity::Files,
    manifest: &Manifest,
) -> anyhow::Result<Option<Reason>> {
    let endpoint = EndpointDeclaration {
        region: manifest.region,
        node: manifest.node.clone(),
        endpoint: "one".to_owned(),
        address: "127.0.0.1:9".to_owned(),
        incarnation: 1,
    };
    let signed = sign(signer, Kind::Manifest, manifest)?;
    let hello = Hello {
        chain: signed.chain.clone(),
        signed_manifest: Some(SignedRecord { chain: Vec::new(), ..signed }),
        signed_endpoint: Some(SignedRecord { chain: Vec::new(), ..sign(signer, Kind::Endpoint, &endpoint)? }),
        report: Some(Report {
            ready: vec![RegionReady { region: manifest.region, as_of_unix_ms: 1 }],
            draining: false,
        }),
        ..Default::default()
    };
    let channel =
        suiyue_node::identity::connect(shown, Endpoint::from_shared(format!("http://{control}"))?).await?;
    let (say, said) = tokio::sync::mpsc::channel(1);
    say.send(RegisterRequest { message: Some(Say::Hello(hello)) }).await?;
    let request = Request::new(tokio_stream::wrappers::ReceiverStream::new(said));
    let mut client = RegistryServiceClient::new(channel);
    let mut heard = match ends("the registrar answers", client.register(request)).await? {
        Ok(answer) => answer.into_inner(),
        Err(status) => return refusal(&status).map(Some),
    };
    match ends("the registrar answers", heard.message()).await? {
        Ok(_) => Ok(None),
        Err(status) => refusal(&status).map(Some),
    }
}

/// Why the registrar refuses; an error where the connection did not get that far.
fn refusal(status: &tonic::Status) -> anyhow::Result<Reason> {
    Reason::of(status).with_context(|| format!("no answer of the registrar: {status}"))
}

#[tokio::test]
async fn what_the_owner_of_etcd_forges_moves_no_call() -> anyhow::Result<()> {
    let scene = Scene::start().await?;
    let Scene { desk, .. } = &scene;
    let (spec, live) = (format!("{SUIKANG}/spec"), format!("{SUIKANG}/live/suikang-1"));
    // A manifest by a stranger with the right name.
    let stranger = Desk::new()?;
    let forged = stranger.issue("suikang", &node_id(GUANGZHOU, "suikang"), |_| {})?;
    let evil = Manifest { rps_max: 1, serial: 99, ..manifest("suikang", GUANGZHOU) };
    scene.refuses(&spec, &sign(&forged, Kind::Manifest, &evil)?.encode_to_vec(), "vouches").await?;
    // The genuine certificate under words that its key did not sign.
    let genuine = desk.files("suikang");
    let mut record = sign(&genuine, Kind::Manifest, &manifest("suikang", GUANGZHOU))?;
    record.payload = evil.encode_to_vec().into();
    scene.refuses(&spec, &record.encode_to_vec(), "signature").await?;
    // Guangzhou's address, led elsewhere.
    let unsigned = LiveEndpoint { address: "127.0.0.1:6".to_owned(), incarnation: 6, ..Default::default() };
    scene.refuses(&live, &unsigned.encode_to_vec(), "not signed").await?;
    scene.refuses(&format!("{SUIKANG}/live/evil"), &unsigned.encode_to_vec(), "not signed").await?;
    // The record of trust, rewritten by somebody else, and set back.
    scene.refuses("/suiyue/v1/trust/44", &stranger.record(9, |_| {}), "anchor").await?;
    desk.publish(&scene.gateway, desk.record(3, |_| {})).await?;
    scene.refuses("/suiyue/v1/trust/44", &desk.record(2, |_| {}), "older record").await?;
    // A manifest that the node itself signed once, with a lower serial.
    let newer = Manifest { serial: 7, scopes: vec![GUANGZHOU], ..manifest("suikang", GUANGZHOU) };
    scene.put(&spec, &sign(&genuine, Kind::Manifest, &newer)?.encode_to_vec()).await?;
    eventually("the newer manifest counts", async || {
        let dump = scene.gateway.dump().await?;
        let text = &dump.iter().find(|(key, _)| *key == spec).context("no spec")?.1;
        ensure!(text.contains("serial=7"), "{text}");
        let bad = scene.gateway.nodes().await?.table.context("a table")?.quarantined;
        ensure!(bad.iter().all(|bad| bad.key != spec), "{bad:?}");
        Ok(())
    })
    .await?;
    let older = Manifest { serial: 6, rps_max: 1, ..manifest("suikang", GUANGZHOU) };
    scene.refuses(&spec, &sign(&genuine, Kind::Manifest, &older)?.encode_to_vec(), "older manifest").await?;
    Ok(())
}

#[tokio::test]
async fn certificates_that_are_not_good_register_nobody() -> anyhow::Result<()> {
    let scene = Scene::start().await?;
    let (desk, control) = (&scene.desk, scene.gateway.control);
    let before = scene.routes().await?;
    let suikang = Identity::open(desk.files("suikang"))?;
    // A certificate of province 44 for a node of Xi'an: nobody vouches for it at the door.
    let xian = desk.issue("chengma", &node_id(XIAN, "chengma"), |_| {})?;
    let shown = Identity::open(xian.clone())?;
    ensure!(registered(control, &shown, &xian, &manifest("chengma", XIAN)).await.is_err());
    // Behind a good certificate the same, and a manifest that claims Xi'an.
    let refused = registered(control, &suikang, &xian, &manifest("chengma", XIAN)).await?;
    assert_eq!(refused, Some(Reason::IdentityRefused));
    let own = desk.files("suikang");
    let refused = registered(control, &suikang, &own, &manifest("suikang", XIAN)).await?;
    assert_eq!(refused, Some(Reason::IdentityRefused));
    let wide = Manifest { scopes: vec![GUANGZHOU, XIAN], ..manifest("suikang", GUANGZHOU) };
    assert_eq!(registered(control, &suikang, &own, &wide).await?, Some(Reason::JoinScopeRefused));
    // An operator's certificate registers no node.
    let operator = desk.operator()?;
    let refused = registered(control, &operator, &own, &manifest("suikang", GUANGZHOU)).await?;
    assert_eq!(refused, Some(Reason::IdentityRefused));
    // What no door takes: each is tried as a node's certificate that is good but for one thing.
    type Change = fn(&mut Order);
    let changes: [(&str, Change); 5] = [
        ("two URIs", |order| order.uris.push(format!("spiffe://{FEDERATION}/app/a"))),
        ("a wildcard", |order| order.uris = vec![node_id(GUANGZHOU, "*")]),
        ("no URI", |order| order.uris.clear()),
        ("another use", |order| order.uses = vec![Usage::Server]),
        ("expired", |order| order.not_after_unix_s = now() - 1),
    ];
    for (what, change) in changes {
        let bad = desk.issue("bad", &node_id(GUANGZHOU, "suikang"), change)?;
        let refused = registered(control, &suikang, &bad, &manifest("suikang", GUANGZHOU)).await?;
        ensure!(refused.is_some(), "{what}: a record was taken");
        ensure!(door(control, &suikang, Some(&bad), |_| {}).await.is_err(), "{what}: the door is open");
    }
    ensure!(scene.routes().await? == before, "a route has changed");
    Ok(())
}

/// Knocks at a port with a certificate, or as whatever `change` makes of us; `Ok`: it is open.
async fn door(
    address: SocketAddr,
    own: &Identity,
    files: Option<&suiyue_proto::identity::Files>,
    change: impl FnOnce(&mut rustls::ClientConfig),
) -> anyhow::Result<()> {
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
    let mut config =
        rustls::ClientConfig::clone(&tls::client(own, Arc::new(own.clone()), Arc::new(|_| true)));
    if let Some(files) = files {
        let chain = suiyue_proto::identity::certificate::chain_from_pem(&std::fs::read(&files.cert)?)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)?;
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
        let key = Arc::new(rustls::sign::CertifiedKey::new(chain, key));
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(key));
    }
    change(&mut config);
    let socket = TcpStream::connect(address).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = ends("the handshake", connector.connect(tls::no_name(), socket)).await??;
    // In TLS 1.3 a client learns only afterwards that its certificate was refused.
    let (mut send, connection) = h2::client::handshake(stream).await?;
    let serving = tokio::spawn(connection);
    let request = http::Request::post("http://a/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
    let request = request.header("content-type", "application/grpc").header("te", "trailers").body(())?;
    let (answer, _body) = send.send_request(request, false)?;
    let answer = ends("an answer", async {
        tokio::select! {
            answer = answer => answer.map(drop).map_err(anyhow::Error::from),
            ended = serving => bail!("the connection ended: {ended:?}"),
        }
    });
    answer.await?
}

#[tokio::test]
async fn doors_open_to_the_right_callers_only() -> anyhow::Result<()> {
    let scene = Scene::start().await?;
    let (desk, node, control) = (&scene.desk, scene.suikang.address, scene.gateway.control);
    let gateway = Identity::open(desk.files("gw-1"))?;
    let suikang = Identity::open(desk.files("suikang"))?;
    let yuekang = Identity::open(desk.files("yuekang"))?;
    let app = Identity::open(desk.issue("app", &format!("spiffe://{FEDERATION}/app/a"), |_| {})?)?;
    let operator = desk.operator()?;
    // A gateway gets into a node; nobody else does, also no other node.
    door(node, &gateway, None, |_| {}).await.context("a gateway at a node")?;
    for (who, own) in [("a node", &yuekang), ("an app", &app), ("an operator", &operator)] {
        ensure!(door(node, own, None, |_| {}).await.is_err(), "{who} got into a node");
    }
    // Nodes and operators get into the control port, apps do not.
    door(control, &suikang, None, |_| {}).await.context("a node at the control port")?;
    door(control, &operator, None, |_| {}).await.context("an operator at the control port")?;
    ensure!(door(control, &app, None, |_| {}).await.is_err(), "an app got into the control port");
    // Another federation's certificate, and one by another authority.
    let foreign = Desk::new()?;
    let stranger = foreign.issue("gw-1", &format!("spiffe://{FEDERATION}/gateway/gw-1"), |_| {})?;
    let other = desk.issue("other", "spiffe://other/gateway/gw-1", |_| {})?;
    for port in [node, control] {
        ensure!(door(port, &gateway, Some(&stranger), |_| {}).await.is_err(), "another authority's");
        ensure!(door(port, &gateway, Some(&other), |_| {}).await.is_err(), "another federation's");
        let none = |config: &mut rustls::ClientConfig| {
            config.client_auth_cert_resolver = Arc::new(Nobody);
        };
        ensure!(door(port, &gateway, None, none).await.is_err(), "without a certificate");
        let silent = |config: &mut rustls::ClientConfig| config.alpn_protocols.clear();
        ensure!(door(port, &gateway, None, silent).await.is_err(), "without ALPN");
        ensure!(old_tls(port, &gateway).await.is_err(), "TLS 1.2");
        // In the clear.
        ensure!(suiyue_tests::client::Connection::open(port).await.is_err() || plain_fails(port).await);
    }
    Ok(())
}

/// Shows no certificate.
#[derive(Debug)]
struct Nobody;

impl rustls::client::ResolvesClientCert for Nobody {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

async fn plain_fails(port: SocketAddr) -> bool {
    let channel = suiyue_tests::client::channel(port).await;
    let Ok(channel) = channel else { return true };
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
    let answer = client.check(tonic_health::pb::HealthCheckRequest::default()).await;
    // An answer of a service, also UNIMPLEMENTED, would have come over a connection.
    answer.is_err_and(|status| {
        status.code() == tonic::Code::Unknown
            || status.code() == tonic::Code::Unavailable
            || status.code() == tonic::Code::Internal
    })
}

async fn old_tls(port: SocketAddr, own: &Identity) -> anyhow::Result<()> {
    let mut config = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_client_cert_resolver(Arc::new(own.clone()));
    config.alpn_protocols = vec![tls::ALPN.to_vec()];
    let socket = TcpStream::connect(port).await?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(tls::no_name(), socket).await?;
    Ok(())
}

#[tokio::test]
async fn calls_go_to_the_very_node_or_nowhere() -> anyhow::Result<()> {
    let scene = Scene::start().await?;
    let own = scene.desk.files("suikang");
    let live = |endpoint: &str, address: SocketAddr| -> anyhow::Result<Vec<u8>> {
        let declared = EndpointDeclaration {
            region: GUANGZHOU,
            node: "suikang".to_owned(),
            endpoint: endpoint.to_owned(),
            address: address.to_string(),
            incarnation: 7,
        };
        let ready = vec![RegionReady { region: GUANGZHOU, as_of_unix_ms: now() * 1000 }];
        let live = LiveEndpoint {
            report: Some(Report { ready, draining: false }),
            signed: Some(sign(&own, Kind::Endpoint, &declared)?),
            ..Default::default()
        };
        Ok(live.encode_to_vec())
    };
    // Suikang itself has signed both; at one of the addresses Yuekang answers.
    scene.put(&format!("{SUIKANG}/live/astray"), &live("astray", scene.yuekang.address)?).await?;
    scene.put(&format!("{SUIKANG}/live/again"), &live("again", scene.suikang.address)?).await?;
    let health = async |name: &str| {
        let node = scene.gateway.node("suikang").await?;
        let endpoint = node.endpoints.iter().find(|endpoint| endpoint.endpoint == name);
        anyhow::Ok(endpoint.context("it is not listed")?.clone())
    };
    eventually("the one that is Suikang is in rotation", async || {
        let again = health("again").await?;
        ensure!(again.health() == Health::Ok, "{again:?}");
        Ok(())
    })
    .await?;
    eventually("the other one was tried", async || {
        let astray = health("astray").await?;
        ensure!(astray.health_reason != "not checked yet", "{astray:?}");
        Ok(())
    })
    .await?;
    ensure!(health("astray").await?.health() != Health::Ok);
    Ok(())
}

#[tokio::test]
async fn who_is_revoked_is_out_within_seconds_and_open_connections_too() -> anyhow::Result<()> {
    let scene = Scene::start().await?;
    let id = node_id(GUANGZHOU, "suikang");
    let revoked = std::time::Instant::now();
    let record = scene.desk.record(2, |trust| trust.revoked_ids = vec![id]);
    scene.desk.publish(&scene.gateway, record).await?;
    scene.gateway.forgets(scene.suikang.address).await?;
    // Nobody is connected to it any more, neither for calls nor for checks, and its stream has ended.
    let port = scene.suikang.address.port();
    eventually("connections to the revoked node are closed", async || {
        let open = established(port)?;
        ensure!(open == 0, "{open} connections");
        Ok(())
    })
    .await?;
    println!("revoked to closed: {:?}", revoked.elapsed());
    eventually("the node says that it is not taken", async || {
        let log = scene.suikang.process.log();
        ensure!(log.contains("not registered"), "{log}");
        Ok(())
    })
    .await?;
    scene.gateway.sees("yuekang", scene.yuekang.address).await
}

#[tokio::test]
async fn etcd_may_demand_certificates_and_a_role_that_is_limited_to_the_prefix() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let named = |name: &str| desk.issue(name, &format!("spiffe://{FEDERATION}/app/{name}"), |_| {});
    let (root, gateway) = (named("root")?, named("gateway")?);
    let etcd = Etcd::secured(Tls { server: named("etcd")?, root }).await?;
    // As deploy/README.md says.
    for line in [
        "role add suiyue",
        "role grant-permission suiyue --prefix=true readwrite /suiyue/v1/",
        "user add gateway --no-password",
        "user grant-role gateway suiyue",
        "user add root --no-password",
        "user grant-role root root",
        "auth enable",
    ] {
        etcd.ctl(&line.split(' ').collect::<Vec<_>>()).await.context(line)?;
    }
    let registry = format!(
        "[registry]\nkind = \"etcd\"\nendpoints = [{:?}]\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
        etcd.endpoint(),
        gateway.trust,
        gateway.cert,
        gateway.key
    );
    let one = Gateway::builder("gw-1").registry(&registry).join(GUANGZHOU, &token(GUANGZHOU)).start().await?;
    let node = Node::codes("suikang", GUANGZHOU).gateways(&[one.control]).start().await?;
    one.sees("suikang", node.address).await?;
    let kept = etcd.leases("/live/").await?;
    ensure!(kept.iter().any(|(key, lease)| key.contains("suikang") && *lease != 0), "{kept:?}");
    etcd.ctl(&["put", "/other/key", "x"]).await?;
    for forbidden in [&["get", "/other/key"][..], &["put", "/other/key", "y"], &["user", "list"]] {
        let refused = etcd.ctl_as(Some(&gateway), forbidden).await.unwrap_err().to_string();
        ensure!(refused.contains("permission denied"), "{refused}");
    }
    ensure!(etcd.ctl_as(None, &["get", "/suiyue/v1/x"]).await.is_err(), "without a certificate");
    Ok(())
}

/// Established TCP connections to a local port.
fn established(port: u16) -> anyhow::Result<usize> {
    let remote = format!(":{port:04X}");
    let text = std::fs::read_to_string("/proc/net/tcp")?;
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (_, remote, state) = (fields.next()?, fields.nth(1)?, fields.next()?);
        Some((remote, state))
    });
    Ok(lines.filter(|(to, state)| to.ends_with(&remote) && *state == "01").count())
}
