//! A node of the test service, as a process of its own.
//!
//! It registers at the gateways it is told of, keeps a journal of what it executed, says per region
//! whether it is healthy, and drains on SIGTERM: goodbye first, then the calls in flight, then the end.
//! A second port makes it sick and well again while it runs.

#[path = "testnode/door.rs"]
mod door;
#[path = "testnode/faults.rs"]
mod faults;
#[path = "testnode/join.rs"]
mod join;
#[path = "testnode/service.rs"]
mod service;

use anyhow::Context as _;
use clap::Parser;
use faults::{Ills, Switch};
use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use suiyue_tests::{
    DESCRIPTOR_SET,
    echo::Journal,
    v1::{echo_service_server::EchoServiceServer, fault_service_server::FaultServiceServer},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::ServingStatus;

/// Calls in flight may take so long to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// What the node is told.
#[derive(Debug, Clone, Parser)]
pub(crate) struct Options {
    /// Unique in the federation.
    #[arg(long)]
    pub(crate) name: String,
    /// Its own region.
    #[arg(long)]
    pub(crate) region: u32,
    /// city or province.
    #[arg(long)]
    pub(crate) role: String,
    /// Which of the node's endpoints this process is.
    #[arg(long, default_value_t = 1)]
    pub(crate) endpoint: u32,
    /// A region it answers for; may be repeated.
    #[arg(long = "scope")]
    pub(crate) scopes: Vec<u32>,
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Gets {"address": …, "faults": …} when the node serves.
    #[arg(long)]
    address_file: Option<PathBuf>,
    /// Control port of a gateway; may be repeated.
    #[arg(long = "gateway")]
    pub(crate) gateways: Vec<String>,
    /// Join token of its region.
    #[arg(long, default_value = "")]
    pub(crate) token: String,
    /// What it executed is appended here.
    #[arg(long)]
    journal: PathBuf,
    /// Every handler waits so long.
    #[arg(long, default_value_t = 0)]
    delay_ms: u32,
    /// Calls a second that it declares to carry; 0: it declares none.
    #[arg(long, default_value_t = 0)]
    pub(crate) rps_max: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    run(Options::parse()).await
}

async fn run(options: Options) -> anyhow::Result<()> {
    let listener = TcpListener::bind(options.listen).await.context("cannot listen")?;
    let address = listener.local_addr()?;
    let (ills, door) = (Arc::new(Ills::default()), Arc::new(door::Door::default()));
    let journal = Journal::open(&options.journal)?;
    let echo = service::Echo::new(&options.name, options.delay_ms, journal, ills.clone());
    let (health, health_service) = tonic_health::server::health_reporter();
    faults::serve(&health, &options.scopes, ServingStatus::Serving).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
        .build_v1()?;
    let drained = CancellationToken::new();
    let server = Server::builder()
        .add_service(health_service)
        .add_service(reflection)
        .add_service(EchoServiceServer::new(echo).max_decoding_message_size(16 << 20))
        .serve_with_incoming_shutdown(door.incoming(listener), drained.clone().cancelled_owned());
    let mut server = tokio::spawn(server);
    let joined = Arc::new(join::start(&options, address));
    let scopes = options.scopes.clone();
    let switch = Switch { ills, door, health: health.clone(), joined: joined.clone(), scopes };
    let switch = switchable(switch).await?;
    if let Some(file) = &options.address_file {
        let draft = file.with_extension("draft");
        fs::write(&draft, format!("{{\"address\":\"{address}\",\"faults\":\"{switch}\"}}"))?;
        fs::rename(draft, file)?;
    }
    signal(SignalKind::terminate())?.recv().await;
    faults::serve(&health, &options.scopes, ServingStatus::NotServing).await;
    joined.leave().await;
    drained.cancel();
    // A connection that never ends must not keep the process.
    match tokio::time::timeout(GRACE, &mut server).await {
        Ok(ended) => Ok(ended??),
        Err(_) => Ok(()),
    }
}

/// Serves the switch for faults until the process ends; returns its address.
async fn switchable(switch: Switch) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let served = Server::builder()
        .add_service(FaultServiceServer::new(switch))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(served);
    Ok(address)
}
