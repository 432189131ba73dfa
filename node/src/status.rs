//! What is a holder's status, and who may change it?
//!
//! Reads come from the [`table`] in memory. Only the authority of the region commits: the decision
//! is made durable first, then applied, then answered, so an answer is never taken back.
//! A replica names the authority instead.

pub mod table;

use crate::scope::{self, Scope};
use crate::store::writer::Writer;
use crate::store::{Decision, Outcome, Record};
use futures_util::{Stream, StreamExt as _, stream};
use std::pin::Pin;
use std::sync::Arc;
use suiyue_proto::reason::Reason;
use suiyue_proto::region::Code;
use suiyue_proto::sy1::Level;
use suiyue_proto::v1;
use suiyue_proto::v1::status_service_server::StatusService;
use table::{Current, Table, Watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

/// The status service of this node.
#[derive(Debug, Clone)]
pub struct Service {
    /// Who answers.
    pub scope: Arc<Scope>,
    /// All holders.
    pub table: Arc<Table>,
    /// Makes decisions durable.
    pub writer: Writer,
    /// Cancelled when streams must end.
    pub ending: CancellationToken,
    /// Owns decisions under way.
    pub tasks: TaskTracker,
}

#[tonic::async_trait]
impl StatusService for Service {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let subject = scope::subject(&asked.subject)?;
        let (region, served) = self.scope.admit(&metadata, asked.region, asked.max_staleness_s)?;
        let current = self.table.current(region, &subject).ok_or_else(not_found)?;
        Ok(Response::new(v1::GetStatusResponse { served: Some(served), status: Some(current.into()) }))
    }

    type WatchStatusStream = Pin<Box<dyn Stream<Item = Result<v1::WatchStatusResponse, Status>> + Send>>;

    async fn watch_status(
        &self,
        request: Request<v1::WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let subject = scope::subject(&asked.subject)?;
        let (region, _) = self.scope.admit(&metadata, asked.region, None)?;
        let watch = self.table.watch(region, &subject).ok_or_else(not_found)?;
        let answers = follow(Arc::clone(&self.scope), region, watch);
        let end = self.ending.clone().cancelled_owned();
        // take_until only stops; the stream must say why it stops.
        let last = stream::once(async { Err(Reason::NodeDraining.status()) });
        Ok(Response::new(Box::pin(answers.take_until(end).chain(last))))
    }

    async fn commit_status(
        &self,
        request: Request<v1::CommitStatusRequest>,
    ) -> Result<Response<v1::CommitStatusResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let decision = self.read(&metadata, &asked)?;
        let region = decision.region;
        let status = self.commit(decision).await?;
        let served = self.scope.served(region);
        Ok(Response::new(v1::CommitStatusResponse { served, status: Some(status.into()) }))
    }
}

impl Service {
    fn read(
        &self,
        metadata: &tonic::metadata::MetadataMap,
        asked: &v1::CommitStatusRequest,
    ) -> Result<Decision, Status> {
        let subject = scope::subject(&asked.subject)?;
        let request_id = scope::request_id(&asked.request_id)?;
        let level = u8::try_from(asked.level)
            .ok()
            .and_then(Level::from_number)
            .ok_or_else(|| scope::invalid("level", "green, yellow or red"))?;
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=64).contains(&asked.reason.len()) || !asked.reason.bytes().all(word) {
            return Err(scope::invalid("reason", "1 to 64 characters of a-z, 0-9 and '-'"));
        }
        let region = self.scope.region(metadata, asked.region)?;
        if !self.scope.readiness.in_scope(region) {
            return Err(self.scope.not_served(region));
        }
        if !self.scope.is_authority(region) {
            return Err(self.scope.not_authority(region));
        }
        self.scope.readiness.as_of(region).ok_or_else(|| scope::not_ready(region))?;
        let decided_unix_ms = self.scope.clock.unix_ms();
        let reason = asked.reason.clone();
        Ok(Decision { request_id, region, subject, level, reason, decided_unix_ms })
    }

    /// Makes a decision durable and applies it. A decision whose caller hangs up is applied too,
    /// because it may already stand in the log: the work goes on in a task of its own.
    async fn commit(&self, decision: Decision) -> Result<Current, Status> {
        let (region, subject) = (decision.region, decision.subject);
        self.table.current(region, &subject).ok_or_else(not_found)?;
        let (writer, table) = (self.writer.clone(), Arc::clone(&self.table));
        let work = async move {
            let receipt = writer.append(vec![Record::Decision(decision.clone())]).await.ok()?.pop()?;
            let decided = match receipt.outcome {
                Outcome::Duplicate(Some(first)) => first,
                Outcome::Stored | Outcome::Duplicate(None) => decision,
            };
            table.apply(receipt.place, &decided);
            Some((receipt.place, decided))
        };
        let done = self.tasks.spawn(work).await.ok().flatten();
        let (place, decided) = done.ok_or_else(|| Reason::StoreUnavailable.status())?;
        if (decided.region, decided.subject) != (region, subject) {
            return Err(scope::invalid("request_id", "an id that was not used for another holder"));
        }
        Ok(Current::decided(place, &decided))
    }
}

/// The status now, and then each change. A watcher that is too slow to take every change gets the
/// latest.
fn follow(
    scope: Arc<Scope>,
    region: Code,
    watch: Watch,
) -> impl Stream<Item = Result<v1::WatchStatusResponse, Status>> + Send {
    stream::unfold((scope, watch), move |(scope, mut watch)| async move {
        let current = watch.next().await?;
        let answer = v1::WatchStatusResponse { served: scope.served(region), status: Some(current.into()) };
        Some((Ok(answer), (scope, watch)))
    })
}

/// One text for "no such holder" and "not for you".
pub(crate) fn not_found() -> Status {
    Reason::HolderNotFound.status()
}

impl From<Current> for v1::Status {
    fn from(current: Current) -> Self {
        Self {
            level: current.level.number().into(),
            decided_unix_ms: current.decided_unix_ms,
            reason: current.reason,
            epoch: current.place.map_or(0, |place| place.epoch),
            seq: current.place.map_or(0, |place| place.seq),
        }
    }
}
