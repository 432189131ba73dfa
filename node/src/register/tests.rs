//! The registration against a registrar that does what the test says.

use super::*;
use suiyue_proto::v1::registry_service_server::{RegistryService, RegistryServiceServer};
use tokio::net::TcpListener;
use tonic::Response;

type Answer = Result<v1::RegisterResponse, Status>;

/// One stream as the registrar sees it.
pub(crate) struct Stream {
    token: String,
    heard: Streaming<v1::RegisterRequest>,
    answer: mpsc::Sender<Answer>,
}

#[derive(Clone)]
struct Registrar {
    streams: mpsc::Sender<Stream>,
}

#[tonic::async_trait]
impl RegistryService for Registrar {
    type RegisterStream = ReceiverStream<Answer>;

    async fn register(
        &self,
        request: Request<Streaming<v1::RegisterRequest>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let token = request.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
        let (answer, answers) = mpsc::channel(8);
        let stream = Stream { token, heard: request.into_inner(), answer };
        self.streams.send(stream).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// A registrar on a free port; it hands its streams to the test.
pub(crate) async fn registrar() -> (String, mpsc::Receiver<Stream>, crate::server::End) {
    let (streams, seen) = mpsc::channel(8);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let end = crate::server::End::default();
    let routes = tonic::service::Routes::new(RegistryServiceServer::new(Registrar { streams }));
    tokio::spawn(crate::server::serve(listener, routes, end.clone()));
    (address, seen, end)
}

fn registration(gateways: Vec<String>) -> Registration {
    Registration {
        gateways,
        token: "secret".to_owned(),
        identity: None,
        manifest: v1::Manifest { region: 440_100, node: "suikang".to_owned(), ..v1::Manifest::default() },
        endpoint: "suikang-1".to_owned(),
        address: "127.0.0.1:9".to_owned(),
        incarnation: 7,
    }
}

fn ready(region: u32) -> v1::Report {
    v1::Report { ready: vec![v1::RegionReady { region, as_of_unix_ms: 1 }], draining: false }
}

impl Stream {
    pub(crate) async fn hear(&mut self) -> Say {
        self.heard.message().await.unwrap().unwrap().message.unwrap()
    }

    /// The next message that is no heartbeat.
    pub(crate) async fn hello(&mut self) -> v1::Hello {
        match self.hear().await {
            Say::Hello(hello) => hello,
            other => panic!("{other:?} came before the hello"),
        }
    }

    pub(crate) async fn say(&self, message: Heard) {
        self.answer.send(Ok(v1::RegisterResponse { message: Some(message) })).await.unwrap();
    }

    pub(crate) async fn welcome(&self, heartbeat_ms: u32) {
        let gateway = "gw-1".to_owned();
        self.say(Heard::Welcome(v1::Welcome { gateway, heartbeat_ms, lease_ms: 15_000 })).await;
    }
}

#[tokio::test]
async fn it_says_hello_reports_changes_learns_keys_and_says_goodbye() {
    let (address, mut streams, _end) = registrar().await;
    let (mut handle, feeds) = channels(ready(440_100), Vec::new());
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(run(registration(vec![address]), feeds, shutdown.clone()));
    let mut stream = streams.recv().await.unwrap();
    assert_eq!(stream.token, "Bearer secret");
    let hello = stream.hello().await;
    assert_eq!((hello.incarnation, hello.report), (7, Some(ready(440_100))));
    stream.welcome(60_000).await;
    stream.say(Heard::Keys(v1::FederationKeys { revision: 3, keys: Vec::new() })).await;
    assert_eq!(handle.federation.wait_for(|keys| keys.revision == 3).await.unwrap().revision, 3);
    assert_eq!(*handle.state.borrow(), State::Joined { gateway: "gw-1".to_owned() });

    handle.report.send_replace(ready(440_000));
    assert_eq!(stream.hear().await, Say::Report(ready(440_000)));
    shutdown.cancel();
    assert!(matches!(stream.hear().await, Say::Report(_)));
    assert_eq!(stream.hear().await, Say::Goodbye(v1::Goodbye {}));
    assert!(!task.is_finished());
    stream.say(Heard::Farewell(v1::Farewell {})).await;
    task.await.unwrap();
    assert_eq!(*handle.state.borrow(), State::Gone);
}

#[tokio::test]
async fn heartbeats_come_as_often_as_asked() {
    let (address, mut streams, _end) = registrar().await;
    let (_handle, feeds) = channels(ready(440_100), Vec::new());
    let task = tokio::spawn(run(registration(vec![address]), feeds, CancellationToken::new()));
    let mut stream = streams.recv().await.unwrap();
    stream.hello().await;
    stream.welcome(200).await;
    for _ in 0..3 {
        assert_eq!(stream.hear().await, Say::Report(ready(440_100)));
    }
    task.abort();
}

#[tokio::test]
async fn the_next_gateway_is_tried_and_the_first_again_after_it() {
    let (first, mut firsts, first_end) = registrar().await;
    let (second, mut seconds, _end) = registrar().await;
    let (mut handle, feeds) = channels(ready(440_100), Vec::new());
    let shutdown = CancellationToken::new();
    let gateways = vec!["127.0.0.1:1".to_owned(), first, second];
    let task = tokio::spawn(run(registration(gateways), feeds, shutdown.clone()));
    let mut stream = firsts.recv().await.unwrap();
    stream.hello().await;
    stream.welcome(60_000).await;
    handle.state.wait_for(|state| matches!(state, State::Joined { .. })).await.unwrap();
    // The gateway dies: no farewell, the connection just ends.
    first_end.goaway.cancel();
    first_end.abort.cancel();
    drop(stream);
    let mut stream = seconds.recv().await.unwrap();
    assert_eq!(stream.hello().await.incarnation, 7, "the same incarnation: it did not restart");
    stream.answer.send(Err(Reason::RegistryUnavailable.status())).await.unwrap();
    let mut stream = seconds.recv().await.unwrap();
    stream.hello().await;
    stream.welcome(60_000).await;
    handle.state.wait_for(|state| matches!(state, State::Joined { .. })).await.unwrap();
    shutdown.cancel();
    drop(stream);
    task.await.unwrap();
}

#[tokio::test]
async fn other_keys_are_registered_with_a_new_hello() {
    let (address, mut streams, _end) = registrar().await;
    let (mut handle, feeds) = channels(ready(440_100), Vec::new());
    let task = tokio::spawn(run(registration(vec![address]), feeds, CancellationToken::new()));
    let mut stream = streams.recv().await.unwrap();
    stream.hello().await;
    stream.welcome(60_000).await;
    handle.state.wait_for(|state| matches!(state, State::Joined { .. })).await.unwrap();
    handle.keys.send_replace(vec![v1::VerifyingKey { algorithm: 1, ..v1::VerifyingKey::default() }]);
    let mut again = streams.recv().await.unwrap();
    assert_eq!(again.hello().await.keys.len(), 1);
    task.abort();
}

#[tokio::test]
async fn a_node_that_never_joined_leaves_without_a_gateway() {
    let (_handle, feeds) = channels(ready(440_100), Vec::new());
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    run(registration(vec!["127.0.0.1:1".to_owned()]), feeds, shutdown).await;
}

#[test]
fn a_cause_that_stays_is_complained_of_once_a_minute() {
    let (mut complaints, start) = (Complaints::default(), Instant::now());
    let (wrong, away) = (Status::unauthenticated("token"), Status::unavailable("away"));
    let due = [
        (complaints.is_due("a", &wrong, start), true),
        (complaints.is_due("a", &wrong, start + Duration::from_secs(30)), false),
        (complaints.is_due("b", &wrong, start + Duration::from_secs(30)), true),
        (complaints.is_due("a", &away, start + Duration::from_secs(30)), true),
        (complaints.is_due("a", &wrong, start + Duration::from_secs(61)), true),
    ];
    assert!(due.iter().all(|(is, expected)| is == expected), "{due:?}");
}
