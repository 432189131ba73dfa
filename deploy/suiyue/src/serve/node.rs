//! How does `suiyue node` run?
//!
//! On a runtime with a thread a core: signing and verifying are work, and a city's node must use what
//! the machine has.

use super::{address_file, parent, signals};
use crate::{cli, exit::Usage};
use anyhow::Context as _;
use std::{future::Future, path::PathBuf};
use suiyue_node::{
    app::{self, Bound},
    config::{Config, Overrides},
};
use tokio_util::sync::CancellationToken;

/// Runs a node until it is told to stop.
///
/// # Errors
/// [`Usage`] for a wrong configuration; otherwise when it cannot start, or breaks.
pub fn run(flags: &cli::NodeRun) -> anyhow::Result<()> {
    if flags.process.exit_with_parent {
        parent::exit_with_parent()?;
    }
    let config =
        Config::load(flags.config.as_deref(), &overrides(flags)).map_err(|error| Usage(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config, &flags.process))
}

async fn serve(config: Config, process: &cli::Process) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    signals::cancel_on_signal(shutdown.clone(), signals::draining).context("signals cannot be watched")?;
    let bound = app::bind(config).await?;
    let telling = tokio::spawn(tell_address(&bound, process.address_file.clone()));
    let ran = bound.run(shutdown).await;
    telling.abort();
    ran?;
    tracing::info!("the node has drained");
    Ok(())
}

/// Writes the address once all holders are loaded.
fn tell_address(bound: &Bound, path: Option<PathBuf>) -> impl Future<Output = ()> + use<> {
    let (mut readiness, address) = (bound.readiness(), bound.address());
    async move {
        let Some(path) = path else { return };
        let loaded = readiness.wait_for(|state| state.loaded).await.is_ok();
        if loaded && let Err(error) = address_file::write(&path, &address_file::Node { address }) {
            tracing::error!(%error, "whoever waits for the address will not learn it");
        }
    }
}

fn overrides(flags: &cli::NodeRun) -> Overrides {
    Overrides {
        region: flags.region.map(suiyue_proto::region::Code::get),
        name: flags.name.clone(),
        endpoint: flags.endpoint.clone(),
        listen: flags.listen.clone(),
        advertise: flags.advertise.clone(),
        data_dir: flags.data_dir.clone(),
        rps_max: flags.rps_max,
        gateways: flags.join.iter().map(cli::Address::to_string).collect(),
    }
}
