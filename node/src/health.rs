//! What does this node say when it is asked how it is?
//!
//! `grpc.health.v1` with the service name "" for the whole node and `suiyue.region.440100` for each
//! region in scope. A region is SERVING once its holders are loaded; the whole is once everything is.
//! A node that is finishing is NOT_SERVING, while it still answers calls.

use crate::readiness::{Readiness, State};
use futures_util::{Stream, StreamExt as _, stream};
use std::pin::Pin;
use std::sync::Arc;
use suiyue_proto::reason::Reason;
use suiyue_proto::region::Code;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Service names of regions begin with this.
pub const REGION_PREFIX: &str = "suiyue.region.";

/// The health service of this node.
#[derive(Debug, Clone)]
pub struct Service {
    /// What is loaded.
    pub readiness: Arc<Readiness>,
    /// Cancelled when streams must end.
    pub ending: CancellationToken,
}

#[derive(Debug, Clone, Copy)]
enum Asked {
    Whole,
    Region(Code),
    Unknown,
}

impl Service {
    fn asked(&self, service: &str) -> Asked {
        if service.is_empty() {
            return Asked::Whole;
        }
        let region = service.strip_prefix(REGION_PREFIX).and_then(|code| code.parse().ok());
        match region.filter(|region| self.readiness.in_scope(*region)) {
            Some(region) => Asked::Region(region),
            None => Asked::Unknown,
        }
    }

    fn status(asked: Asked, state: &State) -> ServingStatus {
        let serving = match asked {
            Asked::Unknown => return ServingStatus::ServiceUnknown,
            Asked::Whole => state.loaded && !state.ready.is_empty(),
            Asked::Region(region) => state.ready.contains_key(&region),
        };
        match serving && !state.draining {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        }
    }
}

#[tonic::async_trait]
impl Health for Service {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let asked = self.asked(&request.get_ref().service);
        if matches!(asked, Asked::Unknown) {
            return Err(Status::not_found("no such service"));
        }
        let status = Self::status(asked, &self.readiness.watch().borrow());
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let asked = self.asked(&request.get_ref().service);
        let mut last = None;
        let changes = WatchStream::new(self.readiness.watch()).filter_map(move |state| {
            let status = Self::status(asked, &state);
            let news = last != Some(status);
            last = Some(status);
            async move { news.then(|| Ok(HealthCheckResponse { status: status.into() })) }
        });
        let end = self.ending.clone().cancelled_owned();
        let last = stream::once(async { Err(Reason::NodeDraining.status()) });
        Ok(Response::new(Box::pin(changes.take_until(end).chain(last))))
    }
}
