//! A registrar with its follower, and a node that talks to it.

mod certified;
mod joining;
mod restored;
mod staying;
mod storm;

use super::*;
use crate::{
    registry::{
        Change, Entry, Error, Listing, Outcome, Txn, Update,
        embedded::Embedded,
        etcd::tests::Server as Etcd,
        follow::{Start, follow},
        peers::Peers,
        suite::{self, put, written},
    },
    table::Source,
};
use futures_util::{FutureExt as _, future::BoxFuture};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use suiyue_proto::v1::{
    self, Goodbye, Hello, LiveEndpoint, Manifest, RegionReady, Report, VerifyingKey, register_response,
    registry_service_client::RegistryServiceClient,
};
use tokio::{io::DuplexStream, task::JoinHandle, time::Instant};
use tonic::transport::{Channel, Endpoint, Server, Uri};

const LIVE: &str = "/suiyue/v1/nodes/440100/suikang/live/suikang-1";
const TTL: Duration = Duration::from_secs(15);

/// One gateway's registrar with its follower, reached over a pipe: paused time does not run away
/// from it as it does from sockets.
struct Gateway {
    registry: Arc<dyn Registry>,
    tables: watch::Receiver<Arc<Table>>,
    shutdown: CancellationToken,
    run: JoinHandle<()>,
    pipes: mpsc::UnboundedSender<Result<DuplexStream, std::io::Error>>,
}

impl Gateway {
    fn start(id: &str, registry: &Arc<Embedded>) -> Self {
        Self::over(id, registry, registry.clone())
    }

    /// A registrar that sees another registry than its follower.
    fn over<R: Registry>(id: &str, registry: &Arc<R>, seen: Arc<dyn Registry>) -> Self {
        Self::facing(id, registry, seen, None)
    }

    /// A registrar that judges certificates, and sees this one on every connection.
    fn facing<R: Registry>(
        id: &str,
        registry: &Arc<R>,
        seen: Arc<dyn Registry>,
        identity: Option<(Trust, Peer)>,
    ) -> Self {
        let (trust, peer) = identity.unzip();
        let (publish, tables) = watch::channel(Arc::new(Table::default()));
        let shutdown = CancellationToken::new();
        let publish = move |table| drop(publish.send_replace(table));
        let (prefix, source) = (Prefix::default(), Source::Embedded);
        let (registry, base, copy) = (registry.clone(), Table::default(), None);
        let start = Start {
            registry: registry.clone(),
            prefix: prefix.clone(),
            base,
            source,
            copy,
            trust: trust.clone(),
            peers: Peers::default(),
        };
        let (_, following) = follow(start, publish, shutdown.clone());
        tokio::spawn(following);
        let token = |region, token: &str| (Code::new(region).unwrap(), token.to_owned());
        let settings = Settings {
            prefix,
            gateway_id: id.to_owned(),
            control_address: "127.0.0.1:1".to_owned(),
            admin_address: "127.0.0.1:2".to_owned(),
            tokens: vec![token(440_100, "guangzhou"), token(440_000, "guangdong"), token(610_100, "xian")],
            trust,
            lease_ttl: TTL,
            heartbeat: Duration::from_secs(3),
        };
        let registrar = Registrar::new(seen, settings, tables.clone());
        let (pipes, incoming) = mpsc::unbounded_channel();
        let incoming = tokio_stream::wrappers::UnboundedReceiverStream::new(incoming);
        let introduce = move |mut request: Request<()>| {
            if let Some(peer) = &peer {
                request.extensions_mut().insert(peer.clone());
            }
            Ok(request)
        };
        let server = Server::builder().layer(tonic::service::InterceptorLayer::new(introduce));
        tokio::spawn({ server }.add_service(registrar.service()).serve_with_incoming(incoming));
        let run = tokio::spawn(registrar.run(shutdown.clone()));
        Self { registry: registry.clone(), tables, shutdown, run, pipes }
    }

    async fn channel(&self) -> Channel {
        let pipes = self.pipes.clone();
        let connect = move |_: Uri| {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let sent = pipes.send(Ok(theirs)).map_err(|_| std::io::Error::other("the gateway is gone"));
            async move { sent.map(|()| TokioIo::new(ours)) }
        };
        let endpoint = Endpoint::from_static("http://gateway");
        endpoint.connect_with_connector(tower::service_fn(connect)).await.unwrap()
    }

    /// Opens a stream, says hello and goes on when the first answer is there.
    async fn join(&self, token: &str, hello: Hello) -> Result<Node, Status> {
        join_over(self.channel().await, token, hello).await
    }

    async fn refused(&self, token: &str, hello: Hello) -> (Reason, Vec<(String, String)>) {
        use tonic_types::StatusExt as _;
        let status = self.join(token, hello).await.err().expect("the registrar refuses");
        let details = status.get_details_error_info().unwrap().metadata.into_iter().collect();
        (Reason::of(&status).unwrap(), details)
    }

    async fn until(&mut self, holds: impl FnMut(&Arc<Table>) -> bool) -> Arc<Table> {
        self.tables.wait_for(holds).await.unwrap().clone()
    }

    async fn live(&self) -> Option<(Entry, LiveEndpoint)> {
        let entry = self.registry.list(LIVE).await.unwrap().entries.into_iter().next()?;
        let live = LiveEndpoint::decode(entry.value.clone()).unwrap();
        Some((entry, live))
    }

    async fn updates(&self) -> mpsc::Receiver<Update> {
        let now = self.registry.list(LIVE).await.unwrap().revision;
        self.registry.watch(LIVE, now).await.unwrap()
    }
}

async fn join_over(channel: Channel, token: &str, hello: Hello) -> Result<Node, Status> {
    let (requests, outbound) = mpsc::channel(8);
    let mut request = Request::new(ReceiverStream::new(outbound));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    requests.send(said(Message::Hello(hello))).await.unwrap();
    let answers = RegistryServiceClient::new(channel).register(request).await?.into_inner();
    let mut node = Node { requests, answers };
    match node.next().await? {
        register_response::Message::Welcome(welcome) => {
            assert_eq!((welcome.heartbeat_ms, welcome.lease_ms), (3000, 15_000));
            Ok(node)
        }
        other => panic!("{other:?} before the welcome"),
    }
}

struct Node {
    requests: mpsc::Sender<RegisterRequest>,
    answers: Streaming<RegisterResponse>,
}

impl Node {
    async fn say(&self, message: Message) {
        self.requests.send(said(message)).await.unwrap();
    }

    async fn next(&mut self) -> Result<register_response::Message, Status> {
        let answer = self.answers.message().await?.expect("a stream ends with a status or a farewell");
        Ok(answer.message.unwrap())
    }

    async fn keys(&mut self) -> Vec<VerifyingKey> {
        match self.next().await.unwrap() {
            register_response::Message::Keys(keys) => keys.keys,
            other => panic!("{other:?} instead of the keys"),
        }
    }

    /// The reason that the stream ends with; keys that come before it are skipped.
    async fn end(&mut self) -> Option<Reason> {
        loop {
            match self.answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Reason::of(&status),
            }
        }
    }

    /// Sends heartbeats for as long as the stream lives.
    fn beat(self) -> JoinHandle<()> {
        tokio::spawn(async move {
            let Self { requests, mut answers } = self;
            let read = async { while let Ok(Some(_)) = answers.message().await {} };
            let beat = async {
                while requests.send(said(Message::Report(ready(&[440_100])))).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(3)).await;
                }
            };
            tokio::join!(read, beat);
        })
    }
}

fn said(message: Message) -> RegisterRequest {
    RegisterRequest { message: Some(message) }
}

fn ready(regions: &[u32]) -> Report {
    let ready = regions.iter().map(|&region| RegionReady { region, as_of_unix_ms: 1 }).collect();
    Report { ready, draining: false }
}

fn suikang(change: impl FnOnce(&mut Hello, &mut Manifest)) -> Hello {
    let mut manifest = Manifest {
        region: 440_100,
        node: "suikang".to_owned(),
        role: v1::Role::City.into(),
        scopes: vec![440_100],
        ..Default::default()
    };
    let mut hello = Hello {
        endpoint: "suikang-1".to_owned(),
        address: "127.0.0.1:9101".to_owned(),
        incarnation: 1,
        report: Some(ready(&[440_100])),
        ..Default::default()
    };
    change(&mut hello, &mut manifest);
    hello.manifest = Some(manifest);
    hello
}

fn plain() -> Hello {
    suikang(|_, _| {})
}

fn of_incarnation(incarnation: u64) -> Hello {
    suikang(|hello, _| hello.incarnation = incarnation)
}
