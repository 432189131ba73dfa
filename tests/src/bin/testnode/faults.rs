//! What is wrong with the test node at present?
//!
//! A test says it through `FaultService`, on a port of its own: what is wrong with the node never stands
//! between the test and the switch. Which of a hundred calls are hit follows from their number alone, in
//! even steps: 30 % are never five in a row.

use crate::{door::Door, join::Joined};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use suiyue_tests::v1::{Arranged, Faults, fault_service_server::FaultService};
use tonic::{Code, Request, Response, Status, metadata::MetadataValue};
use tonic_health::{ServingStatus, server::HealthReporter};

/// What becomes of one call.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It is answered.
    Answer,
    /// It is refused, not executed.
    Refuse(Status),
    /// It is executed, and the answer is an error.
    Fail(Status),
    /// It is executed, and the connection is cut before the answer.
    CutBefore,
    /// It is executed, and the connection is cut in the middle of the answer.
    CutWithin,
}

/// What is wrong at present.
#[derive(Debug, Default)]
pub(crate) struct Ills {
    now: Mutex<Faults>,
    failing: AtomicU64,
    cutting: AtomicU64,
}

impl Ills {
    /// How much longer a handler takes, and what becomes of the call.
    pub(crate) fn of_a_call(&self) -> (u32, Fate) {
        let now = *self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let fate = if hit(&self.failing, now.fail_percent) {
            let status = failure(&now);
            if status.code() == Code::ResourceExhausted { Fate::Refuse(status) } else { Fate::Fail(status) }
        } else if !hit(&self.cutting, now.cut_percent) {
            Fate::Answer
        } else if now.cut_in_the_middle {
            Fate::CutWithin
        } else {
            Fate::CutBefore
        };
        (now.delay_ms, fate)
    }
}

/// Is the next call among the `percent`?
fn hit(calls: &AtomicU64, percent: u32) -> bool {
    let percent = u64::from(percent);
    percent > 0 && (calls.fetch_add(1, Relaxed) * percent) % 100 < percent
}

fn failure(now: &Faults) -> Status {
    let mut status = Status::new(Code::from_i32(now.fail_code), "as arranged");
    if let Some(pushback) = now.pushback_ms {
        status.metadata_mut().insert("grpc-retry-pushback-ms", MetadataValue::from(pushback));
    }
    status
}

/// The switch.
pub(crate) struct Switch {
    /// What handlers ask.
    pub(crate) ills: Arc<Ills>,
    /// Where connections come in.
    pub(crate) door: Arc<Door>,
    /// What health checks are told.
    pub(crate) health: HealthReporter,
    /// What is reported to the registrar.
    pub(crate) joined: Arc<Joined>,
    /// Regions that it answers for.
    pub(crate) scopes: Vec<u32>,
}

#[tonic::async_trait]
impl FaultService for Switch {
    async fn arrange(&self, request: Request<Faults>) -> Result<Response<Arranged>, Status> {
        let faults = request.into_inner();
        *self.ills.now.lock().unwrap_or_else(PoisonError::into_inner) = faults;
        let status = if faults.not_serving { ServingStatus::NotServing } else { ServingStatus::Serving };
        serve(&self.health, &self.scopes, status).await;
        self.joined.ready_for(if faults.not_ready { &[] } else { &self.scopes });
        self.door.shut(faults.silent);
        Ok(Response::new(Arranged {}))
    }
}

/// Sets what health checks of these regions are told.
pub(crate) async fn serve(health: &HealthReporter, scopes: &[u32], status: ServingStatus) {
    for scope in scopes {
        health.set_service_status(format!("suiyue.region.{scope}"), status).await;
    }
}
