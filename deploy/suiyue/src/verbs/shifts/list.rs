//! Which shifts are there, and where does each stand? (`suiyue shift status|history`)

use super::{Shifts, plan::Order};
use crate::{
    cli::{Account, Ask},
    verbs::{
        audit::utc,
        operator::{TableDocument, footer},
        output::{self, Format},
    },
};
use serde::Serialize;
use suiyue_proto::{
    region::Code,
    v1::{ListShiftsRequest, ListShiftsResponse, Shift, ShiftBreach, ShiftEnd, ShiftInfo},
};

/// The document of `shift status -o json` and `shift history -o json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The table behind the answer.
    pub table: Option<TableDocument>,
    /// The shifts.
    pub shifts: Vec<Line>,
}

/// A shift.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Its id.
    pub id: String,
    /// What was ordered.
    pub order: Order,
    /// `ramping`, `held`, `active`, `reverting` or `ended`; absent: not asked.
    pub state: Option<String>,
    /// How much of the share of its source is moved now.
    pub percent: f64,
    /// When it began.
    pub began: String,
    /// When it begins, or began, to walk back.
    pub expires: String,
    /// When its part changes next by the clock; absent: it does not.
    pub next: Option<String>,
    /// Why it walks back; absent: it does not, or its time was over.
    pub end: Option<String>,
    /// The breach that holds it or took it back.
    pub breach: Option<String>,
    /// Who applied it.
    pub actor: String,
    /// Who approved it; absent: nobody had to.
    pub approver: Option<String>,
    /// The shift that it replaced; absent: none.
    pub replaces: Option<String>,
    /// Gateways whose load was not in the plan.
    pub without: Vec<String>,
    /// It was applied although a guard refused it.
    pub forced: bool,
    /// Revision of its last change.
    pub revision: i64,
}

impl Line {
    /// A shift as it is stored.
    #[must_use]
    pub fn of(shift: &Shift) -> Self {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        let end = (shift.end() != ShiftEnd::Unspecified).then(|| shift.end().as_str_name());
        Self {
            id: shift.id.clone(),
            order: Order::from(&shift.order.clone().unwrap_or_default()),
            state: None,
            percent: 0.0,
            began: utc(shift.start_unix_ms),
            expires: utc(shift.expires_unix_ms),
            next: None,
            end: end.map(|end| output::word(end, "SHIFT_END_")),
            breach: shift.breach.as_ref().map(breach),
            actor: shift.actor.clone(),
            approver: some(&shift.approver),
            replaces: some(&shift.replaces),
            without: shift.without.clone(),
            forced: shift.forced,
            revision: 0,
        }
    }
}

impl From<&ShiftInfo> for Line {
    fn from(info: &ShiftInfo) -> Self {
        let line = Self::of(&info.shift.clone().unwrap_or_default());
        Self {
            state: Some(output::word(info.state().as_str_name(), "SHIFT_STATE_")),
            percent: info.percent,
            next: (info.next_unix_ms > 0).then(|| utc(info.next_unix_ms)),
            breach: line.breach.or_else(|| info.held_here.as_ref().map(breach)),
            revision: info.revision,
            ..line
        }
    }
}

fn breach(breach: &ShiftBreach) -> String {
    let ShiftBreach { guard, node, gateway, value, limit, .. } = breach;
    let at = utc(breach.unix_ms);
    format!("{guard} of {node}: {value:.2}, where the limit is {limit:.2} (seen by {gateway} at {at})")
}

/// Lists the shifts that run.
///
/// # Errors
/// When no gateway can be reached, or it refuses.
pub async fn status(ask: &Ask, region: Option<Code>, ended: bool) -> anyhow::Result<()> {
    list(ask, region, ListShiftsRequest { ended, ..Default::default() }).await
}

/// Lists all shifts, newest first.
///
/// # Errors
/// When no gateway or registry can be reached, or the gateway refuses.
pub async fn history(ask: &Ask, region: Option<Code>) -> anyhow::Result<()> {
    list(ask, region, ListShiftsRequest { history: true, ..Default::default() }).await
}

async fn list(ask: &Ask, region: Option<Code>, asked: ListShiftsRequest) -> anyhow::Result<()> {
    let asked = ListShiftsRequest { region: region.map_or(0, Code::get), ..asked };
    let mut shifts = Shifts::connect(&ask.gateways(), &Account::default()).await?;
    let answer = shifts.list(asked).await?;
    let document = document(&answer);
    match ask.output {
        Format::Json => output::json(&document),
        Format::Table => {
            output::line(&format!("{}{}", told(&document.shifts), footer(answer.table.as_ref())))
        }
    }
}

fn document(answer: &ListShiftsResponse) -> Document {
    let shifts = answer.shifts.iter().map(Line::from).collect();
    Document { table: answer.table.as_ref().map(TableDocument::from), shifts }
}

/// The shifts for a person.
#[must_use]
pub fn told(shifts: &[Line]) -> String {
    if shifts.is_empty() {
        return "no shift runs\n".to_owned();
    }
    let headings =
        ["id", "region", "from", "to", "state", "now", "of", "next step", "walks back", "by", "approved by"];
    let mut table = output::table(headings);
    for shift in shifts {
        let to: Vec<_> = shift.order.to.iter().map(|(node, _)| node.as_str()).collect();
        let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let state = match &shift.end {
            Some(end) => format!("{} ({end})", dash(&shift.state)),
            None => dash(&shift.state),
        };
        table.add_row([
            shift.id.clone(),
            shift.order.region.to_string(),
            shift.order.from.clone(),
            to.join(" "),
            state,
            format!("{} %", shift.percent),
            format!("{} %", shift.order.percent),
            dash(&shift.next),
            shift.expires.clone(),
            shift.actor.clone(),
            dash(&shift.approver),
        ]);
    }
    let mut text = format!("{table}\n");
    for (shift, breach) in shifts.iter().filter_map(|shift| Some((shift, shift.breach.as_ref()?))) {
        text.push_str(&format!("{}: {breach}\n", shift.id));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use suiyue_proto::v1::ShiftState;

    #[test]
    fn a_line_says_state_share_end_and_breach() {
        let shift = Shift {
            id: "0199".to_owned(),
            end: ShiftEnd::RolledBack.into(),
            breach: Some(ShiftBreach {
                guard: "errors".to_owned(),
                node: "yuekang".to_owned(),
                gateway: "gw-2".to_owned(),
                value: 9.5,
                limit: 2.0,
                unix_ms: 0,
            }),
            ..Shift::default()
        };
        let info = ShiftInfo {
            shift: Some(shift),
            state: ShiftState::Ended.into(),
            percent: 12.5,
            ..ShiftInfo::default()
        };
        let text = told(&[Line::from(&info)]);
        for words in [
            "ended (rolled_back)",
            "12.5 %",
            "0199: errors of yuekang: 9.50, where the limit is 2.00 (seen by gw-2 at 1970-01-01T00:00:00Z)",
        ] {
            assert!(text.contains(words), "{words:?}:\n{text}");
        }
        assert_eq!(told(&[]), "no shift runs\n");
    }
}
