//! Does the federation do what it promises, over real processes?
//!
//! One binary; every module asks one question. `tests/run` sets up what the tests need and runs them.

mod adapter;
mod apps;
mod audit;
mod bad_input;
mod breakglass;
mod certified;
mod cli;
mod conformance;
mod console;
mod console_browser;
mod console_shift;
mod direction;
mod drain;
mod explain;
mod federation;
mod gateways;
mod harness;
mod identity;
mod kill;
mod policies;
mod python;
mod python_node;
mod registry;
mod runbook;
mod shapes;
mod shifts;
mod stages;
mod static_nodes;
mod trace;
mod trust;
mod walkthrough;
mod watch;
