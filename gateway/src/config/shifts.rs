//! How much may one operator move, and who may break the glass?

use super::{Breakglass, Error, File, Overrides, Source};
use crate::breakglass::socket::MAX_PATH;
use std::time::Duration;

/// One person moves a fifth of a region's calls, where nothing else is said.
const TWO_PERSON_ABOVE: f64 = 0.2;
/// A step of a trial lasts ten minutes, where nothing else is said.
const CANARY_STEP_S: u32 = 600;
const CANARY_STEP_MAX_S: u32 = 7 * 24 * 3600;

pub(super) fn two_person_above(source: &Source<'_>, file: &File) -> Result<f64, Error> {
    match &file.shifts.two_person_above {
        None => Ok(TWO_PERSON_ABOVE),
        Some(value) if (0.0..=1.0).contains(value.get_ref()) => Ok(*value.get_ref()),
        Some(value) => {
            let problem = "use 0.0 (always two people) to 1.0 (one person may move everything)";
            Err(source.invalid(&value.span(), "shifts.two_person_above", problem))
        }
    }
}

pub(super) fn canary_step(source: &Source<'_>, file: &File) -> Result<Duration, Error> {
    let seconds = match &file.shifts.canary_step_s {
        None => CANARY_STEP_S,
        Some(value) if *value.get_ref() <= CANARY_STEP_MAX_S => *value.get_ref(),
        Some(value) => {
            let problem = format!("use 0 (no time at all) to {CANARY_STEP_MAX_S} seconds (a week)");
            return Err(source.invalid(&value.span(), "shifts.canary_step_s", problem));
        }
    };
    Ok(Duration::from_secs(seconds.into()))
}

/// Where there is a state directory there is a socket: what is ordered must survive a death.
pub(super) fn breakglass(
    source: &Source<'_>,
    file: &File,
    overrides: &Overrides,
) -> Result<Option<Breakglass>, Error> {
    let given = &file.breakglass;
    let span = given.socket.as_ref().map_or(0..0, toml::Spanned::span);
    let Some(state) = overrides.state_dir.as_ref().or(file.state_dir.as_ref()) else {
        if given.socket.is_none() && given.users.is_empty() {
            return Ok(None);
        }
        let problem = "break-glass keeps a journal: name a state_dir";
        return Err(source.invalid(&span, "breakglass", problem));
    };
    let socket = given.socket.as_ref().map_or_else(|| state.join("breakglass.sock"), |s| s.get_ref().clone());
    let length = socket.as_os_str().len();
    if length > MAX_PATH {
        let problem =
            format!("the path has {length} bytes, and a socket's at most {MAX_PATH}: name a shorter one");
        return Err(source.invalid(&span, "breakglass.socket", problem));
    }
    Ok(Some(Breakglass { socket, dir: state.join("breakglass"), users: given.users.clone() }))
}
