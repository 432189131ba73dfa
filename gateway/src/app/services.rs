//! Which tonic services run where?
//!
//! The data port answers health, reflection and `ListRegions` itself (see [`crate::proxy::local`]); the
//! control port serves the registrar and the operator API: to whoever has a certificate of the federation,
//! or without certificates on loopback.

use super::federation::Joined;
use crate::{
    admin::Admin,
    audit::Audit,
    breakglass::Glass,
    config::Config,
    console::{Console, door::Doors},
    control::Snapshots,
    identity::{
        Trust,
        port::{self, Arrival},
    },
    operator::{Operator, Shifts, access},
    proxy::local::Services,
    registrar::Registrar,
    registry::peers::Answering,
    telemetry::Metrics,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use suiyue_proto::v1::{
    operator_service_server::OperatorServiceServer, registry_service_server::RegistryServiceServer,
    shift_service_server::ShiftServiceServer,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    service::{InterceptorLayer, Routes},
};

/// Bytes of a message that the gateway reads itself on the data port: names, hardly more.
const MAX_MESSAGE: usize = 64 << 10;

/// Reflection with and without the `alpha`: grpcio still asks for the older one.
fn reflection(routes: Routes) -> Routes {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(suiyue_proto::DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = builder().build_v1().expect("the embedded descriptor sets are complete");
    let v1alpha = builder().build_v1alpha().expect("the embedded descriptor sets are complete");
    routes
        .add_service(v1.max_decoding_message_size(MAX_MESSAGE))
        .add_service(v1alpha.max_decoding_message_size(MAX_MESSAGE))
}

/// What the data port answers itself. Health turns NOT_SERVING at `shutdown`.
pub(super) fn public(operator: &Operator, shutdown: &CancellationToken) -> Services {
    let (reporter, health) = tonic_health::server::health_reporter();
    let leaving = shutdown.clone();
    tokio::spawn(async move {
        reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
        leaving.cancelled().await;
        reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    });
    let operator = OperatorServiceServer::new(operator.clone()).max_decoding_message_size(MAX_MESSAGE);
    let routes = Routes::new(health.max_decoding_message_size(MAX_MESSAGE)).add_service(operator);
    Services::new(
        reflection(routes),
        &[
            "/grpc.health.v1.Health/",
            "/grpc.reflection.v1.ServerReflection/",
            "/grpc.reflection.v1alpha.ServerReflection/",
        ],
        &["/suiyue.v1.OperatorService/ListRegions"],
    )
}

/// What the operator API reaches of this gateway itself.
pub(super) struct Reach {
    pub(super) glass: Glass,
    /// Cancelling it makes the gateway leave.
    pub(super) leaving: CancellationToken,
}

/// The operator API of this gateway.
pub(super) fn operator(
    config: &Config,
    joined: Option<&Joined>,
    (snapshots, metrics): (Snapshots, Arc<Metrics>),
    admin: SocketAddr,
    reach: Reach,
) -> Operator {
    let registry = joined.map(|joined| joined.registry.clone());
    let prefix = config.registry.prefix.clone();
    let holds = snapshots.holds.clone();
    Operator {
        gateway: config.id.clone(),
        snapshots,
        followed: joined.map(|joined| joined.followed.clone()),
        audit: registry.clone().map(|registry| Audit::new(registry, prefix.clone(), &config.id)),
        registry,
        prefix,
        trust: config.trust.clone(),
        subjects: config.subjects,
        metrics,
        anonymous: config.anonymous.clone(),
        doors: Arc::new(Doors::new(config.console, admin)),
        holds,
        two_person_above: config.two_person_above,
        canary_step: config.canary_step,
        glass: reach.glass,
        leaving: reach.leaving,
    }
}

/// What the admin port shows, and the task that records the last ten minutes for the console.
pub(super) fn admin(
    operator: &Operator,
    draining: CancellationToken,
    ended: &CancellationToken,
) -> (Admin, impl Future<Output = ()> + Send + use<>) {
    let inside = control(operator.clone(), None, access::Unproven::Inside);
    let (console, recording) = Console::new(operator.clone(), inside, ended.clone());
    let Operator { metrics, snapshots, followed, trust, .. } = operator.clone();
    (Admin { metrics, snapshots, followed, trust, draining, console: console.routes() }, recording)
}

/// What the control port serves.
pub(super) fn control(
    operator: Operator,
    registrar: Option<RegistryServiceServer<Registrar>>,
    unproven: access::Unproven,
) -> Routes {
    let peers =
        operator.followed.clone().map(|followed| Answering::service(followed, operator.prefix.clone()));
    let audit = operator.audit.clone();
    let shifts = ShiftServiceServer::new(Shifts(operator.clone()));
    let shifts = access::guard(shifts, audit.clone(), unproven);
    let routes = Routes::new(access::guard(OperatorServiceServer::new(operator), audit, unproven));
    let routes = peers.into_iter().fold(routes.add_service(shifts), Routes::add_service);
    let routes = registrar.into_iter().fold(routes, Routes::add_service);
    reflection(routes)
}

/// Every request carries who is on the other side, if that is known: `Peer` in its extensions.
fn introduce(mut request: Request<()>) -> Result<Request<()>, Status> {
    let arrival = request.extensions().get::<Arrival>();
    if let Some(peer) = arrival.and_then(|arrival| arrival.peer.clone()) {
        request.extensions_mut().insert(peer);
    }
    Ok(request)
}

/// Serves the control port until `shutdown`.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Routes,
    trust: Option<Trust>,
    shutdown: CancellationToken,
) {
    let incoming = ReceiverStream::new(port::accept(listener, trust));
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(100)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .layer(InterceptorLayer::new(introduce))
        .add_routes(routes)
        .serve_with_incoming(incoming);
    // Streams do not hold up the end: nodes were told to move when the drain began.
    tokio::select! {
        ended = server => if let Err(error) = ended {
            tracing::error!(%error, "the control port cannot be served any more");
        },
        () = shutdown.cancelled() => {}
    }
}
