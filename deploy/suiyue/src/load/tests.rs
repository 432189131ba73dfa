//! The driver against servers of this process that shut down, break and refuse on cue.

use super::{
    mix::Kind,
    tally::{Breakdown, Shared as Records},
    *,
};
use std::sync::atomic::AtomicBool;
use suiyue_proto::{
    reason::Reason,
    v1::{
        CodeResult, Level, RecordScansRequest, RecordScansResponse, ShowCodeRequest, ShowCodeResponse,
        Verdict, VerdictReason, VerifyBatchRequest, VerifyBatchResponse, VerifyCodeRequest,
        VerifyCodeResponse,
        code_service_server::{CodeService, CodeServiceServer},
    },
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

/// A code service that answers everything, until its plan says otherwise.
#[derive(Clone, Default)]
struct Fake {
    name: &'static str,
    calls: Arc<AtomicU64>,
    /// Shut down gracefully at this call.
    leave_at: Option<u64>,
    left: CancellationToken,
    /// Refuse every call of this number's multiples.
    refuse_every: Option<u64>,
    /// Answer codes with a verdict that their level does not explain.
    doubt: bool,
    saw_no_timeout: Arc<AtomicBool>,
}

impl Fake {
    async fn start(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let left = self.left.clone();
        let server = tonic::transport::Server::builder().add_service(CodeServiceServer::new(self));
        tokio::spawn(server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
            left.cancelled().await;
        }));
        address
    }

    fn answer<Q, A>(&self, request: &Request<Q>, answer: A) -> Result<Response<A>, Status> {
        if !request.metadata().contains_key("grpc-timeout") {
            self.saw_no_timeout.store(true, Ordering::Relaxed);
        }
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if Some(call) == self.leave_at {
            self.left.cancel();
        }
        if self.refuse_every.is_some_and(|every| call.is_multiple_of(every)) {
            return Err(Reason::NotReady.status());
        }
        let mut response = Response::new(answer);
        response.metadata_mut().insert("suiyue-served-by", self.name.parse().unwrap());
        response.metadata_mut().insert("suiyue-tier", "0".parse().unwrap());
        Ok(response)
    }
}

#[tonic::async_trait]
impl CodeService for Fake {
    type RecordScansStream = tokio_stream::Empty<Result<RecordScansResponse, Status>>;

    async fn show_code(&self, r: Request<ShowCodeRequest>) -> Result<Response<ShowCodeResponse>, Status> {
        let code = format!("SY1:{}:TEXT", r.get_ref().region);
        let answer =
            ShowCodeResponse { code, ttl_s: 60, level: Level::Green.into(), ..ShowCodeResponse::default() };
        self.answer(&r, answer)
    }

    async fn verify_code(
        &self,
        r: Request<VerifyCodeRequest>,
    ) -> Result<Response<VerifyCodeResponse>, Status> {
        let known = r.get_ref().code.starts_with("SY1:") && r.get_ref().request_id.len() == 16 && !self.doubt;
        let result = if known {
            CodeResult { verdict: Verdict::Pass.into(), ..CodeResult::default() }
        } else {
            let reasons = vec![VerdictReason::KeyUnknown.into()];
            CodeResult { verdict: Verdict::Unknown.into(), reasons, ..CodeResult::default() }
        };
        self.answer(&r, VerifyCodeResponse { result: Some(result), ..VerifyCodeResponse::default() })
    }

    async fn verify_batch(
        &self,
        _: Request<VerifyBatchRequest>,
    ) -> Result<Response<VerifyBatchResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn record_scans(
        &self,
        _: Request<Streaming<RecordScansRequest>>,
    ) -> Result<Response<Self::RecordScansStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

fn config(servers: Vec<String>) -> Config {
    Config {
        servers,
        rate: 1000,
        length: Duration::from_millis(500),
        mix: Mix::default(),
        connections: 4,
        regions: [440_100, 610_100].map(|code| Code::new(code).unwrap()).to_vec(),
        holders: 1000,
        population_seed: 1,
        seed: 7,
        in_flight: 10_000,
        timeout: None,
        authorization: None,
    }
}

async fn play(config: Config) -> (Finished, Breakdown) {
    let records = Arc::new(Records::default());
    let driver = Driver::warm(config, records.clone()).await.unwrap();
    let finished = driver.run(CancellationToken::new()).await;
    (finished, records.take())
}

#[tokio::test]
async fn every_scheduled_call_is_made_once_and_recorded_once() {
    let fake = Fake { name: "suikang", ..Fake::default() };
    let address = fake.clone().start().await;
    let (finished, breakdown) = play(config(vec![address])).await;
    assert_eq!((finished.calls, breakdown.all.calls), (500, 500));
    assert_eq!((breakdown.all.failed, breakdown.all.wrong_verdict), (0, 0), "{:?}", breakdown.faults);
    assert_eq!(breakdown.nodes["suikang"].calls, 500);
    assert_eq!(breakdown.tiers[&0], 500);
    let mut occurs = Kind::ALL.iter().filter(|kind| Mix::default().weight(**kind) > 0);
    assert!(occurs.all(|kind| breakdown.classes[kind].calls > 0));
    assert_eq!(breakdown.regions.values().map(|tally| tally.calls).sum::<u64>(), 500);
    // 500 calls, and 32 codes of each region before the clock started.
    assert_eq!(fake.calls.load(Ordering::Relaxed), 500 + 2 * 32);
    assert!(!fake.saw_no_timeout.load(Ordering::Relaxed), "a call had no grpc-timeout");
}

#[tokio::test]
async fn refusals_are_counted_with_their_reason() {
    let fake = Fake { name: "suikang", refuse_every: Some(10), ..Fake::default() };
    let (finished, breakdown) = play(config(vec![fake.start().await])).await;
    assert_eq!(finished.calls, 500);
    assert!((45..=55).contains(&breakdown.all.failed), "{}", breakdown.all.failed);
    let key = ("UNAVAILABLE".to_owned(), "NOT_READY".to_owned());
    assert_eq!(breakdown.faults, [(key, breakdown.all.failed)].into());
}

#[tokio::test]
async fn a_verdict_that_the_level_does_not_explain_is_wrong() {
    let fake = Fake { name: "suikang", doubt: true, ..Fake::default() };
    let (_, breakdown) = play(config(vec![fake.start().await])).await;
    let scans = breakdown.classes[&Kind::Scan].calls + breakdown.classes[&Kind::Cross].calls;
    assert_eq!((breakdown.all.failed, breakdown.all.wrong_verdict), (0, scans));
}

#[tokio::test]
async fn goaway_moves_to_the_next_address_and_fails_nothing() {
    let leaving = Fake { name: "leaving", leave_at: Some(200), ..Fake::default() };
    let staying = Fake { name: "staying", ..Fake::default() };
    let servers = vec![leaving.start().await, staying.clone().start().await];
    let (finished, breakdown) = play(config(servers)).await;
    assert_eq!((finished.calls, breakdown.all.failed), (500, 0), "{:?}", breakdown.faults);
    assert!(breakdown.nodes["staying"].calls > 250, "{:?}", breakdown.nodes["staying"].calls);
    let answered: u64 = breakdown.nodes.values().map(|tally| tally.calls).sum();
    assert_eq!(answered, 500);
}

#[tokio::test]
async fn the_next_address_is_used_when_the_first_refuses() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let servers = vec![nobody, Fake { name: "second", ..Fake::default() }.start().await];
    let (finished, breakdown) = play(config(servers)).await;
    assert_eq!((finished.calls, breakdown.nodes["second"].calls), (500, 500));
}

/// Answers `answered` calls of each connection, then breaks all connections and never comes back.
async fn breaking_server(answered: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        drop(listener);
        let mut connection = h2::server::handshake(socket).await.unwrap();
        let mut seen = 0;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            seen += 1;
            if seen > answered {
                return;
            }
            let region = request.headers()["suiyue-region"].to_str().unwrap().to_owned();
            let shown = ShowCodeResponse { code: format!("SY1:{region}:T"), ttl_s: 60, ..Default::default() };
            let mut body = respond.send_response(http::Response::new(()), false).unwrap();
            body.send_data(call::framed(&shown), false).unwrap();
            let ok = [(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))];
            body.send_trailers(ok.into_iter().collect()).unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_broken_server_fails_calls_and_loses_none() {
    let address = breaking_server(100).await;
    let only_shows = Config {
        mix: "show=1".parse().unwrap(),
        connections: 1,
        timeout: Some(Duration::from_millis(200)),
        ..config(vec![address])
    };
    let (finished, breakdown) = play(only_shows).await;
    assert_eq!((finished.calls, breakdown.all.calls, breakdown.all.failed), (500, 500, 400));
    let reasons: Vec<_> = breakdown.faults.keys().map(|(_, reason)| reason.as_str()).collect();
    assert!(reasons.iter().all(|reason| reason.starts_with("DRIVER_")), "{reasons:?}");
}

#[tokio::test]
async fn calls_beyond_the_bound_in_flight_fail_at_once() {
    // It accepts connections and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let holding = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        let mut unanswered = Vec::new();
        while let Some(Ok(call)) = connection.accept().await {
            unanswered.push(call);
        }
    });
    let config = Config {
        mix: "show=1".parse().unwrap(),
        connections: 1,
        in_flight: 50,
        timeout: Some(Duration::from_secs(2)),
        ..config(vec![address])
    };
    let (finished, breakdown) = play(config).await;
    assert_eq!((finished.calls, breakdown.all.failed), (500, 500));
    let by = |code: &str, reason: &str| breakdown.faults[&(code.to_owned(), reason.to_owned())];
    assert_eq!(by("DEADLINE_EXCEEDED", "DRIVER_UNANSWERED"), 50);
    assert_eq!(by("RESOURCE_EXHAUSTED", "DRIVER_FULL"), 450);
    holding.abort();
}

#[tokio::test]
async fn a_run_that_cannot_start_says_why() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let check = async |config: Config, wanted: &str| {
        let Err(error) = Driver::warm(config, Arc::new(Records::default())).await else { panic!("{wanted}") };
        assert!(error.to_string().contains(wanted), "{error}");
    };
    let good = config(vec![nobody.clone()]);
    check(Config { rate: 0, ..good.clone() }, "--rate").await;
    check(Config { regions: Vec::new(), ..good.clone() }, "--regions").await;
    check(Config { regions: good.regions[..1].to_vec(), ..good.clone() }, "two regions").await;
    check(Config { servers: Vec::new(), ..good.clone() }, "--server").await;
    tokio::time::pause();
    check(good, &nobody).await;
}

#[test]
fn the_report_has_the_documented_fields() {
    let record = record::Record {
        due: Instant::now(),
        kind: Kind::Show,
        region: Code::new(440_100).unwrap(),
        latency: Duration::from_micros(200),
        served: record::ServedBy { node: Some("suikang".into()), tier: Some(0), attempt: 2 },
        outcome: record::Outcome::driver("UNAVAILABLE", "DRIVER_FULL"),
    };
    let mut breakdown = Breakdown::default();
    breakdown.add(&record);
    let finished = Finished { calls: 1, elapsed: Duration::from_secs(1), unprocessed: 3 };
    let report = report::Report::new(&config(Vec::new()), finished, &breakdown);
    let json = serde_json::to_value(&report).unwrap();
    for pointer in ["/by_class/show", "/by_region/440100", "/by_node/suikang"] {
        assert_eq!(json.pointer(pointer).unwrap()["failed"], 1, "{pointer}");
        assert_eq!(json.pointer(pointer).unwrap()["p50_ms"], 0.2, "{pointer}");
    }
    assert_eq!((&json["calls"], &json["failed"], &json["unprocessed"]), (&1.into(), &1.into(), &3.into()));
    assert_eq!((&json["by_tier"]["0"], &json["by_attempt"]["2"]), (&1.into(), &1.into()));
    assert_eq!(
        json["faults"][0],
        serde_json::json!({"code": "UNAVAILABLE", "reason": "DRIVER_FULL", "calls": 1})
    );
    assert!(report.tables().contains("node suikang"));
}
