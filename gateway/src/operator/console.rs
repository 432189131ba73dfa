//! What does the web console need of the operator API?
//!
//! A token for whoever may call the operator API, for themselves: in their own role or in a lesser one, as
//! somebody does who only shows what is going on. And the calls of all gateways together.

use super::{Operator, shifts::loads};
use crate::{audit::actor::Actor, console::door::Guest, identity::Peer};
use std::{collections::BTreeMap, sync::Arc, time::SystemTime};
use suiyue_proto::{reason::Reason, v1};
use tonic::{Request, Status};

impl Operator {
    /// Calls a second of all gateways to every node, and the gateways that do not answer.
    pub(crate) async fn rates_of_all(&self) -> (BTreeMap<Arc<str>, f64>, Vec<String>) {
        let snapshot = self.snapshots.current();
        let mut sums: BTreeMap<Arc<str>, f64> = loads::rates(&snapshot).collect();
        let mut silent = Vec::new();
        for (id, answer) in loads::ask_all(self, loads::others(self)).await {
            let Ok(answer) = answer else {
                silent.push(id);
                continue;
            };
            for node in answer.nodes.iter().filter(|node| node.rps.is_finite()) {
                if let Some(sum) = sums.get_mut(node.node.as_str()) {
                    *sum += node.rps;
                }
            }
        }
        (sums, silent)
    }

    pub(super) fn mint(
        &self,
        request: &Request<v1::MintConsoleTokenRequest>,
    ) -> Result<v1::MintConsoleTokenResponse, Status> {
        let mut actor =
            request.extensions().get::<Actor>().cloned().ok_or_else(|| Reason::IdentityRequired.status())?;
        let wanted = &request.get_ref().role;
        if !wanted.is_empty() {
            let expected = "viewer, operator or approver";
            let invalid = || Reason::FieldInvalid.with(&[("field", "role"), ("expected", expected)]);
            let role = wanted.parse().map_err(|_| invalid())?;
            if role > actor.role {
                let has = actor.role.as_str();
                return Err(Reason::RoleInsufficient.with(&[("role", has), ("needed", wanted)]));
            }
            actor.role = role;
        }
        let settings = self.doors.settings();
        let expires = SystemTime::now() + settings.token;
        let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        tracing::info!(actor = actor.name, role = actor.role.as_str(), "a token for the console was made");
        Ok(v1::MintConsoleTokenResponse {
            expires_unix_ms: i64::try_from(expires).unwrap_or(i64::MAX),
            actor: actor.name.clone(),
            role: actor.role.as_str().to_owned(),
            address: self.doors.address().to_string(),
            session_s: u32::try_from(settings.session.as_secs()).unwrap_or(u32::MAX),
            token: self.doors.mint(Guest { actor, peer: request.extensions().get::<Peer>().cloned() }),
        })
    }
}
