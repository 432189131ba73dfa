//! Where can the glass be broken?
//!
//! Where there is a state directory: on a unix socket, served from before the first call until the end,
//! drain included. What was in force when the process ended is in force before the first plan.

use super::{Error, services::Reach};
use crate::{
    breakglass::{
        Glass,
        journal::Journal,
        keeper::{self, Books},
        socket::Socket,
    },
    config::{Config, Kind},
    operator::{Desk, Operator},
};
use suiyue_proto::v1::breakglass_service_server::BreakglassServiceServer;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Calls on the socket at a time.
const AT_A_TIME: usize = 16;

/// The glass, and the socket to break it.
pub(super) struct Pane {
    pub(super) glass: Glass,
    socket: Option<Socket>,
}

/// Reads the journal and opens the socket.
pub(super) fn open(config: &Config) -> Result<Pane, Error> {
    let Some(given) = &config.breakglass else {
        return Ok(Pane { glass: Glass::default(), socket: None });
    };
    let glass = Glass::open(Journal::open(&given.dir)?, config.registry.kind != Kind::None)?;
    let socket = Socket::open(&given.socket, &given.users);
    let socket = socket.map_err(|source| Error::Socket { path: given.socket.clone(), source })?;
    Ok(Pane { glass, socket: Some(socket) })
}

impl Pane {
    /// What the operator API reaches; `leaving` makes the gateway leave.
    pub(super) fn reach(&self, leaving: &CancellationToken) -> Reach {
        Reach { glass: self.glass.clone(), leaving: leaving.clone() }
    }

    /// Serves the socket and keeps the journal, until `ended`.
    pub(super) fn start(self, operator: &Operator, tasks: &mut JoinSet<()>, ended: &CancellationToken) {
        let books = operator.registry.clone().zip(operator.audit.clone());
        let books = books.map(|(registry, audit)| Books {
            audit,
            registry,
            prefix: operator.prefix.clone(),
            gateway: operator.gateway.clone(),
        });
        tasks.spawn(keeper::keep(self.glass, books, ended.clone()));
        if let Some(socket) = self.socket {
            tasks.spawn(serve(socket, operator.clone(), ended.clone()));
        }
    }
}

async fn serve(mut socket: Socket, operator: Operator, ended: CancellationToken) {
    let Some(incoming) = socket.incoming() else { return };
    tracing::info!(path = %socket.path().display(), "break-glass is at hand");
    let desk = BreakglassServiceServer::new(Desk::new(operator, socket.users().clone()));
    let server = tonic::transport::Server::builder()
        .concurrency_limit_per_connection(AT_A_TIME)
        .add_service(desk)
        .serve_with_incoming(incoming);
    tokio::select! {
        served = server => if let Err(error) = served {
            tracing::error!(%error, "the break-glass socket cannot be served any more");
        },
        () = ended.cancelled() => {}
    }
}
