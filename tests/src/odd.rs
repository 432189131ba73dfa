//! What does a node look like that breaks the contract on purpose?
//!
//! A small code system in this process that is wrong in one way only: in all others it does as every
//! node should. It knows nobody by itself and keeps nothing.

use std::{net::SocketAddr, time::Duration};
use suiyue_node::server;
use suiyue_proto::{
    reason::Reason,
    v1::{
        self,
        code_service_server::{CodeService, CodeServiceServer},
    },
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, Streaming, service::Routes};
use tonic_health::ServingStatus;

/// How it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ill {
    /// It has loaded nobody, says that it serves, shows codes, and then knows no holder.
    Empty,
    /// It does not hear of deadlines: a hurried verification takes as long as any that is hard.
    Deaf,
}

/// A running one. Its task ends with the test's runtime.
#[derive(Debug)]
pub struct Odd {
    /// Where it serves.
    pub address: SocketAddr,
}

impl Odd {
    /// Guangzhou's, wrong in this way.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(ill: Ill) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (health, health_service) = tonic_health::server::health_reporter();
        let region = crate::region::GUANGZHOU;
        health.set_service_status(format!("suiyue.region.{region}"), ServingStatus::Serving).await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(suiyue_proto::DESCRIPTOR_SET)
            .build_v1()?;
        let routes = Routes::new(health_service)
            .add_service(reflection)
            .add_service(CodeServiceServer::new(Service { ill }));
        // Not tonic's own server: that one hears of deadlines.
        tokio::spawn(server::serve(listener, routes, server::End::default()));
        Ok(Self { address })
    }
}

/// How long a hard verification takes.
const HARD: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Service {
    ill: Ill,
}

impl Service {
    fn judge(&self) -> v1::CodeResult {
        match self.ill {
            Ill::Empty => v1::CodeResult {
                verdict: v1::Verdict::Unknown.into(),
                reasons: vec![v1::VerdictReason::SubjectUnknown.into()],
                ..v1::CodeResult::default()
            },
            Ill::Deaf => v1::CodeResult { verdict: v1::Verdict::Pass.into(), ..v1::CodeResult::default() },
        }
    }
}

#[tonic::async_trait]
impl CodeService for Service {
    async fn show_code(
        &self,
        request: Request<v1::ShowCodeRequest>,
    ) -> Result<Response<v1::ShowCodeResponse>, Status> {
        let region = request.get_ref().region;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(Response::new(v1::ShowCodeResponse {
            code: format!("ODD:{region}:{}", now.as_nanos()),
            ttl_s: 60,
            refresh_after_s: 30,
            level: v1::Level::Green.into(),
            issued_unix_s: i64::try_from(now.as_secs()).unwrap_or(0),
            ..v1::ShowCodeResponse::default()
        }))
    }

    async fn verify_code(
        &self,
        request: Request<v1::VerifyCodeRequest>,
    ) -> Result<Response<v1::VerifyCodeResponse>, Status> {
        let hurried = request.metadata().get("grpc-timeout").is_some_and(|given| given == "300m");
        if self.ill == Ill::Deaf && hurried {
            tokio::time::sleep(HARD).await;
        }
        Ok(Response::new(v1::VerifyCodeResponse { result: Some(self.judge()), ..Default::default() }))
    }

    async fn verify_batch(
        &self,
        request: Request<v1::VerifyBatchRequest>,
    ) -> Result<Response<v1::VerifyBatchResponse>, Status> {
        let results = request.get_ref().codes.iter().map(|_| self.judge()).collect();
        Ok(Response::new(v1::VerifyBatchResponse { results, ..Default::default() }))
    }

    type RecordScansStream = futures_util::stream::Empty<Result<v1::RecordScansResponse, Status>>;

    async fn record_scans(
        &self,
        _: Request<Streaming<v1::RecordScansRequest>>,
    ) -> Result<Response<Self::RecordScansStream>, Status> {
        Err(Reason::StoreUnavailable.status())
    }
}
