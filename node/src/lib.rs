//! What does a node do?
//!
//! It is a real code system: it shows live codes to holders, verifies codes at checkpoints, decides
//! and reports statuses, and stores scans. It is usable alone, and it joins the federation by
//! keeping one stream to a gateway.
//!
//! The life of a call: [`server`] accepts the connection and bounds it, [`scope`] decides whether
//! this node may answer for the region now and how fresh the answer is, then [`codes`], [`status`]
//! or [`scans`] answers from memory. What must survive goes through the [`store`] first.
//! With an [`adapter`] another system answers about holders and its own codes.

pub mod adapter;
pub mod app;
pub mod clock;
pub mod codes;
pub mod config;
pub mod health;
pub mod identity;
pub mod keys;
pub mod population;
pub mod readiness;
pub mod register;
pub mod scans;
pub mod scope;
pub mod server;
pub mod status;
pub mod store;
