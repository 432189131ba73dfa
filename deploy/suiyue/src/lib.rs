//! What does the one binary do?
//!
//! - [`serve`]: runs a gateway or a node until it is told to stop;
//! - [`verbs`]: what an operator or an app's developer asks a running gateway;
//! - [`mod@verify`]: tries whether a node keeps the contract;
//! - [`load`]: calls a gateway at a constant rate and says how it went;
//! - [`demo`]: a whole federation as child processes, with failures played on it.
//!
//! `main.rs` reads the command line ([`cli`]) and turns errors into exit codes ([`exit`]); nothing
//! else lives there, so that tests can use the load driver and the demo's parts as a library.

pub mod cli;
pub mod demo;
pub mod exit;
pub mod load;
pub mod serve;
pub mod verbs;
pub mod verify;
