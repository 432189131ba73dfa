//! How is a shift held, resumed, extended, ended or taken back? (`suiyue shift hold|resume|…`)
//!
//! A shift is named by its id or a beginning of it; what begins alike is refused with the candidates.

use super::{
    Shifts,
    list::{self, Line},
};
use crate::{
    cli::{Ask, CancelShift, ChangeShift},
    exit::Guarded,
    verbs::output::{self, Format},
};
use serde::Serialize;
use suiyue_proto::v1::{ChangeShiftRequest, ListShiftsRequest, ShiftInfo, change_shift_request::Change};

/// The document of these verbs with `-o json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// Nothing was to be written.
    pub dry_run: bool,
    /// How many were written.
    pub written: usize,
    /// The shifts, as they stand now.
    pub shifts: Vec<Line>,
}

/// Holds a shift.
///
/// # Errors
/// As [`super::run`].
pub async fn hold(flags: &ChangeShift) -> anyhow::Result<()> {
    change(flags, Change::Hold(true)).await
}

/// Resumes it.
///
/// # Errors
/// As [`super::run`].
pub async fn resume(flags: &ChangeShift) -> anyhow::Result<()> {
    change(flags, Change::Resume(true)).await
}

/// Moves its end.
///
/// # Errors
/// As [`super::run`].
pub async fn extend(flags: &ChangeShift, ttl_s: u32) -> anyhow::Result<()> {
    change(flags, Change::TtlS(ttl_s)).await
}

/// Restores what was before it.
///
/// # Errors
/// As [`super::run`].
pub async fn rollback(flags: &ChangeShift) -> anyhow::Result<()> {
    change(flags, Change::Rollback(true)).await
}

/// Ends one, or all that run.
///
/// # Errors
/// As [`super::run`]; of all, those that could be ended are.
pub async fn cancel(flags: &CancelShift) -> anyhow::Result<()> {
    let mut shifts = Shifts::connect(&flags.ask.gateways(), &flags.account).await?;
    let running = running(&mut shifts).await?;
    let ids = match &flags.id {
        Some(id) => vec![named(id, &running)?],
        None => running.iter().map(id_of).collect(),
    };
    let mut changed = Vec::new();
    let mut failure = None;
    for id in ids {
        let asked = ChangeShiftRequest { id, change: Some(Change::Cancel(true)), dry_run: flags.dry_run };
        match shifts.change(asked).await {
            Ok(answer) => changed.push((answer.shift, answer.written)),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    tell(&flags.ask, flags.dry_run, &changed)?;
    failure.map_or(Ok(()), Err)
}

async fn change(flags: &ChangeShift, change: Change) -> anyhow::Result<()> {
    let mut shifts = Shifts::connect(&flags.ask.gateways(), &flags.account).await?;
    let id = named(&flags.id, &running(&mut shifts).await?)?;
    let asked = ChangeShiftRequest { id, change: Some(change), dry_run: flags.dry_run };
    let answer = shifts.change(asked).await?;
    tell(&flags.ask, flags.dry_run, &[(answer.shift, answer.written)])
}

async fn running(shifts: &mut Shifts) -> anyhow::Result<Vec<ShiftInfo>> {
    Ok(shifts.list(ListShiftsRequest::default()).await?.shifts)
}

fn id_of(info: &ShiftInfo) -> String {
    info.shift.as_ref().map(|shift| shift.id.clone()).unwrap_or_default()
}

/// The one shift that an id, or a beginning of it, names. One that this gateway has not read yet is asked
/// for by its whole id.
fn named(id: &str, running: &[ShiftInfo]) -> Result<String, Guarded> {
    let ids: Vec<String> = running.iter().map(id_of).filter(|known| known.starts_with(id)).collect();
    match &ids[..] {
        [] => Ok(id.to_owned()),
        [one] => Ok(one.clone()),
        _ => Err(Guarded(format!("{id} is the beginning of several shifts: {}", ids.join(", ")))),
    }
}

fn tell(ask: &Ask, dry_run: bool, changed: &[(Option<ShiftInfo>, bool)]) -> anyhow::Result<()> {
    let written = changed.iter().filter(|(_, written)| *written).count();
    let shifts: Vec<Line> = changed.iter().filter_map(|(info, _)| info.as_ref()).map(Line::from).collect();
    if ask.output == Format::Json {
        return output::json(&Document { dry_run, written, shifts });
    }
    let head = match (dry_run, shifts.len(), written) {
        (true, ..) => "dry run: this is how it would stand\n".to_owned(),
        (false, 0, _) => return output::line("no shift runs"),
        (false, _, 0) => "nothing written: it stood like that already\n".to_owned(),
        (false, _, n) => format!("{n} changed\n"),
    };
    output::line(&(head + &list::told(&shifts)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use suiyue_proto::v1::Shift;

    #[test]
    fn a_beginning_that_is_unique_names_a_shift() {
        let info = |id: &str| ShiftInfo {
            shift: Some(Shift { id: id.to_owned(), ..Shift::default() }),
            ..ShiftInfo::default()
        };
        let running = [info("0199a-1"), info("0199b-2")];
        assert_eq!(named("0199a", &running).unwrap(), "0199a-1");
        assert_eq!(named("0200", &running).unwrap(), "0200");
        assert!(named("0199", &running).unwrap_err().0.contains("0199a-1, 0199b-2"));
    }
}
