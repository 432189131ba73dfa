//! Until when does the caller wait?
//!
//! A `grpc-timeout` that is malformed is a bad call; without one the node's own limit holds.

use suiyue_proto::{metadata, reason::Reason};
use tokio::time::Instant;
use tonic::{Status, metadata::MetadataMap};

/// When the caller stops waiting, if it says so.
pub(super) fn of(metadata: &MetadataMap) -> Result<Option<Instant>, Status> {
    let Some(value) = metadata.get(metadata::GRPC_TIMEOUT.as_str()) else { return Ok(None) };
    let given = metadata::timeout(value.as_bytes()).ok_or_else(|| Reason::TimeoutMalformed.status())?;
    Ok(Instant::now().checked_add(given))
}
