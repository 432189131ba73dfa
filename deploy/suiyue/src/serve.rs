//! How do gateway and node run as a process?
//!
//! Both load their configuration, bind, write their addresses where the starter wants them, and run
//! until a signal drains them: the first SIGTERM or Ctrl-C ends the intake and lets calls in flight
//! finish, a second one exits at once.

pub mod address_file;
pub mod gateway;
pub mod logging;
pub mod node;
pub mod parent;
pub mod signals;
