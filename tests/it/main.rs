//! Does the federation do what it promises, over real processes?
//!
//! One binary; every module asks one question. `tests/run` sets up what the tests need and runs them.

mod bad_input;
mod cli;
mod direction;
mod drain;
mod explain;
mod federation;
mod harness;
mod identity;
mod kill;
mod policies;
mod python;
mod registry;
mod shapes;
mod static_nodes;
mod trace;
