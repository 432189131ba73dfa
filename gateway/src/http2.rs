//! How do frames become calls, and calls frames?
//!
//! HTTP/2 (RFC 9113) for a gateway with a runtime per core: a connection and all its calls live on one
//! thread, so that its state needs no lock, and a wake-up of a connection reads all that is there and
//! writes all that is queued with one system call each. A [`server::Connection`] hands out calls, a
//! [`client::SendRequest`] makes them; both run the same `connection`.
//!
//! What floods a connection is counted by its `guard`. What this does not do: HTTP/1, push, priorities,
//! CONNECT.

pub mod hpack;

mod frame;

mod flow;

mod error;

mod stream;

mod fields;

mod guard;

mod connection;

mod handle;

pub mod server;

pub mod client;

#[cfg(test)]
mod tests;

pub use error::{Error, Reason};
pub use fields::Fields;
pub use handle::{PingPong, RecvStream, SendStream};

/// An answer without its trailers.
#[derive(Debug, Clone)]
pub struct Response<B> {
    /// `:status`.
    pub status: http::StatusCode,
    /// The fields.
    pub headers: Fields,
    /// What comes after the headers.
    pub body: B,
}

/// What we tell the peer, and keep to.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Bytes that a stream may have on the way to us.
    pub stream_window: u32,
    /// Bytes that a connection may have on the way to us.
    pub connection_window: u32,
    /// Server: streams of the peer at a time. Client: streams of ours until the peer says its limit.
    pub streams: u32,
    /// Size of a header list (RFC 9113, section 10.5.1) that we read.
    pub header_list: u32,
}
