//! Apps: their calls, what they have in flight, who was refused for being nobody; and the audit.

use super::{Page, Scene};
use crate::apps::meters::Outcome;
use std::fmt;

pub(super) fn encode(page: &mut Page<'_>, scene: &Scene) -> fmt::Result {
    let meters = &scene.metrics.apps;
    let known = meters.read();
    let calls = known.iter().flat_map(|(app, meter)| {
        let counts = meter.read();
        Outcome::ALL.map(|outcome| {
            ([("app", app.to_string()), ("outcome", outcome.as_str().to_owned())], counts[outcome as usize])
        })
    });
    page.counters("suiyue_app_calls", "Calls of registered apps, by what became of them", calls)?;
    let in_flight =
        known.iter().map(|(app, meter)| ([("app", app.to_string())], f64::from(meter.in_flight.now())));
    page.gauges("suiyue_app_in_flight", "Calls of registered apps in flight", in_flight)?;
    let apps = &scene.snapshot.table.apps;
    let disabled = apps.all().filter(|grant| grant.disabled).count();
    let counts = [("enabled", apps.all().count() - disabled), ("disabled", disabled)];
    let counts = counts.map(|(state, n)| ([("state", state)], n as f64));
    page.gauges("suiyue_apps", "Registered apps", counts)?;
    let [anonymous, unknown] = meters.strangers();
    let counts = [("anonymous", anonymous), ("unknown", unknown)].map(|(who, n)| ([("cause", who)], n));
    let help = "Calls refused because nobody knows who makes them: anonymous, or with a token of no app";
    page.counters("suiyue_app_strangers", help, counts)?;
    let audit = scene.metrics.audit.known();
    let help = "Number of the last entry of the audit that this gateway has seen";
    page.gauge("suiyue_audit_sequence", help, audit.head.map_or(0.0, |head| head.sequence as f64))?;
    let help = "The audit in the registry does not continue the one that this gateway has seen";
    page.gauge("suiyue_audit_broken", help, f64::from(u8::from(audit.problem.is_some())))
}
