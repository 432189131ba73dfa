//! How does a test get a federation of real processes?
//!
//! [`federation::Federation::builder`] starts etcd, gateways and nodes, each on ports of its own
//! choice and in directories of its own, waits until every gateway sees every node in rotation, and
//! takes everything away when it is dropped. A process that logged an ERROR or panicked fails the
//! test then, unless the test said that it expects it.
//!
//! Nothing here sleeps: [`eventually`] awaits a condition and says what it last saw.

pub mod browser;
pub mod client;
pub mod collector;
pub mod echo;
pub mod etcd;
pub mod eventually;
pub mod failover;
pub mod federation;
pub mod gateway;
pub mod history;
pub mod load;
pub mod netns;
pub mod node;
pub mod odd;
pub mod old_system;
pub mod process;
pub mod programs;
pub mod table;
pub mod trust;
pub mod watch;

/// Regions that the tests use.
pub mod region {
    /// Guangzhou, a city of Guangdong.
    pub const GUANGZHOU: u32 = 440_100;
    /// Guangdong, the province of Guangzhou.
    pub const GUANGDONG: u32 = 440_000;
    /// Tianhe, a district of Guangzhou.
    pub const TIANHE: u32 = 440_106;
    /// Xi'an, a city of Shaanxi.
    pub const XIAN: u32 = 610_100;
    /// Shaanxi, the province of Xi'an.
    pub const SHAANXI: u32 = 610_000;
    /// Beijing: a region that no test serves.
    pub const BEIJING: u32 = 110_000;
}

/// Messages and services of the package `suiyue.test.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    clippy::allow_attributes_without_reason,
    reason = "generated; every field is commented in the .proto file"
)]
pub mod v1 {
    tonic::include_proto!("suiyue.test.v1");
}

/// The encoded `FileDescriptorSet` of `suiyue.test.v1` with all imports and comments.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/echo_descriptor_set.bin"));
