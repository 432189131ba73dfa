//! How does the test node join the federation?
//!
//! With one stream to a gateway's registrar: hello, heartbeats, goodbye, and the next gateway when
//! the stream breaks.

use crate::Options;
use bytes::Bytes;
use futures_util::StreamExt as _;
use std::{net::SocketAddr, time::Duration};
use suiyue_proto::v1::{
    Goodbye, Hello, Manifest, RegionReady, RegisterRequest, RegisterResponse, Report, Role,
    register_request::Message as Say, register_response::Message as Hear,
    registry_service_client::RegistryServiceClient,
};
use suiyue_tests::{DESCRIPTOR_SET, client::channel};
use tokio::{sync::mpsc, task::JoinHandle, time};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Streaming};

/// The farewell is waited for so long.
const FAREWELL: Duration = Duration::from_secs(2);
/// Pause before the next gateway is tried.
const BACK_OFF: Duration = Duration::from_millis(100);

/// A registration that is kept until it leaves.
pub(crate) struct Joined {
    leaving: CancellationToken,
    task: JoinHandle<()>,
}

impl Joined {
    /// Says goodbye and waits for the farewell.
    pub(crate) async fn leave(self) {
        self.leaving.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the registration ended in a panic");
        }
    }
}

/// Keeps the endpoint registered from now on.
pub(crate) fn start(options: &Options, address: SocketAddr) -> Joined {
    let leaving = CancellationToken::new();
    let (options, stop) = (options.clone(), leaving.clone());
    let task = tokio::spawn(async move {
        let mut gateways = options.gateways.iter().cycle();
        while let Some(gateway) = gateways.next().filter(|_| !stop.is_cancelled()) {
            if let Err(error) = keep(&options, address, gateway, &stop).await {
                tracing::info!(%error, gateway, "not registered; the next gateway is tried");
            }
            let _ = time::timeout(BACK_OFF, stop.cancelled()).await;
        }
    });
    Joined { leaving, task }
}

async fn keep(
    options: &Options,
    address: SocketAddr,
    gateway: &str,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut registry = RegistryServiceClient::new(channel(gateway.parse()?).await?);
    let (say, said) = mpsc::channel(8);
    say.send(message(Say::Hello(hello(options, address)))).await?;
    let mut request = Request::new(ReceiverStream::new(said));
    request.metadata_mut().insert("authorization", format!("Bearer {}", options.token).parse()?);
    let mut heard = registry.register(request).await?.into_inner();
    let mut heartbeat = time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                say.send(message(Say::Goodbye(Goodbye {}))).await?;
                return Ok(time::timeout(FAREWELL, farewell(heard)).await?);
            }
            _ = heartbeat.tick() => say.send(message(Say::Report(report(options, false)))).await?,
            next = heard.next() => match next {
                Some(Ok(RegisterResponse { message: Some(Hear::Welcome(welcome)) })) => {
                    tracing::info!(gateway = welcome.gateway, "registered");
                    heartbeat = time::interval(Duration::from_millis(u64::from(welcome.heartbeat_ms.max(100))));
                }
                Some(Ok(_)) => {}
                Some(Err(status)) => return Err(status.into()),
                None => anyhow::bail!("the gateway ended the stream"),
            },
        }
    }
}

async fn farewell(mut heard: Streaming<RegisterResponse>) {
    while let Some(Ok(next)) = heard.next().await {
        if matches!(next.message, Some(Hear::Farewell(_))) {
            return;
        }
    }
}

fn message(say: Say) -> RegisterRequest {
    RegisterRequest { message: Some(say) }
}

fn hello(options: &Options, address: SocketAddr) -> Hello {
    let role = if options.role == "province" { Role::Province } else { Role::City };
    Hello {
        manifest: Some(Manifest {
            region: options.region,
            node: options.name.clone(),
            role: role.into(),
            scopes: options.scopes.clone(),
            descriptor_set: Bytes::from_static(DESCRIPTOR_SET),
            ..Default::default()
        }),
        endpoint: format!("{}-1", options.name),
        address: address.to_string(),
        incarnation: rand::random(),
        keys: Vec::new(),
        report: Some(report(options, false)),
    }
}

fn report(options: &Options, draining: bool) -> Report {
    let as_of_unix_ms = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis());
    let as_of_unix_ms = i64::try_from(as_of_unix_ms).unwrap_or(i64::MAX);
    let ready = options.scopes.iter().map(|&region| RegionReady { region, as_of_unix_ms }).collect();
    Report { ready, draining }
}
