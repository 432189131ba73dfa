//! What do operators see?
//!
//! `OperatorService`: nodes with their health, regions and their policies, why a route is what it is,
//! apps and their grants, the audit, and the registry as text. It reads the same snapshots that requests
//! read; what it changes it writes to the registry, never to the table, and always together with an entry
//! of the audit. Who may call what is decided in front of it ([`access`]).

pub mod access;
mod apps;
mod audit;
mod breakglass;
mod console;
mod dump;
mod explain;
mod gateways;
mod intents;
mod limits;
mod moving;
mod policies;
mod registry;
mod routes;
mod shifts;
mod swap;
mod traffic;
mod trust;
mod what_if;

use crate::{
    apps::Anonymous,
    audit::{Audit, actor::Deed},
    breakglass::Glass,
    console::door::Doors,
    control::Snapshots,
    health::State,
    identity::Trust,
    plan,
    registry::{Registry, follow::Status as Followed, keys::Prefix},
    shifts::Holds,
    snapshot::Snapshot,
    subject,
    table::{Node, Role, Source},
    telemetry::Metrics,
};
pub use breakglass::Desk;
pub use shifts::Shifts;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use suiyue_proto::{
    reason::Reason,
    region::{self, Code},
    v1::{self, operator_service_server::OperatorService},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// The operator API of one gateway.
#[derive(Clone)]
pub struct Operator {
    /// Name of the gateway.
    pub gateway: String,
    /// Snapshots of the routing table.
    pub snapshots: Snapshots,
    /// The registry as last heard of; `None` for a gateway without one.
    pub followed: Option<Followed>,
    /// The registry, to write to; `None` for a gateway without one.
    pub registry: Option<Arc<dyn Registry>>,
    /// Where the registry's keys begin.
    pub prefix: Prefix,
    /// How certificates and records are judged; `None`: there are none.
    pub trust: Option<Trust>,
    /// What subjects are hashed with.
    pub subjects: subject::Key,
    /// What writes changes with their entries; `None` for a gateway without a registry.
    pub audit: Option<Audit>,
    /// Numbers of apps, and the remembered head of the audit.
    pub metrics: Arc<Metrics>,
    /// What happens to calls of nobody.
    pub anonymous: Arc<Anonymous>,
    /// Who is let into the console.
    pub doors: Arc<Doors>,
    /// Shifts that this gateway holds by itself.
    pub holds: Holds,
    /// Fraction of a region's calls above which a second person must approve, where its policy says nothing.
    pub two_person_above: f64,
    /// A node stays on each step of its trial for this time.
    pub canary_step: Duration,
    /// What lies over the table at this gateway.
    pub glass: Glass,
    /// Cancelled: the gateway leaves.
    pub leaving: CancellationToken,
}

/// Who changes something: as the services in front of the API found out.
fn deed<T>(request: &Request<T>, method: &'static str) -> Arc<Deed> {
    request.extensions().get::<Arc<Deed>>().cloned().unwrap_or_else(|| Arc::new(Deed::local(method)))
}

#[tonic::async_trait]
impl OperatorService for Operator {
    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let snapshot = self.snapshots.current();
        let wanted = request.get_ref().region;
        let about = if wanted == 0 { None } else { Some(routing(wanted)?) };
        let nodes = snapshot.table.nodes.values();
        let nodes = nodes.filter(|node| about.is_none_or(|code| node.scopes.contains(&code)));
        let mut nodes: Vec<_> =
            nodes.map(|node| self.with_intent(node_info(&snapshot, node), &snapshot, node)).collect();
        nodes.sort_by(|a, b| (a.region, &a.node).cmp(&(b.region, &b.node)));
        Ok(Response::new(v1::ListNodesResponse { table: Some(self.table_info(&snapshot)), nodes }))
    }

    async fn list_regions(
        &self,
        request: Request<v1::ListRegionsRequest>,
    ) -> Result<Response<v1::ListRegionsResponse>, Status> {
        let snapshot = self.snapshots.current();
        let regions = region::all().filter(|division| division.is_region()).filter_map(|division| {
            let route = snapshot.plans.regions.get(&division.code).map(|by_class| &by_class[0]);
            if route.is_none() && !request.get_ref().all {
                return None;
            }
            Some(v1::RegionInfo {
                region: division.code.get(),
                name_zh: division.name_zh.to_owned(),
                name_en: division.name_en.to_owned(),
                province: region::parent(division.code).map_or(0, Code::get),
                joined: route.is_some(),
                available: route.is_some_and(|r| {
                    r.candidates.iter().any(|c| c.share > 0.0 && c.reason != plan::Reason::FailOpen)
                }),
                nodes: route
                    .map_or_else(Vec::new, |r| r.candidates.iter().map(|c| c.node.to_string()).collect()),
            })
        });
        Ok(Response::new(v1::ListRegionsResponse { regions: regions.collect() }))
    }

    async fn list_traffic(
        &self,
        request: Request<v1::ListTrafficRequest>,
    ) -> Result<Response<v1::ListTrafficResponse>, Status> {
        self.traffic(request.get_ref()).map(Response::new)
    }

    async fn explain_route(
        &self,
        request: Request<v1::ExplainRouteRequest>,
    ) -> Result<Response<v1::ExplainRouteResponse>, Status> {
        self.explain(request.get_ref()).map(Response::new)
    }

    async fn describe_region(
        &self,
        request: Request<v1::DescribeRegionRequest>,
    ) -> Result<Response<v1::DescribeRegionResponse>, Status> {
        self.describe(request.get_ref()).map(Response::new)
    }

    async fn set_region_policy(
        &self,
        request: Request<v1::SetRegionPolicyRequest>,
    ) -> Result<Response<v1::SetRegionPolicyResponse>, Status> {
        let deed = deed(&request, "SetRegionPolicy");
        self.set_policy(&deed, request.into_inner()).await.map(Response::new)
    }

    async fn list_apps(
        &self,
        request: Request<v1::ListAppsRequest>,
    ) -> Result<Response<v1::ListAppsResponse>, Status> {
        self.apps(request.get_ref()).map(Response::new)
    }

    async fn set_app(
        &self,
        request: Request<v1::SetAppRequest>,
    ) -> Result<Response<v1::ChangeAppResponse>, Status> {
        let deed = deed(&request, "SetApp");
        self.set_app(&deed, request.into_inner()).await.map(Response::new)
    }

    async fn rotate_app(
        &self,
        request: Request<v1::RotateAppRequest>,
    ) -> Result<Response<v1::ChangeAppResponse>, Status> {
        let deed = deed(&request, "RotateApp");
        self.rotate_app(&deed, request.into_inner()).await.map(Response::new)
    }

    async fn revoke_app(
        &self,
        request: Request<v1::RevokeAppRequest>,
    ) -> Result<Response<v1::ChangeAppResponse>, Status> {
        let deed = deed(&request, "RevokeApp");
        self.revoke_app(&deed, request.into_inner()).await.map(Response::new)
    }

    type ReadAuditStream = audit::Records;

    async fn read_audit(
        &self,
        request: Request<v1::ReadAuditRequest>,
    ) -> Result<Response<audit::Records>, Status> {
        self.audit_records(request.into_inner()).map(Response::new)
    }

    async fn remembered_audit(
        &self,
        _: Request<v1::RememberedAuditRequest>,
    ) -> Result<Response<v1::RememberedAuditResponse>, Status> {
        Ok(Response::new(self.remembered()))
    }

    async fn mint_console_token(
        &self,
        request: Request<v1::MintConsoleTokenRequest>,
    ) -> Result<Response<v1::MintConsoleTokenResponse>, Status> {
        self.mint(&request).map(Response::new)
    }

    async fn set_node_intent(
        &self,
        request: Request<v1::SetNodeIntentRequest>,
    ) -> Result<Response<v1::SetNodeIntentResponse>, Status> {
        let deed = deed(&request, "SetNodeIntent");
        self.set_intent(&deed, request.into_inner()).await.map(Response::new)
    }

    async fn publish_trust(
        &self,
        request: Request<v1::PublishTrustRequest>,
    ) -> Result<Response<v1::PublishTrustResponse>, Status> {
        let deed = deed(&request, "PublishTrust");
        self.publish(&deed, request.into_inner()).await.map(Response::new)
    }

    async fn dump_registry(
        &self,
        _: Request<v1::DumpRegistryRequest>,
    ) -> Result<Response<v1::DumpRegistryResponse>, Status> {
        let entries = self.followed.as_ref().map_or_else(Vec::new, Followed::entries);
        let held = self.followed.as_ref().map(Followed::held).unwrap_or_default();
        let stale = |entry: v1::RegistryEntry| {
            let stale = held.contains_key(&entry.key);
            v1::RegistryEntry { stale, ..entry }
        };
        let entries = entries.iter().map(|entry| stale(dump::text(&self.prefix, entry))).collect();
        let table = Some(self.table_info(&self.snapshots.current()));
        Ok(Response::new(v1::DumpRegistryResponse { table, entries }))
    }

    async fn registry_status(
        &self,
        _: Request<v1::RegistryStatusRequest>,
    ) -> Result<Response<v1::RegistryStatusResponse>, Status> {
        self.following().map(Response::new)
    }

    async fn diff_registry(
        &self,
        _: Request<v1::DiffRegistryRequest>,
    ) -> Result<Response<v1::DiffRegistryResponse>, Status> {
        self.diff().await.map(Response::new)
    }

    async fn freeze_registry(
        &self,
        request: Request<v1::FreezeRegistryRequest>,
    ) -> Result<Response<v1::FreezeRegistryResponse>, Status> {
        let deed = deed(&request, "FreezeRegistry");
        self.freeze(&deed, request.get_ref()).await.map(Response::new)
    }

    async fn accept_registry(
        &self,
        request: Request<v1::AcceptRegistryRequest>,
    ) -> Result<Response<v1::AcceptRegistryResponse>, Status> {
        let deed = deed(&request, "AcceptRegistry");
        self.accept(&deed, request.get_ref()).await.map(Response::new)
    }

    async fn list_gateways(
        &self,
        _: Request<v1::ListGatewaysRequest>,
    ) -> Result<Response<v1::ListGatewaysResponse>, Status> {
        Ok(Response::new(self.gateways().await))
    }

    async fn drain_gateway(
        &self,
        request: Request<v1::DrainGatewayRequest>,
    ) -> Result<Response<v1::DrainGatewayResponse>, Status> {
        let deed = deed(&request, "DrainGateway");
        self.leave(&deed, request.get_ref()).await.map(Response::new)
    }
}

impl Operator {
    /// What a change for all gateways is judged by: the snapshot without this gateway's break-glass.
    fn ground(&self) -> Arc<Snapshot> {
        self.snapshots.current().beneath()
    }

    fn table_info(&self, snapshot: &Snapshot) -> v1::TableInfo {
        let table = &snapshot.table;
        let age = self.followed.as_ref().and_then(|followed| followed.freshness().age());
        v1::TableInfo {
            gateway: self.gateway.clone(),
            source: match table.source {
                Source::Static => v1::TableSource::Static,
                Source::Awaited => v1::TableSource::Awaited,
                Source::Etcd => v1::TableSource::Etcd,
                Source::Embedded => v1::TableSource::Embedded,
                Source::LastKnownGood => v1::TableSource::LastKnownGood,
                Source::Peer => v1::TableSource::Peer,
            }
            .into(),
            revision: table.revision,
            age_ms: age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            plan: snapshot.generation,
            stale: self.followed.as_ref().map_or(0, |f| u32::try_from(f.held().len()).unwrap_or(u32::MAX)),
            table_hash: table.hash.clone(),
            frozen: self.followed.as_ref().is_some_and(|followed| followed.frozen().is_some()),
            breakglass: self.glass.sentences(),
            quarantined: table
                .quarantined
                .iter()
                .map(|q| v1::Quarantined { key: q.key.clone(), reason: q.reason.clone() })
                .collect(),
        }
    }
}

fn routing(code: u32) -> Result<Code, Status> {
    region::resolve(code).map_err(|unroutable| match unroutable {
        region::Unroutable::Unknown(_) => Reason::RegionUnknown.status(),
        region::Unroutable::Retired { successor, .. } => {
            Reason::RegionRetired.with(&[("successor", &successor.to_string())])
        }
    })
}

/// A region that calls are routed to: what is changed is named exactly.
fn routing_exactly(number: u32) -> Result<Code, Status> {
    let code = routing(number)?;
    if code.get() != number {
        return Err(Reason::RegionNotRouted.with(&[("field", "region"), ("region", &code.to_string())]));
    }
    Ok(code)
}

const fn role(role: Role) -> v1::Role {
    match role {
        Role::City => v1::Role::City,
        Role::Province => v1::Role::Province,
    }
}

fn node_info(snapshot: &Snapshot, node: &Arc<Node>) -> v1::NodeInfo {
    let endpoints = node.endpoints.iter().map(|endpoint| {
        let vitals = snapshot.vitals.iter().find(|vitals| {
            vitals.node == node.name
                && vitals.endpoint.name == endpoint.name
                && vitals.endpoint.incarnation == endpoint.incarnation
        });
        let (health, (since, why)) = match vitals {
            _ if endpoint.draining => (v1::Health::Draining, (None, "leaving")),
            None => (v1::Health::Unspecified, (None, "not checked yet")),
            Some(vitals) => {
                let (since, why) = vitals.since();
                let health = match vitals.state() {
                    State::Ok => v1::Health::Ok,
                    // Used where nobody else can answer: so is a half-open one, but for one call a second.
                    State::HalfOpen | State::Suspect => v1::Health::Suspect,
                    State::Ejected => v1::Health::Ejected,
                };
                (health, (Some(since), why))
            }
        };
        v1::EndpointInfo {
            endpoint: endpoint.name.to_string(),
            address: endpoint.address.to_string(),
            health: health.into(),
            health_reason: why.to_owned(),
            health_age_ms: since.map_or(0, |at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
            ready: endpoint.ready.iter().map(|(code, _)| code.get()).collect(),
            in_flight: vitals.map_or(0, |vitals| vitals.in_flight()),
            takes_up_to: vitals
                .and_then(|vitals| vitals.word.takes_up_to(Instant::now()))
                .map_or_else(String::new, |cursor| cursor.to_string()),
            stale: snapshot.table.stale.contains(&(node.name.clone(), endpoint.name.clone())),
        }
    });
    v1::NodeInfo {
        region: node.region.get(),
        node: node.name.to_string(),
        role: role(node.role).into(),
        scopes: node.scopes.iter().map(|code| code.get()).collect(),
        rps_max: node.rps_max.unwrap_or(0),
        static_node: node.is_static,
        endpoints: endpoints.collect(),
        ..v1::NodeInfo::default()
    }
}

#[cfg(test)]
mod tests;
