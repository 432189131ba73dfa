//! What happens while a node is registered?
//!
//! A session is one task that owns one live entry from the hello to its end, and is its only writer
//! at this gateway. It ends only when the entry is gone, belongs to somebody else, or is left to the
//! lease on purpose: an entry that nobody looks after would stay for as long as the gateway lives.

mod leave;
mod seen;

use super::{
    Shared,
    admission::Admitted,
    holders::{Holder, Since},
    pace::Pace,
    record::{self, Missing, Place, Written},
};
use crate::{
    clock::unix_ms,
    identity::{Peer, Roll, Trust},
    registry::Error,
};
use leave::Leave;
use seen::Seen;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use suiyue_proto::{
    reason::Reason,
    v1::{
        LiveEndpoint, RegionReady, RegisterRequest, RegisterResponse, Report, TrustRecords, Welcome,
        register_request, register_response::Message,
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

/// A registration is written within this time, or the node is told to try elsewhere.
const ENROLL_WITHIN: Duration = Duration::from_secs(5);
/// With the wait for its turn behind others that come at the same moment.
const JOIN_WITHIN: Duration = Duration::from_secs(30);
/// A node that has not read an answer for this long is gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How soon a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// A registration that the registry has lost is written again at most this often: what was written must
/// have time to come back through the watch.
const RESTATE_EVERY: Duration = Duration::from_secs(2);
/// Instants that data is complete up to move all the time; without any other change they are written
/// this often, which is well inside the least lag that matters (60 s).
const AS_OF_EVERY: Duration = Duration::from_secs(30);
/// Missed heartbeats that break a stream.
const MISSED: u32 = 3;

/// Why a session's stream is over.
#[derive(Debug)]
enum End {
    Goodbye,
    Broken,
    Superseded,
    Draining,
    Refused(Box<Status>),
}

/// One registration.
pub(super) struct Session {
    shared: Arc<Shared>,
    admitted: Admitted,
    place: Place,
    /// The entry as it should be.
    live: LiveEndpoint,
    /// Readiness as it was last written.
    written: Report,
    written_at: Instant,
    pace: Pace,
    /// When this session took the entry.
    since: Since,
    /// Restores of the registry that this session has acted upon.
    history: u64,
    /// When everything was last written again because the registry had lost it.
    restated_at: Option<Instant>,
    /// That failed: it is tried again.
    owes_all: bool,
    /// Node and endpoint, as tables name them.
    names: (Arc<str>, Arc<str>),
    /// Revision of our last write; 0: none is known.
    mod_revision: i64,
    lease: i64,
    /// A write failed and is tried again at this instant.
    retry_at: Option<Instant>,
    superseded: CancellationToken,
    answers: mpsc::Sender<Result<RegisterResponse, Status>>,
}

impl Session {
    pub(super) fn new(
        shared: Arc<Shared>,
        mut admitted: Admitted,
        answers: mpsc::Sender<Result<RegisterResponse, Status>>,
    ) -> Self {
        let report = within_scopes(std::mem::take(&mut admitted.report), &admitted);
        let live = LiveEndpoint {
            address: admitted.address.clone(),
            incarnation: admitted.incarnation,
            report: Some(report.clone()),
            gateway: shared.settings.gateway_id.clone(),
            written_unix_ms: unix_ms(),
            signed: admitted.signed.as_ref().map(|signed| signed.endpoint.clone()),
        };
        let history = shared.tables.borrow().histories;
        Self {
            place: Place::of(&shared.settings.prefix, &admitted),
            shared,
            history,
            restated_at: None,
            owes_all: false,
            names: (admitted.manifest.node.as_str().into(), admitted.endpoint.as_str().into()),
            admitted,
            live,
            written: report,
            written_at: Instant::now(),
            pace: Pace::new(Instant::now()),
            since: (0, 0),
            mod_revision: 0,
            lease: 0,
            retry_at: None,
            superseded: CancellationToken::new(),
            answers,
        }
    }

    /// The whole life of a registration.
    pub(super) async fn run(mut self, inbound: Streaming<RegisterRequest>) {
        let draining = self.shared.draining.clone();
        let enrolled = tokio::select! {
            enrolled = timeout(JOIN_WITHIN, self.enroll()) => enrolled.unwrap_or_else(|_| Err(unavailable())),
            () = draining.cancelled() => Err(Reason::GatewayDraining.status()),
        };
        if let Err(status) = enrolled {
            let _gone = self.answers.send(Err(status)).await;
            // A write whose outcome is unknown may have landed. A gateway that finishes leaves
            // whatever stands there to its lease.
            if !draining.is_cancelled() {
                self.remove(Leave::Silently).await;
            }
            return;
        }
        let (node, endpoint) = (self.admitted.manifest.node.clone(), self.admitted.endpoint.clone());
        tracing::info!(node, endpoint, "registered");
        let end = self.serve(inbound).await;
        tracing::info!(node, endpoint, ?end, "the registration stream is over");
        match end {
            End::Goodbye => self.part().await,
            End::Superseded => self.say(Err(Reason::Superseded.status())).await,
            End::Draining => self.say(Err(Reason::GatewayDraining.status())).await,
            End::Refused(status) => {
                self.say(Err(*status)).await;
                self.linger().await;
            }
            End::Broken => self.linger().await,
        }
        self.shared.sessions.leave(&self.place.live, self.since);
    }

    /// Writes the registration and becomes the holder of the live entry.
    async fn enroll(&mut self) -> Result<(), Status> {
        let shared = self.shared.clone();
        let mut leases = shared.lease.subscribe();
        loop {
            let lease = timeout(ENROLL_WITHIN, leases.wait_for(Option::is_some)).await;
            let lease = *lease.map_err(|_| unavailable())?.map_err(|_| unavailable())?;
            self.lease = lease.unwrap_or_default();
            match self.write_all().await {
                Ok(()) => break,
                Err(Error::LeaseGone) => {
                    shared.lease.doubt(self.lease);
                    let _ended = leases.wait_for(|now| *now != lease).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "a node cannot be registered");
                    return Err(unavailable());
                }
            }
        }
        self.enter();
        Ok(())
    }

    /// Becomes the holder of the live entry at this gateway.
    fn enter(&self) {
        let holder = Holder {
            incarnation: self.live.incarnation,
            since: self.since,
            superseded: self.superseded.clone(),
        };
        self.shared.sessions.enter(&self.place.live, holder);
    }

    /// Writes spec, keys and live entry under the lease in force. Only so many at a time.
    async fn write_all(&mut self) -> Result<(), Error> {
        let shared = self.shared.clone();
        let _turn = shared.writing.acquire().await.expect("the semaphore is never closed");
        self.live.written_unix_ms = unix_ms();
        let enroll = record::enroll(&*shared.registry, &self.place, &self.admitted, &self.live, self.lease);
        let revision = timeout(ENROLL_WITHIN, enroll)
            .await
            .unwrap_or_else(|_| Err(Error::Unknown(format!("not written within {ENROLL_WITHIN:?}"))))?;
        self.mod_revision = revision;
        self.since = (self.history, revision);
        self.written = self.live.report.clone().unwrap_or_default();
        self.written_at = Instant::now();
        self.retry_at = None;
        Ok(())
    }

    /// The registry has lost this registration, or was restored: all of it is written again.
    async fn restate(&mut self) -> Result<(), End> {
        self.restated_at = Some(Instant::now());
        self.owes_all = true;
        let former = self.since;
        match self.write_all().await {
            Ok(()) => {
                self.owes_all = false;
                self.shared.sessions.renew(&self.place.live, former, self.since);
                Ok(())
            }
            Err(error) => {
                self.failed(&error);
                Ok(())
            }
        }
    }

    /// A write failed; it is tried again.
    fn failed(&mut self, error: &Error) {
        if matches!(error, Error::LeaseGone) {
            self.shared.lease.doubt(self.lease);
        }
        self.retry_at = Some(Instant::now() + RETRY);
        tracing::debug!(%error, "an entry was not written; it is tried again");
    }

    /// Until the stream is over.
    async fn serve(&mut self, mut inbound: Streaming<RegisterRequest>) -> End {
        let shared = self.shared.clone();
        let (mut leases, mut keys, mut tables) =
            (shared.lease.subscribe(), shared.keys.subscribe(), shared.tables.clone());
        let welcome = Welcome {
            gateway: shared.settings.gateway_id.clone(),
            heartbeat_ms: millis(shared.settings.heartbeat),
            lease_ms: millis(shared.settings.lease_ttl),
        };
        self.tell(Message::Welcome(welcome)).await;
        // Sent at once, whether they have changed or not; and a lease that changed while we enrolled
        // is noticed.
        keys.mark_changed();
        let mut rolls = rolls(shared.settings.trust.as_ref());
        leases.mark_changed();
        let mut heard = Instant::now();
        let ends = certificate_ends(shared.settings.trust.clone(), self.admitted.peer.clone());
        tokio::pin!(ends);
        loop {
            let retry_at = self.retry_at;
            let outcome = tokio::select! {
                biased;
                () = self.superseded.cancelled() => Err(End::Superseded),
                () = shared.draining.cancelled() => Err(End::Draining),
                () = &mut ends => Err(End::Refused(Box::new(Reason::IdentityRevoked.status()))),
                message = inbound.message() => {
                    heard = Instant::now();
                    self.heard(message).await
                }
                Ok(()) = leases.changed() => {
                    let lease = *leases.borrow_and_update();
                    self.granted(lease).await
                }
                records = told(&mut rolls) => {
                    self.tell(Message::Trust(records)).await;
                    Ok(())
                }
                () = async { sleep_until(retry_at.unwrap_or_else(Instant::now)).await }, if retry_at.is_some() => {
                    if self.owes_all { self.restate().await } else { self.put().await }
                }
                Ok(()) = keys.changed() => {
                    let keys = keys.borrow_and_update().as_ref().clone();
                    self.tell(Message::Keys(keys)).await;
                    Ok(())
                }
                Ok(()) = tables.changed() => {
                    let table = tables.borrow_and_update().clone();
                    self.look_at(&table).await
                }
                () = sleep_until(heard + shared.settings.heartbeat * MISSED) => Err(End::Broken),
                () = self.answers.closed() => Err(End::Broken),
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    /// A message came, or the stream broke.
    async fn heard(&mut self, message: Result<Option<RegisterRequest>, Status>) -> Result<(), End> {
        let Ok(Some(request)) = message else { return Err(End::Broken) };
        match request.message {
            Some(register_request::Message::Report(report)) => self.report(report).await,
            Some(register_request::Message::Goodbye(_)) => Err(End::Goodbye),
            Some(register_request::Message::Hello(_)) => {
                let details = [("field", "hello"), ("expected", "one hello a stream")];
                Err(End::Refused(Box::new(Reason::ManifestInvalid.with(&details))))
            }
            // A kind of message that this version does not know: it counts as a sign of life.
            None => Ok(()),
        }
    }

    /// Takes a report; most are heartbeats and change nothing in the registry.
    async fn report(&mut self, report: Report) -> Result<(), End> {
        let report = within_scopes(report, &self.admitted);
        let regions = |report: &Report| report.ready.iter().map(|ready| ready.region).collect::<Vec<_>>();
        let turned = regions(&report) != regions(&self.written) || report.draining != self.written.draining;
        let moved = report != self.written && self.written_at.elapsed() >= AS_OF_EVERY;
        self.live.report = Some(report);
        if moved || (turned && self.pace.take(Instant::now())) {
            return self.put().await;
        }
        let table = self.shared.tables.borrow().clone();
        let seen = self.seen_in(&table);
        if seen == Seen::Stale && self.may_restate(&table) {
            return self.restate().await;
        }
        if seen != Seen::Nothing {
            return Ok(());
        }
        match record::missing(&*self.shared.registry, &self.place, &self.admitted).await {
            Ok(Some(Missing::Live)) => self.put().await,
            Ok(Some(Missing::Spec)) => self.restate().await,
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// Writes the entry as it should be, under the lease in force. What fails is tried again.
    async fn put(&mut self) -> Result<(), End> {
        let registry = &*self.shared.registry;
        self.live.written_unix_ms = unix_ms();
        match record::put(registry, &self.place.live, &self.live, self.mod_revision, self.lease).await {
            Ok(Written::At(revision)) => {
                self.mod_revision = revision;
                self.written = self.live.report.clone().unwrap_or_default();
                self.written_at = Instant::now();
                self.retry_at = None;
                Ok(())
            }
            Ok(Written::Superseded) => Err(End::Superseded),
            Err(error) => {
                self.failed(&error);
                Ok(())
            }
        }
    }

    /// There is another lease, or none.
    async fn granted(&mut self, lease: Option<i64>) -> Result<(), End> {
        match lease.filter(|lease| *lease != self.lease) {
            // With the lease more may be gone: etcd may have been wiped.
            Some(lease) => {
                self.lease = lease;
                self.put().await
            }
            None => Ok(()),
        }
    }

    async fn tell(&self, message: Message) {
        self.say(Ok(RegisterResponse { message: Some(message) })).await;
    }

    /// A node that is gone or does not read is found out by its silence.
    async fn say(&self, answer: Result<RegisterResponse, Status>) {
        let _gone = timeout(ANSWER_WITHIN, self.answers.send(answer)).await;
    }
}

/// Lasts until the certificate of a node that has one does not hold any more.
async fn certificate_ends(trust: Option<Trust>, peer: Option<Peer>) {
    match (&trust, &peer) {
        (Some(trust), Some(peer)) => trust.ends(peer.chain()).await,
        _ => std::future::pending().await,
    }
}

/// Nodes hear of what the anchor said at once, and whenever that changes.
fn rolls(trust: Option<&Trust>) -> Option<watch::Receiver<Arc<Roll>>> {
    let mut rolls = trust.filter(|trust| trust.root().is_some())?.rolls();
    rolls.mark_changed();
    Some(rolls)
}

/// The records, when there are other ones.
async fn told(rolls: &mut Option<watch::Receiver<Arc<Roll>>>) -> TrustRecords {
    if let Some(rolls) = rolls
        && rolls.changed().await.is_ok()
    {
        let roll = rolls.borrow_and_update();
        let records = roll.provinces().values().map(|province| province.signed().clone());
        return TrustRecords { records: records.collect() };
    }
    std::future::pending().await
}

/// One entry a region, in the order of the regions, and none that the node may not speak for.
fn within_scopes(report: Report, admitted: &Admitted) -> Report {
    let scopes = &admitted.checked.scopes;
    let ready =
        report.ready.into_iter().filter(|ready| scopes.iter().any(|scope| scope.get() == ready.region));
    let ready = ready.map(|ready| (ready.region, ready)).collect::<BTreeMap<_, RegionReady>>();
    Report { ready: ready.into_values().collect(), draining: report.draining }
}

fn unavailable() -> Status {
    Reason::RegistryUnavailable.status()
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
