//! How many calls does every region get at all gateways together?
//!
//! One gateway sees its own part only, and a guard that judged by it would let through what the others
//! make too much. So a preview asks all that are there; one that does not answer within two seconds
//! refuses the plan, unless the operator says that its load is not needed.

use super::{super::Operator, preview::Demand};
use crate::{identity::dial::Dialer, registry::keys::Key, snapshot::Snapshot};
use futures_util::future::join_all;
use prost::Message as _;
use std::{sync::Arc, time::Duration};
use suiyue_proto::{
    reason::Reason,
    region::Code,
    v1::{self, shift_service_client::ShiftServiceClient},
};
use tonic::{Status, transport::Endpoint};

/// A gateway that takes longer is silent.
const WITHIN: Duration = Duration::from_secs(2);

/// Calls a second, and the gateways that they come to.
pub(in crate::operator) struct Loads {
    pub(in crate::operator) gateways: Vec<String>,
    pub(in crate::operator) demand: Demand,
}

/// Calls a second at this gateway.
pub(in crate::operator) fn own(snapshot: &Snapshot) -> Demand {
    snapshot.inputs.as_ref().map(|inputs| inputs.signals.demand.clone()).unwrap_or_default()
}

/// What this gateway tells others.
pub(super) fn told(operator: &Operator) -> v1::GetLoadResponse {
    let snapshot = operator.snapshots.current();
    let regions = own(&snapshot).into_iter();
    let regions = regions.map(|(code, rps)| v1::RegionLoad { region: code.get(), rps: rps.into() });
    v1::GetLoadResponse {
        gateway: operator.gateway.clone(),
        regions: regions.collect(),
        nodes: rates(&snapshot).map(|(node, rps)| v1::NodeRate { node: node.to_string(), rps }).collect(),
        unix_ms: crate::clock::unix_ms(),
        state: Some(operator.state()),
    }
}

/// Calls a second of this gateway to every node.
pub(in crate::operator) fn rates(snapshot: &Snapshot) -> impl Iterator<Item = (Arc<str>, f64)> {
    let nodes = snapshot.inputs.iter().flat_map(|inputs| &inputs.signals.nodes);
    nodes.map(|(node, signal)| (node.clone(), signal.own_use))
}

/// The sum over all gateways that are there, without those that are named.
///
/// # Errors
/// [`Reason::GatewaySilent`] names the first one that does not answer.
pub(in crate::operator) async fn of_all(
    operator: &Operator,
    snapshot: &Snapshot,
    without: &[String],
) -> Result<Loads, Status> {
    let mut loads = Loads { gateways: vec![operator.gateway.clone()], demand: own(snapshot) };
    let others: Vec<_> = others(operator).into_iter().filter(|(id, _)| !without.contains(id)).collect();
    for (id, answer) in ask_all(operator, others).await {
        let answer = answer.map_err(|error| {
            tracing::warn!(gateway = %id, error, "a gateway does not tell its load");
            Reason::GatewaySilent.with(&[("gateway", &id)])
        })?;
        for load in answer.regions {
            let Some(code) = Code::new(load.region) else { continue };
            let sum = loads.demand.entry(code).or_default();
            sum.iter_mut()
                .zip(load.rps)
                .filter(|(_, rps)| rps.is_finite())
                .for_each(|(sum, rps)| *sum += rps);
        }
        loads.gateways.push(id);
    }
    loads.gateways.sort_unstable();
    Ok(loads)
}

/// What each of these gateways tells, or why it does not.
pub(in crate::operator) async fn ask_all(
    operator: &Operator,
    gateways: Vec<(String, String)>,
) -> Vec<(String, Result<v1::GetLoadResponse, String>)> {
    let dialer = operator.trust.as_ref().map(Dialer::to_gateways);
    let asked = gateways.into_iter().map(|(id, address)| ask(dialer.as_ref(), id, address));
    join_all(asked).await
}

/// The other gateways that are there, with their control ports.
pub(in crate::operator) fn others(operator: &Operator) -> Vec<(String, String)> {
    let entries = operator.followed.as_ref().map(|followed| followed.entries()).unwrap_or_default();
    let gateways = entries.iter().filter_map(|entry| match operator.prefix.parse(&entry.key) {
        Ok(Key::Gateway(id)) if id != operator.gateway => {
            let presence = v1::GatewayPresence::decode(entry.value.clone()).unwrap_or_default();
            Some((id, presence.control_address))
        }
        _ => None,
    });
    gateways.collect()
}

/// With certificates both sides show a gateway's.
async fn ask(
    dialer: Option<&Dialer>,
    id: String,
    address: String,
) -> (String, Result<v1::GetLoadResponse, String>) {
    let asked = async {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
        let channel = match dialer {
            None => endpoint.connect().await,
            Some(dialer) => dialer.channel(endpoint).await,
        };
        let channel = channel.map_err(|e| e.to_string())?;
        let answer = ShiftServiceClient::new(channel).get_load(v1::GetLoadRequest {}).await;
        let answer = answer.map_err(|status| status.to_string())?.into_inner();
        if answer.gateway != id {
            return Err(format!("{} answers at its address", answer.gateway));
        }
        Ok(answer)
    };
    let answer = tokio::time::timeout(WITHIN, asked).await;
    (id, answer.unwrap_or_else(|_| Err(format!("no answer within {} s", WITHIN.as_secs()))))
}
