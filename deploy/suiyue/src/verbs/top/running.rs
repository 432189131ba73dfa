//! Which shifts run, and how far are they?
//!
//! The same shift of several gateways is one; break-glass is that of its gateway alone.

use crate::verbs::{output, shifts::list::Line, survey::Heard};
use serde::Serialize;

/// A shift that runs.
#[derive(Debug, Clone, Serialize)]
pub struct Running {
    /// The shift, as the first gateway that knows it says.
    #[serde(flatten)]
    pub shift: Line,
    /// Milliseconds until it begins to walk back; 0: it does.
    pub left_ms: u64,
    /// Gateways where it counts.
    pub gateways: Vec<String>,
}

/// The shifts of gateways that answer, in the order of their regions and sources.
pub(super) fn shifts<'a>(answering: impl Iterator<Item = &'a Heard>) -> Vec<Running> {
    let mut all: Vec<Running> = Vec::new();
    for heard in answering {
        for info in &heard.shifts {
            let shift = Line::from(info);
            let counts = shift.overridden_here.is_none();
            let at = all.iter().position(|known| known.shift.id == shift.id);
            let at = at.unwrap_or_else(|| {
                let expires = info.shift.as_ref().map_or(0, |shift| shift.expires_unix_ms);
                let left_ms = u64::try_from(expires.saturating_sub(heard.unix_ms)).unwrap_or(0);
                all.push(Running { shift, left_ms, gateways: Vec::new() });
                all.len() - 1
            });
            if counts {
                all[at].gateways.push(heard.gateway().to_owned());
            }
        }
    }
    let place = |running: &Running| (running.shift.order.region, running.shift.order.from.clone());
    all.sort_by_key(|running| (place(running), running.shift.id.clone()));
    all
}

impl Running {
    /// One line; what is not as it was ordered begins with `!`.
    #[must_use]
    pub fn line(&self, answering: usize) -> String {
        let Self { shift, left_ms, gateways } = self;
        let local = shift.mode == "breakglass";
        let mark = if local || shift.breach.is_some() { "! " } else { "" };
        let kind = if local { "break-glass shift" } else { "shift" };
        let to: Vec<_> = shift.order.to.iter().map(|(node, _)| node.as_str()).collect();
        let classes = shift.order.classes.join(" and ");
        let classes = if classes.is_empty() { String::new() } else { format!(" ({classes})") };
        let state = shift.state.as_deref().unwrap_or("unknown");
        let left =
            if *left_ms > 0 { format!("{} left", output::age(*left_ms)) } else { "walks back".to_owned() };
        let ramp = match shift.order.every_s {
            0 => "at once".to_owned(),
            every => format!("{} points every {every} s", shift.order.step),
        };
        let mut line = format!(
            "{mark}{kind} {}: {}{classes} of {} to {}: {:.0} of {} %, {state}, {ramp}, {left}",
            shift.id,
            shift.order.from,
            shift.order.region,
            to.join(" and "),
            shift.percent,
            shift.order.percent
        );
        if gateways.len() < answering || local {
            let at = if gateways.is_empty() { "no gateway".to_owned() } else { gateways.join(", ") };
            line.push_str(&format!(", at {at} only"));
        }
        if let Some(breach) = &shift.breach {
            line.push_str(&format!("; {breach}"));
        }
        line
    }
}
