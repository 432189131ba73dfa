//! How does the test node join the federation?
//!
//! As every node does, with [`suiyue_node::register`]: here stands only what it declares.

use crate::Options;
use bytes::Bytes;
use std::{net::SocketAddr, time::SystemTime};
use suiyue_node::register::{Handle, Registration, channels, run};
use suiyue_proto::v1::{Manifest, RegionReady, Report, Role};
use suiyue_tests::DESCRIPTOR_SET;
use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// A registration that is kept until it leaves.
pub(crate) struct Joined {
    handle: Handle,
    leaving: CancellationToken,
    task: Mutex<JoinHandle<()>>,
}

impl Joined {
    /// Reports that it is ready for these regions and no others.
    pub(crate) fn ready_for(&self, regions: &[u32]) {
        self.handle.report.send_replace(report(regions));
    }

    /// Says goodbye and waits for the farewell.
    pub(crate) async fn leave(&self) {
        self.leaving.cancel();
        if let Err(error) = (&mut *self.task.lock().await).await {
            tracing::error!(%error, "the registration ended in a panic");
        }
    }
}

/// Keeps the endpoint registered from now on.
pub(crate) fn start(options: &Options, address: SocketAddr) -> Joined {
    let registration = Registration {
        gateways: options.gateways.clone(),
        token: options.token.clone(),
        identity: None,
        manifest: manifest(options),
        endpoint: format!("{}-{}", options.name, options.endpoint),
        address: address.to_string(),
        incarnation: rand::random(),
    };
    let (handle, feeds) = channels(report(&options.scopes), Vec::new());
    let leaving = CancellationToken::new();
    let task = tokio::spawn(run(registration, feeds, leaving.clone()));
    Joined { handle, leaving, task: Mutex::new(task) }
}

fn manifest(options: &Options) -> Manifest {
    let role = if options.role == "province" { Role::Province } else { Role::City };
    Manifest {
        region: options.region,
        node: options.name.clone(),
        role: role.into(),
        scopes: options.scopes.clone(),
        rps_max: options.rps_max,
        descriptor_set: Bytes::from_static(DESCRIPTOR_SET),
        ..Default::default()
    }
}

/// It has no data: it is ready for everything from the start, unless told otherwise.
fn report(regions: &[u32]) -> Report {
    let as_of_unix_ms = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis());
    let as_of_unix_ms = i64::try_from(as_of_unix_ms).unwrap_or(i64::MAX);
    let ready = regions.iter().map(|&region| RegionReady { region, as_of_unix_ms }).collect();
    Report { ready, draining: false }
}
