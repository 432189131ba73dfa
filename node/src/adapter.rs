//! How does a code system that knows nothing of us answer for its region?
//!
//! Online: this node stands in front of its HTTP/JSON interface. It registers, says how it is and
//! answers as every node does; every answer about a holder or a foreign code comes from the system
//! behind it, at the moment it is asked. Nothing is stored here but scans, which are the node's own.
//!
//! ```text
//!   call → region, readiness → the old system's words for it (mapping)
//!        → the same question under way? (system) → cap (limit) → breaker → one HTTP request (http)
//!        → our words for what came (mapping) → answer
//! ```
//! What is not in the mapping is never guessed: the verdict is UNKNOWN, and the log says once a minute
//! which word it was. The old system is never sent more than the declared calls a second, whoever asks.

pub mod breaker;
pub mod codes;
mod counts;
mod deadline;
mod http;
pub mod limit;
pub mod mapping;
mod read;
pub mod status;
pub mod system;
mod tls;
pub mod watch;

use std::{path::PathBuf, sync::Arc, time::Duration};

/// How the node reaches the system behind it.
#[derive(Clone)]
pub struct Config {
    /// `http://host:port` or `https://host:port`, with a path if its interface has one.
    pub url: String,
    /// Certificates that its server certificate must come from, for `https`.
    pub ca: Option<PathBuf>,
    /// Sent with every request as `authorization`.
    pub authorization: Option<String>,
    /// Requests a second that it is sent at most.
    pub rps: u32,
    /// How long one request may take.
    pub timeout: Duration,
    /// Requests that are under way at most.
    pub in_flight: usize,
    /// How it says things.
    pub mapping: Arc<mapping::Mapping>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("url", &self.url).field("rps", &self.rps).finish_non_exhaustive()
    }
}
