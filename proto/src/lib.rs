//! What do gateway, node and apps agree on?
//!
//! - [`v1`]: the messages and services of `suiyue.v1`, generated from `suiyue/v1/*.proto`;
//! - [`method`]: how a method is treated, read from any descriptor set;
//! - [`region`]: the GB/T 2260 table and which region a code routes to;
//! - [`identity`]: who is on the other side of a connection, and who signed a record;
//! - [`metadata`]: names of the metadata keys on the wire;
//! - [`priority`]: which calls go first when there are more than can be answered;
//! - [`reason`]: every machine-readable reason, with its gRPC code and fixed sentence;
//! - [`sy1`]: the text of a live code;
//! - [`verdict`]: how a node tells the gateway what it judged.
//!
//! No policy of either side lives here, and no I/O but reading a process's own certificate.

pub mod identity;
pub mod metadata;
pub mod method;
pub mod priority;
pub mod reason;
pub mod region;
pub mod sy1;
pub mod verdict;

/// Messages and services of the package `suiyue.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    clippy::too_many_lines,
    clippy::large_enum_variant,
    clippy::needless_pass_by_value,
    clippy::allow_attributes_without_reason,
    reason = "generated; every field is commented in the .proto files"
)]
pub mod v1 {
    tonic::include_proto!("suiyue.v1");
}

/// The encoded `FileDescriptorSet` of `suiyue.v1` with all imports and comments.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor_set.bin"));
