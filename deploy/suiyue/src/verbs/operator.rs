//! Which gateway answers an operator?
//!
//! The first of the list that can be reached, each given two seconds. Only a failed connection moves
//! on to the next: an answer, also a refusal, is an answer. With a certificate ([`introduce`]) it is asked
//! over TLS, and must show a gateway's.

use super::refusal;
use crate::exit::Usage;
use anyhow::{Context as _, anyhow, bail};
use std::{error::Error as _, sync::OnceLock, time::Duration};
use suiyue_proto::identity::{Files, Identity};
use suiyue_proto::v1::{
    DescribeRegionRequest, DescribeRegionResponse, DumpRegistryRequest, DumpRegistryResponse,
    ExplainRouteRequest, ExplainRouteResponse, ListNodesRequest, ListNodesResponse, ListRegionsRequest,
    ListRegionsResponse, PublishTrustRequest, PublishTrustResponse, SetRegionPolicyRequest,
    SetRegionPolicyResponse, TableInfo, operator_service_client::OperatorServiceClient,
};
use tonic::{Response, Status, transport::Channel, transport::Endpoint};

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
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

/// A connection to the operator API of one gateway.
pub struct Operator {
    client: OperatorServiceClient<Channel>,
    address: String,
}

/// Opens a channel to the first address that can be reached; says which one it was.
///
/// # Errors
/// When no address can be reached: names each with its cause.
pub async fn connect_any(addresses: &[String], flag: &str) -> anyhow::Result<(Channel, String)> {
    connect_as(None, addresses, flag).await
}

async fn connect_as(
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

impl Operator {
    /// Connects to the first gateway that can be reached.
    ///
    /// # Errors
    /// When none can: names each address with its cause.
    pub async fn connect(gateways: &[String]) -> anyhow::Result<Self> {
        let (channel, address) = connect_as(OWN.get(), gateways, "--gateway").await?;
        let client = OperatorServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        Ok(Self { client, address })
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

    /// One region.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn describe(&mut self, region: u32) -> anyhow::Result<DescribeRegionResponse> {
        let answer = self.client.describe_region(DescribeRegionRequest { region }).await;
        self.answered("DescribeRegion", answer)
    }

    /// Replaces the policy of a region.
    ///
    /// # Errors
    /// The refusal as it came: [`Operator::refused`] makes a line of it.
    pub async fn set_policy(
        &mut self,
        asked: SetRegionPolicyRequest,
    ) -> Result<SetRegionPolicyResponse, Status> {
        self.client.set_region_policy(asked).await.map(Response::into_inner)
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
    pub async fn publish_trust(&mut self, record: Vec<u8>) -> Result<PublishTrustResponse, Status> {
        let asked = PublishTrustRequest { record: record.into() };
        self.client.publish_trust(asked).await.map(Response::into_inner)
    }

    /// Every key of the registry.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn dump(&mut self) -> anyhow::Result<DumpRegistryResponse> {
        let answer = self.client.dump_registry(DumpRegistryRequest {}).await;
        self.answered("DumpRegistry", answer)
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
            quarantined: quarantined.collect(),
        }
    }
}
