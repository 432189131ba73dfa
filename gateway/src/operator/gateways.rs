//! Which gateways are there, how is each, and may this one leave?
//!
//! Who is there stands in the registry; how they are they say themselves, over the same question that sums
//! loads. A gateway that is told to leave goes like one that its supervisor ends: not ready, no new
//! connections, GOAWAY, calls in flight finish, and the process ends.

use super::{Operator, shifts::loads};
use crate::audit::actor::Deed;
use std::time::{Duration, SystemTime};
use suiyue_proto::{
    reason::Reason,
    v1::{self, GatewayEntry, GatewayState},
};
use tonic::Status;

/// The audit is written within this time, or the gateway stays.
const WRITE_WITHIN: Duration = Duration::from_secs(5);

impl Operator {
    /// How this gateway is.
    pub(super) fn state(&self) -> GatewayState {
        let snapshot = self.snapshots.current();
        let table = self.table_info(&snapshot);
        let started = self.metrics.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let age = self.followed.as_ref().and_then(|followed| followed.freshness().age());
        GatewayState {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_ms: i64::try_from(started.as_millis()).unwrap_or(i64::MAX),
            plan: table.plan,
            revision: table.revision,
            table_hash: table.table_hash,
            registry_age_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            stale: table.stale,
            draining: self.leaving.is_cancelled(),
            rps: loads::own(&snapshot).values().flatten().filter(|rps| rps.is_finite()).sum(),
            breakglass: u32::try_from(table.breakglass.len()).unwrap_or(u32::MAX),
            frozen: table.frozen,
        }
    }

    /// All gateways of the registry; this one also where there is none.
    pub(super) async fn gateways(&self) -> v1::ListGatewaysResponse {
        let present = self.followed.as_ref().map(|followed| followed.present()).unwrap_or_default();
        let own = present.iter().find(|gateway| gateway.id == self.gateway);
        let said = own.map(|own| own.said.clone()).unwrap_or_default();
        let mut gateways = vec![GatewayEntry {
            id: self.gateway.clone(),
            control_address: said.control_address,
            admin_address: said.admin_address,
            state: Some(self.state()),
            ..GatewayEntry::default()
        }];
        for (id, answer) in loads::ask_all(self, loads::others(self)).await {
            let said = present.iter().find(|gateway| gateway.id == id);
            let said = said.map(|gateway| gateway.said.clone()).unwrap_or_default();
            let (state, silent) = match answer {
                Ok(load) => (load.state, String::new()),
                Err(why) => (None, why),
            };
            let (control_address, admin_address) = (said.control_address, said.admin_address);
            gateways.push(GatewayEntry { id, control_address, admin_address, state, silent, share: None });
        }
        gateways.sort_by(|a, b| a.id.cmp(&b.id));
        share(&mut gateways);
        v1::ListGatewaysResponse { gateway: self.gateway.clone(), gateways }
    }

    /// Begins to leave. With a registry the audit has it first.
    pub(super) async fn leave(
        &self,
        deed: &Deed,
        asked: &v1::DrainGatewayRequest,
    ) -> Result<v1::DrainGatewayResponse, Status> {
        if asked.dry_run {
            deed.rehearse();
        }
        if asked.gateway != self.gateway {
            return Err(Reason::GatewayOther.with(&[("gateway", &self.gateway), ("meant", &asked.gateway)]));
        }
        let answering = loads::ask_all(self, loads::others(self)).await.into_iter();
        let stays = |answer: &v1::GetLoadResponse| answer.state.as_ref().is_none_or(|state| !state.draining);
        let others: Vec<String> =
            answering.filter_map(|(id, answer)| answer.is_ok_and(|a| stays(&a)).then_some(id)).collect();
        if others.is_empty() && !asked.force {
            return Err(Reason::GatewayLast.with(&[("gateway", &self.gateway)]));
        }
        let begun = !asked.dry_run && !self.leaving.is_cancelled();
        if begun {
            self.note_leaving(deed, &others).await?;
            tracing::info!(actor = %deed.actor.name, "an operator makes this gateway leave");
            self.leaving.cancel();
        }
        Ok(v1::DrainGatewayResponse { gateway: self.gateway.clone(), others, begun })
    }

    async fn note_leaving(&self, deed: &Deed, others: &[String]) -> Result<(), Status> {
        let Some(audit) = &self.audit else { return Ok(()) };
        let stay = if others.is_empty() { "nobody".to_owned() } else { others.join(", ") };
        let text = format!("{} leaves; {stay} stays", self.gateway);
        match tokio::time::timeout(WRITE_WITHIN, audit.noted(deed, &text)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(super::apps::not_written(&failure)),
            Err(_) => Err(Reason::RegistryUnavailable.status()),
        }
    }
}

/// Each one's part of all calls that are known.
fn share(gateways: &mut [GatewayEntry]) {
    let rps = |gateway: &GatewayEntry| gateway.state.as_ref().map_or(0.0, |state| state.rps);
    let total: f64 = gateways.iter().map(rps).sum();
    if total > 0.0 {
        for gateway in gateways.iter_mut().filter(|gateway| gateway.state.is_some()) {
            gateway.share = Some(rps(gateway) / total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_those_who_answer() {
        let gateway = |rps: Option<f64>| GatewayEntry {
            state: rps.map(|rps| GatewayState { rps, ..GatewayState::default() }),
            ..GatewayEntry::default()
        };
        let shares = |rps: &[Option<f64>]| {
            let mut gateways: Vec<_> = rps.iter().copied().map(gateway).collect();
            share(&mut gateways);
            gateways.into_iter().map(|gateway| gateway.share).collect::<Vec<_>>()
        };
        assert_eq!(shares(&[Some(90.0), None, Some(10.0)]), [Some(0.9), None, Some(0.1)]);
        assert_eq!(shares(&[Some(0.0), None]), [None, None]);
    }
}
