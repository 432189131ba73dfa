//! What is a node made of?
//!
//! The parts that every service shares, opened in order: store, keys, tables. Cloning shares them.

use super::Error;
use crate::adapter::{self, system::System};
use crate::clock::Clock;
use crate::codes::issue::Issuer;
use crate::codes::live::LiveCodes;
use crate::codes::verify::Verifier;
use crate::config::Config;
use crate::keys::own::Own;
use crate::keys::ring::Ring;
use crate::readiness::Readiness;
use crate::scope::Scope;
use crate::status::table::Table;
use crate::store::Store;
use crate::store::memory::Memory;
use crate::store::redb::Redb;
use crate::store::writer::Writer;
use crate::{codes, health, scans, status};
use std::sync::Arc;
use std::thread::JoinHandle;
use suiyue_proto::v1::code_service_server::CodeServiceServer;
use suiyue_proto::v1::status_service_server::StatusServiceServer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

// 500 scans with every field at its longest, and room for the framing.
const UPLOAD_MAX: usize = 512 << 10;
const MESSAGE_MAX: usize = 64 << 10;

/// What a node is made of.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) scope: Arc<Scope>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) table: Arc<Table>,
    pub(super) keys: Arc<Own>,
    pub(super) ring: Arc<Ring>,
    pub(super) store: Arc<dyn Store>,
    /// Ends streams that only send.
    pub(super) watches: CancellationToken,
    /// Ends streams of scans.
    pub(super) uploads: CancellationToken,
    /// The tasks of streams.
    pub(super) streams: TaskTracker,
    /// What codes of other systems begin with.
    foreign: Arc<[String]>,
    /// The system that this node stands in front of.
    pub(super) system: Option<Arc<System>>,
    writer: Writer,
    live: Arc<LiveCodes>,
}

/// Opens the parts. The handle is the store's thread; it ends after the last of the parts is
/// dropped.
pub(super) async fn open(config: &Config, clock: Clock) -> Result<(Parts, JoinHandle<()>), Error> {
    let store: Arc<dyn Store> = match config.data_dir.clone() {
        // Opening repairs a log that was not closed, and blocks.
        Some(dir) => match tokio::task::spawn_blocking(move || Redb::open(&dir)).await {
            Ok(opened) => Arc::new(opened?),
            Err(_) => return Err(crate::store::Error::Medium("opening it was cut off".to_owned()).into()),
        },
        None => {
            tracing::warn!("no data_dir: decisions, scans and keys are kept in memory and end with the node");
            Arc::new(Memory::default())
        }
    };
    assemble(config, clock, store)
}

/// Puts the parts together around a store.
pub(super) fn assemble(
    config: &Config,
    clock: Clock,
    store: Arc<dyn Store>,
) -> Result<(Parts, JoinHandle<()>), Error> {
    let keys = Arc::new(Own::open(config.data_dir.as_deref(), &config.scopes, &clock)?);
    let ring = Arc::new(Ring::default());
    ring.set_own(keys.verifying());
    ring.set_configured(config.keys.clone());
    let readiness = Arc::new(Readiness::new(&config.scopes));
    let (writer, thread) = Writer::start(Arc::clone(&store), clock.clone()).map_err(Error::Thread)?;
    let scope = Arc::new(Scope {
        region: config.region,
        name: config.name.clone(),
        role: config.role,
        authorities: config.authorities.clone(),
        readiness: Arc::clone(&readiness),
        clock,
    });
    let parts = Parts {
        scope,
        readiness,
        table: Arc::new(Table::new(&config.scopes)),
        keys,
        ring,
        store,
        watches: CancellationToken::new(),
        uploads: CancellationToken::new(),
        streams: TaskTracker::new(),
        foreign: config.foreign_code_prefixes.clone().into(),
        system: config.adapter.as_ref().map(System::open).transpose()?,
        writer,
        live: Arc::new(LiveCodes::default()),
    };
    Ok((parts, thread))
}

impl Parts {
    /// Every service of the node.
    pub(super) fn routes(&self) -> Routes {
        let clock = self.scope.clock.clone();
        let codes = codes::Service {
            scope: Arc::clone(&self.scope),
            issuer: Arc::new(Issuer {
                keys: Arc::clone(&self.keys),
                table: Arc::clone(&self.table),
                live: Arc::clone(&self.live),
                clock: clock.clone(),
            }),
            verifier: Arc::new(Verifier {
                ring: Arc::clone(&self.ring),
                table: Arc::clone(&self.table),
                live: Arc::clone(&self.live),
                clock,
                foreign: self.foreign.to_vec(),
            }),
            scans: scans::Recorder {
                scope: Arc::clone(&self.scope),
                writer: self.writer.clone(),
                ending: self.uploads.clone(),
                tasks: self.streams.clone(),
            },
        };
        let health = health::Service { readiness: Arc::clone(&self.readiness), ending: self.watches.clone() };
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(suiyue_proto::DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .expect("the embedded descriptor sets were made by build scripts");
        let common = Routes::new(HealthServer::new(health).max_decoding_message_size(MESSAGE_MAX))
            .add_service(reflection);
        if let Some(system) = &self.system {
            let scope = || Arc::clone(&self.scope);
            let codes = adapter::codes::Service { scope: scope(), system: Arc::clone(system), own: codes };
            let status = adapter::status::Service { scope: scope(), system: Arc::clone(system) };
            return common
                .add_service(CodeServiceServer::new(codes).max_decoding_message_size(UPLOAD_MAX))
                .add_service(StatusServiceServer::new(status).max_decoding_message_size(MESSAGE_MAX));
        }
        let status = status::Service {
            scope: Arc::clone(&self.scope),
            table: Arc::clone(&self.table),
            writer: self.writer.clone(),
            ending: self.watches.clone(),
            tasks: self.streams.clone(),
        };
        common
            .add_service(CodeServiceServer::new(codes).max_decoding_message_size(UPLOAD_MAX))
            .add_service(StatusServiceServer::new(status).max_decoding_message_size(MESSAGE_MAX))
    }
}
