//! How does an operator move calls in an incident? (`suiyue shift`)
//!
//! [`mod@plan`] shows what a shift would do and keeps the plan as a file; [`carry`] applies or approves that
//! file, and [`approve`] approves drains, stages and policies; [`change`] holds, resumes, extends, ends and takes back; [`list`] says which shifts there are.
//! What the gateway refuses ends with exit code 3 and the reason.

pub mod approve;
pub mod carry;
pub mod change;
pub mod list;
pub mod plan;

use super::{
    operator::{accounted, checked, connect_as, own},
    refusal,
};
use crate::{
    cli::{Account, Shift},
    exit::Guarded,
};
use anyhow::anyhow;
use suiyue_proto::{
    reason::Reason,
    v1::{
        ApplyShiftRequest, ApplyShiftResponse, ApproveShiftRequest, ApproveShiftResponse, ChangeShiftRequest,
        ChangeShiftResponse, ListShiftsRequest, ListShiftsResponse, PlanShiftRequest, PlanShiftResponse,
        shift_service_client::ShiftServiceClient,
    },
};
use tonic::{Response, Status, transport::Channel};

/// Runs one of the verbs.
///
/// # Errors
/// [`Guarded`] where the gateway refuses, [`crate::exit::Usage`] for a file that is no plan, another one
/// when no gateway or registry can be reached.
pub async fn run(verb: &Shift) -> anyhow::Result<()> {
    match verb {
        Shift::Plan(flags) => plan::plan(flags).await,
        Shift::Apply(flags) => carry::apply(flags).await,
        Shift::Approve(flags) => carry::approve(flags).await,
        Shift::Status { ask, region, ended } => list::status(ask, *region, *ended).await,
        Shift::History { ask, region } => list::history(ask, *region).await,
        Shift::Hold(flags) => change::hold(flags).await,
        Shift::Resume(flags) => change::resume(flags).await,
        Shift::Extend { change, ttl_s } => change::extend(change, *ttl_s).await,
        Shift::Cancel(flags) => change::cancel(flags).await,
        Shift::Rollback(flags) => change::rollback(flags).await,
    }
}

/// A connection to the shifts' API of one gateway.
pub(super) struct Shifts {
    client: ShiftServiceClient<Channel>,
    address: String,
    account: Account,
}

impl Shifts {
    pub(super) async fn connect(gateways: &[String], account: &Account) -> anyhow::Result<Self> {
        checked(account)?;
        let (channel, address) = connect_as(own(), gateways, "--gateway").await?;
        Ok(Self { client: ShiftServiceClient::new(channel), address, account: account.clone() })
    }

    async fn plan(&mut self, asked: PlanShiftRequest) -> anyhow::Result<PlanShiftResponse> {
        let answer = self.client.plan_shift(asked).await;
        self.answered("PlanShift", answer)
    }

    async fn apply(&mut self, asked: ApplyShiftRequest) -> anyhow::Result<ApplyShiftResponse> {
        let dry_run = asked.dry_run;
        let answer = self.client.apply_shift(accounted(&self.account, asked)).await;
        self.changed("ApplyShift", answer, dry_run)
    }

    pub(super) async fn approve(
        &mut self,
        asked: ApproveShiftRequest,
    ) -> anyhow::Result<ApproveShiftResponse> {
        let answer = self.client.approve_shift(accounted(&self.account, asked)).await;
        self.changed("ApproveShift", answer, false)
    }

    async fn change(&mut self, asked: ChangeShiftRequest) -> anyhow::Result<ChangeShiftResponse> {
        let dry_run = asked.dry_run;
        let answer = self.client.change_shift(accounted(&self.account, asked)).await;
        self.changed("ChangeShift", answer, dry_run)
    }

    pub(super) async fn list(&mut self, asked: ListShiftsRequest) -> anyhow::Result<ListShiftsResponse> {
        let answer = self.client.list_shifts(asked).await;
        self.answered("ListShifts", answer)
    }

    /// A change that the gateway did not answer may be written all the same.
    fn changed<T>(
        &self,
        method: &str,
        answer: Result<Response<T>, Status>,
        dry_run: bool,
    ) -> anyhow::Result<T> {
        let heard = |status| if dry_run { status } else { refusal::heard(status) };
        self.answered(method, answer.map_err(heard))
    }

    /// Exit code 3 where the gateway looked at it and refused.
    fn answered<T>(&self, method: &str, answer: Result<Response<T>, Status>) -> anyhow::Result<T> {
        answer.map(Response::into_inner).map_err(|status| {
            let line = format!("{method} at {}: {}", self.address, refusal::describe(&status));
            match Reason::of(&status) {
                Some(
                    Reason::ShiftInvalid
                    | Reason::ShiftRefused
                    | Reason::ShiftNotFound
                    | Reason::PlanStale
                    | Reason::ApprovalNeeded
                    | Reason::ApprovalOwn
                    | Reason::GatewaySilent
                    | Reason::RegionNotRouted
                    | Reason::RegionUnknown
                    | Reason::RegionRetired
                    | Reason::RegionNotJoined
                    | Reason::RegistryNone
                    | Reason::ReasonRequired
                    | Reason::RoleInsufficient
                    | Reason::AuditBroken,
                ) => Guarded(line).into(),
                _ => anyhow!(line),
            }
        })
    }
}
