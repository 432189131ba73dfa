//! What happens to a call?
//!
//! A worker reads it off a downstream connection ([`listener`]), the request path decides with the
//! current snapshot which node should answer, sends it there, and tells the caller who answered.
//! `mod` lines stand in reading order.

pub mod table;

pub mod registry;
