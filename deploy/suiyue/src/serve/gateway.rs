//! How does `suiyue gateway` run?
//!
//! The data path has threads of its own; this thread carries the control side on a current-thread
//! runtime.

use super::{address_file, parent, signals};
use crate::{cli, exit::Usage};
use anyhow::Context as _;
use suiyue_gateway::{
    app,
    config::{Config, Kind, Overrides},
};
use tokio_util::sync::CancellationToken;

/// Runs a gateway until it is told to stop.
///
/// # Errors
/// [`Usage`] for a wrong configuration; otherwise when it cannot start, or breaks.
pub fn run(flags: &cli::GatewayRun) -> anyhow::Result<()> {
    if flags.process.exit_with_parent {
        parent::exit_with_parent()?;
    }
    let config =
        Config::load(flags.config.as_deref(), &overrides(flags)).map_err(|error| Usage(error.to_string()))?;
    if config.registry.kind == Kind::None && config.table.nodes.is_empty() {
        tracing::warn!(
            "no registry and no nodes are configured: nothing can be routed; see deploy/examples/gateway.toml"
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config, &flags.process))
}

async fn serve(config: Config, process: &cli::Process) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    signals::cancel_on_signal(shutdown.clone(), signals::draining).context("signals cannot be watched")?;
    let bound = app::bind(config).await?;
    let addresses = bound.addresses();
    let addresses =
        address_file::Gateway { data: addresses.data, control: addresses.control, admin: addresses.admin };
    tracing::info!(
        data = %addresses.data,
        control = %addresses.control,
        admin = %addresses.admin,
        "the gateway is listening"
    );
    if let Some(path) = &process.address_file {
        address_file::write(path, &addresses)?;
    }
    bound.run(shutdown).await?;
    tracing::info!("the gateway has drained");
    Ok(())
}

fn overrides(flags: &cli::GatewayRun) -> Overrides {
    Overrides {
        id: flags.id.clone(),
        listen: flags.listen.clone(),
        control: flags.control.clone(),
        admin: flags.admin.clone(),
        workers: flags.workers.map(usize::from),
        state_dir: flags.state_dir.clone(),
        default_region: flags.default_region.map(suiyue_proto::region::Code::get),
        etcd: flags.etcd.clone(),
        prefix: flags.prefix.clone(),
    }
}
