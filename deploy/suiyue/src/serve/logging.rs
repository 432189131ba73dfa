//! Where do log lines go, and how do they look?
//!
//! To stderr, as text for a person or as JSON for a program; colours only on a terminal. stdout is
//! for answers.

use crate::{cli::LogFormat, exit::Usage};
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Installs the subscriber of the process.
///
/// # Errors
/// [`Usage`] when the filter cannot be read.
pub fn install(format: LogFormat, filter: &str) -> Result<(), Usage> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Usage(format!("--log {filter:?}: {error}; a level or module=level is wanted")))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
