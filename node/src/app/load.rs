//! When are the holders there?
//!
//! Files and generated populations are read off the async threads; then the decisions of the log are
//! applied over them, and only then the regions are ready.

use super::Error;
use super::parts::Parts;
use crate::config::Config;
use crate::population;
use std::fs::File;
use std::io::BufReader;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

// How often a load looks whether it is still wanted.
const CHUNK: u64 = 4096;

/// Loads everything, and marks the regions ready. Returns early when the node is told to stop.
///
/// A node in front of another system has nothing to load: `adapter::watch` says when it is ready.
pub(super) async fn all(config: &Config, parts: &Parts, shutdown: &CancellationToken) -> Result<(), Error> {
    if parts.system.is_some() {
        return Ok(());
    }
    let (config, parts, shutdown) = (config.clone(), parts.clone(), shutdown.clone());
    match tokio::task::spawn_blocking(move || load(&config, &parts, &shutdown)).await {
        Ok(loaded) => loaded,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn load(config: &Config, parts: &Parts, shutdown: &CancellationToken) -> Result<(), Error> {
    let began = Instant::now();
    for path in &config.holders {
        let file = path.display().to_string();
        let open = |source| population::Error::Io { file: file.clone(), source };
        let mut input = BufReader::with_capacity(1 << 20, File::open(path).map_err(open)?);
        population::read_lines(&file, &mut input, |holder| parts.table.load(&holder))?;
    }
    for population in &config.populations {
        parts.table.reserve(population.region, population.holders);
        for index in 0..population.holders {
            if index % CHUNK == 0 && shutdown.is_cancelled() {
                return Ok(());
            }
            parts.table.load(&population::holder(population.region, index, population.seed));
        }
    }
    let now = parts.scope.clock.unix_ms();
    let (mut decisions, epoch) = (0u64, parts.store.epoch());
    parts.store.decisions(&mut |place, decision| {
        parts.table.apply(place, &decision);
        decisions += 1;
    })?;
    for &region in &config.scopes {
        parts.table.loaded(region, now);
        let holders = parts.table.holders(region);
        if holders == 0 {
            tracing::warn!(%region, "no holder of this region was loaded: it stays not ready");
            continue;
        }
        parts.readiness.mark_ready(region, now);
        tracing::info!(%region, holders, "ready");
    }
    parts.readiness.mark_loaded();
    let seconds = began.elapsed().as_secs_f64();
    tracing::info!(seconds, decisions, epoch, "every region in scope is loaded");
    Ok(())
}
