//! May the glass be broken for this, and is it?
//!
//! The service on the gateway's unix socket. Who asks is the kernel's word; what is asked is checked like an
//! operator's order, judged by what this gateway's calls would do to nodes that the other gateways go on
//! using, and then stands in the journal before it counts. Approvals and the registry are not asked: that
//! is what the glass is for. Nobody can order what leaves calls with nobody.

mod judge;
mod order;

use super::{Operator, shifts::loads};
use crate::{
    audit::actor::{is_actor, is_reason},
    breakglass::{self, Failure, Glass, name, socket},
    clock::{unix_ms, utc},
};
use judge::Judged;
use std::time::Duration;
use suiyue_proto::{
    reason::Reason,
    v1::{
        self, BreakglassAction, BreakglassActor, BreakglassEntry, BreakglassGateway, BreakglassScope,
        breakglass_action::What, breakglass_service_server::BreakglassService,
    },
};
use tonic::{Request, Response, Status, transport::server::UdsConnectInfo};

/// A plan goes by what was ordered after this time, at the latest.
const COUNTS_WITHIN: Duration = Duration::from_secs(1);

/// The service of one socket.
#[derive(Clone)]
pub struct Desk {
    operator: Operator,
    users: socket::Users,
}

impl Desk {
    /// For these users.
    #[must_use]
    pub const fn new(operator: Operator, users: socket::Users) -> Self {
        Self { operator, users }
    }
}

#[tonic::async_trait]
impl BreakglassService for Desk {
    async fn order_breakglass(
        &self,
        request: Request<v1::OrderBreakglassRequest>,
    ) -> Result<Response<v1::OrderBreakglassResponse>, Status> {
        let actor = self.who(&request, &request.get_ref().actor)?;
        let asked = request.into_inner();
        let answer = self.order(asked, actor.clone()).await;
        answer.inspect_err(|status| refused(&actor, "order", status)).map(Response::new)
    }

    async fn cancel_breakglass(
        &self,
        request: Request<v1::CancelBreakglassRequest>,
    ) -> Result<Response<v1::CancelBreakglassResponse>, Status> {
        let actor = self.who(&request, &request.get_ref().actor)?;
        let answer = self.cancel(request.get_ref(), &actor).await;
        answer.inspect_err(|status| refused(&actor, "cancel", status)).map(Response::new)
    }

    async fn list_breakglass(
        &self,
        request: Request<v1::ListBreakglassRequest>,
    ) -> Result<Response<v1::ListBreakglassResponse>, Status> {
        self.who(&request, "")?;
        let actions = self.glass().in_force().into_iter().map(|action| self.with_percent(action)).collect();
        Ok(Response::new(v1::ListBreakglassResponse { scope: Some(self.scope()), actions }))
    }
}

impl Desk {
    const fn glass(&self) -> &Glass {
        &self.operator.glass
    }

    /// Who is on the other side.
    fn who<T>(&self, request: &Request<T>, says: &str) -> Result<BreakglassActor, Status> {
        let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
        let Some(peer) = peer else {
            tracing::warn!(
                "somebody of whom the kernel does not say who it is was refused at the break-glass socket"
            );
            return Err(Reason::BreakglassDenied.status());
        };
        let actor = socket::actor(peer);
        if !self.users.may(actor.uid) {
            tracing::warn!(
                uid = actor.uid,
                pid = actor.pid,
                user = actor.user,
                "refused at the break-glass socket"
            );
            return Err(Reason::BreakglassDenied.with(&[("uid", &actor.uid.to_string())]));
        }
        if !says.is_empty() && !is_actor(says) {
            return Err(invalid("actor", "1 to 64 characters of a-z, A-Z, 0-9 and -_.@"));
        }
        Ok(BreakglassActor { says: says.to_owned(), ..actor })
    }

    async fn order(
        &self,
        asked: v1::OrderBreakglassRequest,
        actor: BreakglassActor,
    ) -> Result<v1::OrderBreakglassResponse, Status> {
        because(&asked.reason)?;
        let snapshot = self.operator.snapshots.current();
        let mut action = order::action(&asked, actor, &snapshot.table, unix_ms())?;
        let (actions, replaced) = self.glass().with(&action);
        let Judged { moves, refusals, nodes, warnings } =
            self.judge(&snapshot, &action, &actions, asked.force).await?;
        (action.moves, action.forced) = (moves, !refusals.is_empty());
        if !asked.dry_run {
            let text = told(&self.operator.gateway, &action, &replaced);
            let entry = self.entry(breakglass::ORDERED, &action, &asked.reason, text);
            self.glass().order(action.clone(), entry).await.map_err(|failure| unwritten(&failure))?;
            let what = breakglass::told(&action);
            tracing::warn!(id = %action.id, forced = action.forced, "BREAK-GLASS at this gateway only: {what}");
            self.counts().await;
        }
        Ok(v1::OrderBreakglassResponse {
            scope: Some(self.scope()),
            action: Some(self.with_percent(action)),
            replaces: replaced.into_iter().map(|action| action.id).collect(),
            nodes,
            warnings: warnings.into_iter().chain(refusals).collect(),
            ordered: !asked.dry_run,
        })
    }

    async fn cancel(
        &self,
        asked: &v1::CancelBreakglassRequest,
        actor: &BreakglassActor,
    ) -> Result<v1::CancelBreakglassResponse, Status> {
        because(&asked.reason)?;
        let meant = self.meant(&asked.id)?;
        let now = unix_ms();
        let (mut changed, mut entries, mut actions) = (Vec::new(), Vec::new(), Vec::new());
        for action in meant {
            let after = ended(&action, now);
            let ends = utc(after.ends_unix_ms);
            let text = format!(
                "break-glass at {} only: cancelled, over at {ends}: {}",
                self.operator.gateway,
                breakglass::told(&action)
            );
            let by = BreakglassAction { actor: Some(actor.clone()), ..action };
            entries.push(self.entry(breakglass::CANCELLED, &by, &asked.reason, text));
            changed.push((after.id.clone(), (after.ends_unix_ms > now).then(|| after.clone())));
            actions.push(after);
        }
        if !asked.dry_run {
            let by = name(actor);
            actions.iter().for_each(|action| tracing::warn!(id = %action.id, by, "break-glass is cancelled"));
            self.glass().replace(changed, entries).await.map_err(|failure| unwritten(&failure))?;
            self.counts().await;
        }
        let actions = actions.into_iter().map(|action| self.with_percent(action)).collect();
        Ok(v1::CancelBreakglassResponse { scope: Some(self.scope()), actions })
    }

    /// Waits, for a moment at most, until calls go by it: what is asked next is answered by what was just done.
    async fn counts(&self) {
        let mut snapshots = self.operator.snapshots.subscribe();
        let counts = snapshots.wait_for(|snapshot| self.glass().is_over(&snapshot.table));
        if tokio::time::timeout(COUNTS_WITHIN, counts).await.is_err() {
            tracing::warn!("break-glass is in force, and no plan goes by it yet");
        }
    }

    /// The actions that an id or a beginning of one means; all for none.
    fn meant(&self, id: &str) -> Result<Vec<BreakglassAction>, Status> {
        let mut actions = self.glass().in_force();
        if id.is_empty() {
            return Ok(actions);
        }
        actions.retain(|action| action.id.starts_with(id));
        if actions.len() == 1 {
            return Ok(actions);
        }
        let ids: Vec<_> = actions.iter().map(|action| action.id.as_str()).collect();
        Err(Reason::BreakglassNotFound.with(&[("id", id), ("begin_so", &ids.join(","))]))
    }

    fn entry(&self, method: &str, action: &BreakglassAction, reason: &str, text: String) -> BreakglassEntry {
        let who = action.actor.as_ref().map(name).unwrap_or_default();
        BreakglassEntry {
            number: 0,
            unix_ms: unix_ms(),
            method: method.to_owned(),
            actor: format!("{who}@{}", self.operator.gateway),
            reason: reason.to_owned(),
            text,
            action: action.id.clone(),
        }
    }

    fn scope(&self) -> BreakglassScope {
        let followed = self.operator.followed.as_ref();
        let others = loads::others(&self.operator).into_iter();
        let others = others.map(|(id, control_address)| BreakglassGateway { id, control_address });
        let others: Vec<_> = others.collect();
        let millis = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        BreakglassScope {
            gateway: self.operator.gateway.clone(),
            gateways: u32::try_from(others.len() + 1).unwrap_or(u32::MAX),
            others,
            registry_age_ms: followed.and_then(|followed| followed.freshness().age()).map(millis),
            untold: u32::try_from(self.glass().untold()).unwrap_or(u32::MAX),
        }
    }

    /// Where a shift stands here.
    fn with_percent(&self, action: BreakglassAction) -> BreakglassAction {
        let Some(What::Shift(_)) = &action.what else { return action };
        let snapshot = self.operator.snapshots.current();
        let shift = snapshot.table.shifts.iter().find(|shift| *shift.id == *action.id);
        let signals = snapshot.inputs.as_ref().map(|inputs| &inputs.signals.shifts);
        let signal = shift.zip(signals).and_then(|(shift, signals)| Some((shift, signals.get(&shift.id)?)));
        let percent = signal.map_or(0.0, |(shift, signal)| signal.percent(shift));
        BreakglassAction { percent, ..action }
    }
}

/// A drain ends at once; a shift walks back by the way that it came.
fn ended(action: &BreakglassAction, now: i64) -> BreakglassAction {
    let mut ended = action.clone();
    let Some(What::Shift(shift)) = &mut ended.what else {
        ended.ends_unix_ms = now;
        return ended;
    };
    if now < shift.expires_unix_ms {
        shift.expires_unix_ms = now;
        shift.cancelled = true;
        shift.end = v1::ShiftEnd::Cancelled.into();
    }
    let way = shift.order.as_ref().map_or(0, order::way_back_ms);
    ended.ends_unix_ms = ended.ends_unix_ms.min(now.saturating_add(way));
    ended
}

/// What the audit has of an order.
fn told(gateway: &str, action: &BreakglassAction, replaced: &[BreakglassAction]) -> String {
    let actor = action.actor.clone().unwrap_or_default();
    let mut text = format!(
        "break-glass at {gateway} only, {} to {}: {}; uid {} gid {} pid {}; moves {:.1} % of its calls of a region",
        utc(action.start_unix_ms),
        utc(action.ends_unix_ms),
        breakglass::told(action),
        actor.uid,
        actor.gid,
        actor.pid,
        action.moves * 100.0
    );
    if action.forced {
        text.push_str("; a guard was overruled");
    }
    for other in replaced {
        text.push_str(&format!("; instead of {}", other.id));
    }
    text
}

fn because(reason: &str) -> Result<(), Status> {
    if reason.trim().is_empty() {
        return Err(Reason::ReasonRequired.status());
    }
    if is_reason(reason) { Ok(()) } else { Err(invalid("reason", "one line of at most 500 characters")) }
}

fn invalid(field: &str, expected: &str) -> Status {
    Reason::BreakglassInvalid.with(&[("field", field), ("expected", expected)])
}

fn unwritten(failure: &Failure) -> Status {
    match failure {
        Failure::Full => Reason::BreakglassFull.status(),
        Failure::Journal(error) => {
            let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            tracing::error!(%error, cause, "the break-glass journal cannot be written");
            Reason::BreakglassUnwritten.status()
        }
    }
}

fn refused(actor: &BreakglassActor, what: &str, status: &Status) {
    let reason = Reason::of(status).map_or("", Reason::as_str);
    tracing::warn!(by = name(actor), what, reason, "break-glass was refused");
}
