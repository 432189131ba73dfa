//! Where do calls go, why, and where would they go if something changed?
//!
//! The answer comes out of a snapshot that is kept: the current one, or any of the last 64. What is
//! supposed is computed by the same `plan()` from changed copies of that snapshot's inputs
//! ([`what_if`]); nothing is published, no generation is spent.

use super::{Operator, routes, routing, what_if};
use crate::{
    plan::{Plans, Route},
    snapshot::Snapshot,
};
use std::sync::Arc;
use suiyue_proto::{method::Class, reason::Reason, region::Code, v1};
use tonic::Status;

impl Operator {
    pub(super) fn explain(
        &self,
        asked: &v1::ExplainRouteRequest,
    ) -> Result<v1::ExplainRouteResponse, Status> {
        let snapshot = self.snapshot(asked.plan)?;
        let code = routing(asked.region)?;
        let class = Class::from_proto(asked.class).ok_or_else(|| {
            Reason::FieldInvalid.with(&[("field", "class"), ("expected", "scan, show, query or sync")])
        })?;
        let route = find(&snapshot.plans, code, class)?;
        let subject = (!asked.subject.is_empty()).then(|| self.subjects.of(&asked.subject));
        let pick = subject.and_then(|subject| routes::pick(route, subject));
        let supposed = match &asked.what_if[..] {
            [] => None,
            changes => Some(supposed(&snapshot, (code, class), changes, subject)?),
        };
        Ok(v1::ExplainRouteResponse {
            table: Some(self.table_info(&snapshot)),
            region: code.get(),
            candidates: routes::candidates(&snapshot.table, route),
            subject_node: pick.as_ref().map(|pick| pick.node.clone()).unwrap_or_default(),
            summary: routes::summary(code, class, route),
            pick,
            supposed,
            shed: route.shed,
        })
    }

    /// The snapshot of a generation; 0: the current one.
    fn snapshot(&self, generation: u64) -> Result<Arc<Snapshot>, Status> {
        if generation == 0 {
            return Ok(self.snapshots.current());
        }
        self.snapshots.generation(generation).ok_or_else(|| {
            let (oldest, newest) = self.snapshots.kept();
            let plan = generation.to_string();
            Reason::PlanNotKept.with(&[
                ("plan", &plan),
                ("oldest", &oldest.to_string()),
                ("newest", &newest.to_string()),
            ])
        })
    }
}

fn find(plans: &Plans, code: Code, class: Class) -> Result<&Route, Status> {
    let by_class = plans.regions.get(&code).ok_or_else(|| Reason::RegionNotJoined.status())?;
    Ok(&by_class[class.index()])
}

fn supposed(
    snapshot: &Snapshot,
    (code, class): (Code, Class),
    changes: &[v1::WhatIf],
    subject: Option<u64>,
) -> Result<v1::SupposedRoute, Status> {
    let plans = what_if::plans(snapshot, changes)?;
    let route = find(&plans, code, class)?;
    Ok(v1::SupposedRoute {
        candidates: routes::candidates(&snapshot.table, route),
        pick: subject.and_then(|subject| routes::pick(route, subject)),
        summary: routes::summary(code, class, route),
        shed: route.shed,
    })
}
