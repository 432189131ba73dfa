//! What does `suiyue load` do?
//!
//! It plays one run of the load driver and prints its report. Ctrl-C ends the schedule; the calls
//! made so far are reported.

use super::output::{self, Format};
use crate::{
    cli,
    exit::{Exit, Usage},
    load::{Config, Driver, Error, report::Report, tally},
    serve::signals,
};
use anyhow::Context as _;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Plays a run. Failed calls and wrong verdicts make it [`Exit::Bad`].
///
/// # Errors
/// When the run cannot start.
pub async fn run(flags: &cli::Load) -> anyhow::Result<Exit> {
    let config = config(flags)?;
    let records = Arc::new(tally::Shared::default());
    let driver = Driver::warm(config.clone(), records.clone()).await.map_err(|error| match error {
        Error::Config(text) => anyhow::Error::new(Usage(text.to_owned())),
        other => other.into(),
    })?;
    let stop = CancellationToken::new();
    signals::cancel_on_signal(stop.clone(), || {}).context("signals cannot be watched")?;
    let finished = driver.run(stop.clone()).await;
    let report = Report::new(&config, finished, &records.take());
    match flags.output {
        Format::Json => output::json(&report)?,
        Format::Table => output::line(&report.tables())?,
    }
    Ok(if stop.is_cancelled() {
        Exit::Interrupted
    } else if report.failed + report.wrong_verdict > 0 {
        Exit::Bad
    } else {
        Exit::Done
    })
}

fn config(flags: &cli::Load) -> Result<Config, Usage> {
    Ok(Config {
        authorization: flags.server.authorization()?,
        servers: flags.server.servers(),
        rate: flags.rate,
        length: Duration::from_secs_f64(flags.seconds),
        mix: flags.mix,
        connections: usize::from(flags.connections),
        regions: flags.regions.clone(),
        holders: flags.holders,
        population_seed: flags.seed,
        seed: flags.call_seed,
        in_flight: usize::try_from(flags.in_flight).unwrap_or(usize::MAX),
        timeout: flags.timeout_ms.map(|ms| Duration::from_millis(u64::from(ms))),
    })
}
