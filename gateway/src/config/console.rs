//! How long does the console let somebody in?

use super::{Error, Source, file};
use crate::console::door::Settings;
use std::time::Duration;
use toml::Spanned;

/// The longest time that a token waits.
const TOKEN_MAX: u32 = 3600;
/// The longest session: a shift of work.
const SESSION_MAX: u32 = 12 * 3600;

/// What `[console]` says.
pub(super) fn settings(source: &Source<'_>, file: &file::Console) -> Result<Settings, Error> {
    let usual = Settings::default();
    let token = seconds(source, "console.token_s", file.token_s.as_ref(), TOKEN_MAX)?;
    let session = seconds(source, "console.session_s", file.session_s.as_ref(), SESSION_MAX)?;
    Ok(Settings { token: token.unwrap_or(usual.token), session: session.unwrap_or(usual.session) })
}

fn seconds(
    source: &Source<'_>,
    field: &str,
    given: Option<&Spanned<u32>>,
    max: u32,
) -> Result<Option<Duration>, Error> {
    let Some(given) = given else { return Ok(None) };
    let value = *given.get_ref();
    if !(1..=max).contains(&value) {
        let problem = format!("{value} is out of range: use 1 to {max} seconds");
        return Err(source.invalid(&given.span(), field, problem));
    }
    Ok(Some(Duration::from_secs(value.into())))
}
