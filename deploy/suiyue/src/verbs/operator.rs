//! Which gateway answers an operator?
//!
//! The first of the list that can be reached, each given two seconds. Only a failed connection moves
//! on to the next: an answer, also a refusal, is an answer. With a certificate ([`introduce`]) it is asked
//! over TLS, and must show a gateway's.

use super::refusal;
use crate::{
    cli::Account,
    exit::{Guarded, Usage},
};
use anyhow::{Context as _, anyhow, bail};
use std::{error::Error as _, sync::OnceLock, time::Duration};
use suiyue_gateway::audit::actor::{MAX_REASON, is_actor, is_reason};
use suiyue_proto::{
    identity::{Files, Identity},
    reason::Reason,
    v1::{
        AcceptRegistryRequest, AcceptRegistryResponse, ChangeAppResponse, DescribeRegionRequest,
        DescribeRegionResponse, DiffRegistryRequest, DiffRegistryResponse, DrainGatewayRequest,
        DrainGatewayResponse, DumpRegistryRequest, DumpRegistryResponse, ExplainRouteRequest,
        ExplainRouteResponse, FreezeRegistryRequest, FreezeRegistryResponse, ListAppsRequest,
        ListAppsResponse, ListGatewaysRequest, ListGatewaysResponse, ListNodesRequest, ListNodesResponse,
        ListRegionsRequest, ListRegionsResponse, ListShiftsRequest, ListTrafficRequest, ListTrafficResponse,
        MintConsoleTokenRequest, MintConsoleTokenResponse, PublishTrustRequest, PublishTrustResponse,
        ReadAuditRequest, ReadAuditResponse, RegistryStatusRequest, RegistryStatusResponse,
        RememberedAuditRequest, RememberedAuditResponse, RevokeAppRequest, RotateAppRequest, SetAppRequest,
        SetNodeIntentRequest, SetNodeIntentResponse, SetRegionPolicyRequest, SetRegionPolicyResponse,
        ShiftInfo, TableInfo, operator_service_client::OperatorServiceClient,
        shift_service_client::ShiftServiceClient,
    },
};
use tonic::{
    Request, Response, Status, Streaming, metadata::MetadataValue, transport::Channel, transport::Endpoint,
};

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A stream is given up after this time.
const STREAM_WITHIN: Duration = Duration::from_secs(7 * 24 * 3600);
/// A full dump of a large federation is larger than tonic's 4 MiB.
const MAX_ANSWER: usize = 256 << 20;

/// Who asks. One process asks as one person.
static OWN: OnceLock<Identity> = OnceLock::new();

/// Says who asks, once.
///
/// # Errors
/// The files cannot be used.
pub fn introduce(files: Files) -> anyhow::Result<()> {
    let own = Identity::open(files).map_err(|error| anyhow!(Usage(error.to_string())))?;
    OWN.set(own).map_err(|_| anyhow!("an operator has introduced itself twice"))
}

/// Who asks, if anybody said so.
#[must_use]
pub fn own() -> Option<&'static Identity> {
    OWN.get()
}

/// A connection to the operator API of one gateway.
pub struct Operator {
    client: OperatorServiceClient<Channel>,
    shifts: ShiftServiceClient<Channel>,
    address: String,
    account: Account,
}

/// Opens a channel to the first address that can be reached; says which one it was.
///
/// # Errors
/// When no address can be reached: names each with its cause.
pub async fn connect_any(addresses: &[String], flag: &str) -> anyhow::Result<(Channel, String)> {
    connect_as(None, addresses, flag).await
}

/// As [`connect_any`], as somebody.
pub(super) async fn connect_as(
    own: Option<&Identity>,
    addresses: &[String],
    flag: &str,
) -> anyhow::Result<(Channel, String)> {
    let mut causes = Vec::new();
    for address in addresses {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .with_context(|| format!("{flag}: {address:?} is no host:port"))?
            .tcp_nodelay(true)
            .timeout(ANSWER_WITHIN)
            .connect_timeout(CONNECT_WITHIN);
        let connect = async {
            match own {
                None => endpoint.connect().await,
                Some(own) => suiyue_node::identity::connect(own, endpoint).await,
            }
        };
        match tokio::time::timeout(CONNECT_WITHIN, connect).await {
            Ok(Ok(channel)) => return Ok((channel, address.clone())),
            Ok(Err(error)) => causes.push(format!("{address}: {}", root_cause(&error))),
            Err(_) => causes.push(format!("{address}: no answer within {} s", CONNECT_WITHIN.as_secs())),
        }
    }
    bail!("no gateway can be reached ({}): check {flag}, and that the gateway is running", causes.join("; "))
}

fn root_cause(error: &tonic::transport::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.source().is_some() { cause.to_string() } else { error.to_string() }
}

/// The audit takes the name and the reason.
///
/// # Errors
/// [`Usage`] names the flag.
pub(super) fn checked(account: &Account) -> Result<(), Usage> {
    if account.actor.as_ref().is_some_and(|actor| !is_actor(actor)) {
        return Err(Usage("--actor: 1 to 64 characters of a-z, A-Z, 0-9 and -_.@ are wanted".to_owned()));
    }
    if account.reason.as_ref().is_some_and(|reason| !is_reason(reason)) {
        return Err(Usage(format!("--reason: one line of at most {MAX_REASON} characters is wanted")));
    }
    Ok(())
}

/// A change that says who makes it, and why.
pub(super) fn accounted<T>(account: &Account, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    if let Some(actor) = account.actor.as_ref().and_then(|actor| actor.parse().ok()) {
        metadata.insert(suiyue_proto::metadata::ACTOR, actor);
    }
    if let Some(reason) = &account.reason {
        let value = MetadataValue::from_bytes(reason.as_bytes());
        metadata.insert_bin(suiyue_proto::metadata::CHANGE_REASON, value);
    }
    request
}

impl Operator {
    /// Connects to the first gateway that can be reached.
    ///
    /// # Errors
    /// When none can: names each address with its cause.
    pub async fn connect(gateways: &[String]) -> anyhow::Result<Self> {
        let (channel, address) = connect_as(OWN.get(), gateways, "--gateway").await?;
        let shifts = ShiftServiceClient::new(channel.clone());
        let client = OperatorServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        Ok(Self { client, shifts, address, account: Account::default() })
    }

    /// Says with every change from now on who makes it, and why.
    ///
    /// # Errors
    /// [`Usage`]: the audit does not take the name or the reason.
    pub fn on_account(&mut self, account: &Account) -> Result<(), Usage> {
        checked(account)?;
        self.account = account.clone();
        Ok(())
    }

    fn change<T>(&self, message: T) -> Request<T> {
        accounted(&self.account, message)
    }

    /// Nodes of a region, or of all (0).
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn nodes(&mut self, region: u32) -> anyhow::Result<ListNodesResponse> {
        let answer = self.client.list_nodes(ListNodesRequest { region }).await;
        self.answered("ListNodes", answer)
    }

    /// Regions that are served, or all.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn regions(&mut self, all: bool) -> anyhow::Result<ListRegionsResponse> {
        let answer = self.client.list_regions(ListRegionsRequest { all }).await;
        self.answered("ListRegions", answer)
    }

    /// What became of the calls of a region, or of all (0).
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn traffic(&mut self, region: u32) -> anyhow::Result<ListTrafficResponse> {
        let answer = self.client.list_traffic(ListTrafficRequest { region }).await;
        self.answered("ListTraffic", answer)
    }

    /// One region.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn describe(&mut self, region: u32) -> anyhow::Result<DescribeRegionResponse> {
        let answer = self.client.describe_region(DescribeRegionRequest { region }).await;
        self.answered("DescribeRegion", answer)
    }

    /// A token for the web console, in this role; empty: the caller's own.
    ///
    /// # Errors
    /// [`Guarded`]: the caller's role is a lesser one. Another one when the gateway refuses.
    pub async fn mint_console_token(&mut self, role: &str) -> anyhow::Result<MintConsoleTokenResponse> {
        let request = self.change(MintConsoleTokenRequest { role: role.to_owned() });
        let answer = self.client.mint_console_token(request).await;
        if let Err(status) = &answer
            && Reason::of(status) == Some(Reason::RoleInsufficient)
        {
            let said = refusal::describe(status);
            return Err(Guarded(format!("MintConsoleToken at {}: {said}", self.address)).into());
        }
        self.answered("MintConsoleToken", answer)
    }

    /// Replaces the policy of a region.
    ///
    /// # Errors
    /// The refusal as it came: [`Operator::refused`] makes a line of it.
    pub async fn set_policy(
        &mut self,
        asked: SetRegionPolicyRequest,
    ) -> Result<SetRegionPolicyResponse, Status> {
        let request = self.change(asked);
        self.client.set_region_policy(request).await.map(Response::into_inner)
    }

    /// Apps: one, or all (empty).
    ///
    /// # Errors
    /// The refusal as it came: [`Operator::refused`] makes a line of it.
    pub async fn apps(&mut self, app: &str) -> Result<ListAppsResponse, Status> {
        self.client.list_apps(ListAppsRequest { app: app.to_owned() }).await.map(Response::into_inner)
    }

    /// Registers an app, or replaces what it may call.
    ///
    /// # Errors
    /// The refusal as it came: [`Operator::refused`] makes a line of it.
    pub async fn set_app(&mut self, asked: SetAppRequest) -> Result<ChangeAppResponse, Status> {
        let request = self.change(asked);
        self.client.set_app(request).await.map(Response::into_inner)
    }

    /// Gives an app another token.
    ///
    /// # Errors
    /// The refusal as it came: [`Operator::refused`] makes a line of it.
    pub async fn rotate_app(&mut self, asked: RotateAppRequest) -> Result<ChangeAppResponse, Status> {
        let request = self.change(asked);
        self.client.rotate_app(request).await.map(Response::into_inner)
    }

    /// Takes everything from an app.
    ///
    /// # Errors
    /// The refusal as it came: [`Operator::refused`] makes a line of it.
    pub async fn revoke_app(&mut self, asked: RevokeAppRequest) -> Result<ChangeAppResponse, Status> {
        let request = self.change(asked);
        self.client.revoke_app(request).await.map(Response::into_inner)
    }

    /// The audit's records, then its head, then, if it is followed, new records. A stream that is followed
    /// lasts until the gateway goes.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn audit(&mut self, asked: ReadAuditRequest) -> anyhow::Result<Streaming<ReadAuditResponse>> {
        let mut request = Request::new(asked);
        // Longer than the connection's: a chain of years is read as a whole.
        request.set_timeout(STREAM_WITHIN);
        let answer = self.client.read_audit(request).await;
        self.answered("ReadAudit", answer)
    }

    /// The head of the audit that the gateway remembers.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn remembered(&mut self) -> anyhow::Result<RememberedAuditResponse> {
        let answer = self.client.remembered_audit(RememberedAuditRequest {}).await;
        self.answered("RememberedAudit", answer)
    }

    /// Replaces what is wanted of a node.
    ///
    /// # Errors
    /// The refusal as it came: [`Operator::refused`] makes a line of it.
    pub async fn set_intent(&mut self, asked: SetNodeIntentRequest) -> Result<SetNodeIntentResponse, Status> {
        let request = self.change(asked);
        self.client.set_node_intent(request).await.map(Response::into_inner)
    }

    /// Where calls go.
    ///
    /// # Errors
    /// The refusal as it came: [`Operator::refused`] makes a line of it.
    pub async fn explain(&mut self, asked: ExplainRouteRequest) -> Result<ExplainRouteResponse, Status> {
        self.client.explain_route(asked).await.map(Response::into_inner)
    }

    /// Brings a record of trust to the registry.
    ///
    /// # Errors
    /// The refusal as it came: [`Operator::refused`] makes a line of it.
    pub async fn publish_trust(
        &mut self,
        record: Vec<u8>,
        dry_run: bool,
    ) -> Result<PublishTrustResponse, Status> {
        let request = self.change(PublishTrustRequest { record: record.into(), dry_run });
        self.client.publish_trust(request).await.map(Response::into_inner)
    }

    /// Every key of the registry.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn dump(&mut self) -> anyhow::Result<DumpRegistryResponse> {
        let answer = self.client.dump_registry(DumpRegistryRequest {}).await;
        self.answered("DumpRegistry", answer)
    }

    /// How well the gateway follows the registry.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn registry_status(&mut self) -> anyhow::Result<RegistryStatusResponse> {
        let answer = self.client.registry_status(RegistryStatusRequest {}).await;
        self.answered("RegistryStatus", answer)
    }

    /// The same; `None` from a gateway that has no registry.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn registry_if_any(&mut self) -> anyhow::Result<Option<RegistryStatusResponse>> {
        match self.client.registry_status(RegistryStatusRequest {}).await {
            Err(status) if Reason::of(&status) == Some(Reason::RegistryNone) => Ok(None),
            answer => self.answered("RegistryStatus", answer).map(Some),
        }
    }

    /// Shifts that run.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn running(&mut self) -> anyhow::Result<Vec<ShiftInfo>> {
        let answer = self.shifts.list_shifts(ListShiftsRequest::default()).await;
        self.answered("ListShifts", answer).map(|answer| answer.shifts)
    }

    /// The gateways of the registry.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn gateways(&mut self) -> anyhow::Result<ListGatewaysResponse> {
        let answer = self.client.list_gateways(ListGatewaysRequest {}).await;
        self.answered("ListGateways", answer)
    }

    /// Makes the gateway leave.
    ///
    /// # Errors
    /// The refusal as it came: [`Operator::refused`] makes a line of it.
    pub async fn drain_gateway(
        &mut self,
        asked: DrainGatewayRequest,
    ) -> Result<DrainGatewayResponse, Status> {
        let request = self.change(asked);
        self.client.drain_gateway(request).await.map(Response::into_inner)
    }

    /// The gateway's table against the registry now.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn diff(&mut self) -> anyhow::Result<DiffRegistryResponse> {
        let answer = self.client.diff_registry(DiffRegistryRequest {}).await;
        self.answered("DiffRegistry", answer)
    }

    /// Freezes the gateway, or ends it.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn freeze(&mut self, order: FreezeRegistryRequest) -> anyhow::Result<FreezeRegistryResponse> {
        let request = self.change(order);
        let answer = self.client.freeze_registry(request).await;
        self.ordered("FreezeRegistry", answer)
    }

    /// Accepts what the gateway holds back.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn accept(&mut self, order: AcceptRegistryRequest) -> anyhow::Result<AcceptRegistryResponse> {
        let request = self.change(order);
        let answer = self.client.accept_registry(request).await;
        self.ordered("AcceptRegistry", answer)
    }

    /// A refused order ends the process with the code that says whose turn it is.
    fn ordered<T>(&self, method: &str, answer: Result<Response<T>, Status>) -> anyhow::Result<T> {
        answer.map(Response::into_inner).map_err(|status| {
            let text = self.refused(method, &status);
            match Reason::of(&status) {
                Some(Reason::FieldInvalid) => Usage(text).into(),
                Some(
                    Reason::RegistryFrozen
                    | Reason::ReasonRequired
                    | Reason::RoleInsufficient
                    | Reason::AuditBroken,
                ) => Guarded(text).into(),
                _ => anyhow!(text),
            }
        })
    }

    fn answered<T>(&self, method: &str, answer: Result<Response<T>, Status>) -> anyhow::Result<T> {
        answer.map(Response::into_inner).map_err(|status| anyhow!(self.refused(method, &status)))
    }

    /// A refusal in one line: method, gateway, sentence, reason and details.
    #[must_use]
    pub fn refused(&self, method: &str, status: &Status) -> String {
        format!("{method} at {}: {}", self.address, refusal::describe(status))
    }
}

/// The line below a table that says what it was made from.
#[must_use]
pub fn footer(table: Option<&TableInfo>) -> String {
    let Some(table) = table else { return String::new() };
    let source = super::output::word(table.source().as_str_name(), "TABLE_SOURCE_");
    let age = super::output::age(table.age_ms);
    let mut text = format!(
        "gateway {}, table from {source} at revision {} ({age} old), plan {}",
        table.gateway, table.revision, table.plan
    );
    if table.frozen {
        text.push_str(
            "\nFROZEN: this gateway applies nothing that the registry says (`suiyue registry freeze --off`)",
        );
    }
    if table.stale > 0 {
        text.push_str(&format!("\n{} keys are held: `suiyue registry status` names them", table.stale));
    }
    for key in &table.quarantined {
        text.push_str(&format!("\nquarantined: {}: {}", key.key, key.reason));
    }
    text
}

/// The same for a program.
#[derive(Debug, serde::Serialize)]
pub struct TableDocument {
    /// The gateway that answered.
    pub gateway: String,
    /// Where its table comes from.
    pub source: String,
    /// Registry revision of the table.
    pub revision: i64,
    /// Milliseconds since the registry last confirmed it.
    pub age_ms: u64,
    /// Generation of the plan in force.
    pub plan: u64,
    /// Keys that are held although the registry has them no more, or otherwise.
    pub stale: u32,
    /// Hash of what was applied; absent: there is no registry.
    pub table_hash: Option<String>,
    /// The gateway is frozen.
    pub frozen: bool,
    /// Keys that could not be used.
    pub quarantined: Vec<QuarantinedDocument>,
}

/// A registry key that could not be used.
#[derive(Debug, serde::Serialize)]
pub struct QuarantinedDocument {
    /// The key.
    pub key: String,
    /// Why.
    pub reason: String,
}

impl From<&TableInfo> for TableDocument {
    fn from(table: &TableInfo) -> Self {
        let quarantined = table
            .quarantined
            .iter()
            .map(|q| QuarantinedDocument { key: q.key.clone(), reason: q.reason.clone() });
        Self {
            gateway: table.gateway.clone(),
            source: super::output::word(table.source().as_str_name(), "TABLE_SOURCE_"),
            revision: table.revision,
            age_ms: table.age_ms,
            plan: table.plan,
            stale: table.stale,
            table_hash: (!table.table_hash.is_empty()).then(|| table.table_hash.clone()),
            frozen: table.frozen,
            quarantined: quarantined.collect(),
        }
    }
}
