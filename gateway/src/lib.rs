//! What happens to a call?
//!
//! The acceptor deals its connection to a worker ([`listener`], [`worker`]), where frames become calls
//! ([`http2`]). The worker lets it in
//! ([`admission`]), reads what is asked, finds out which app asks and whether it may ([`apps`]), takes the current [`snapshot`] once, picks an endpoint from the
//! [`plan`], sends the call there ([`upstream`]), tries again where [`retry`] allows it, and tells the
//! caller who answered ([`proxy`]).
//!
//! Beside the workers one control runtime follows the [`registry`], watches the endpoints' [`health`],
//! makes plans and publishes snapshots ([`control`]), serves the [`operator`] API, whose changes stand in the
//! [`audit`], and the numbers
//! ([`telemetry`], [`admin`]), and what operators see of it in a browser ([`console`]). Calls that are traced or logged are told of by [`trace`]. Modules stand in reading order.

pub mod config;

pub mod app;

pub mod identity;

pub mod listener;

pub mod http2;

pub mod io;

pub mod worker;

pub mod proxy;

pub mod subject;

pub mod apps;

pub mod admission;

pub mod plan;

pub mod balancer;

pub mod health;

pub mod upstream;

pub mod retry;

pub mod timer;

pub mod clock;

pub mod snapshot;

pub mod control;

pub mod shifts;

pub mod breakglass;

pub mod table;

pub mod registry;

pub mod registrar;

pub mod operator;

pub mod audit;

pub mod admin;

pub mod console;

pub mod telemetry;

pub mod trace;
