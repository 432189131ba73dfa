//! What does each fault cost, and whom?
//!
//! Real processes, one fault at a time, calls going on all the while. Tests assert counts and order, and
//! await conditions; durations are printed as lines of a table and never judged. Slow: `tests/run --slow`
//! runs them and shows the table.

mod all_sick;
mod amplification;
mod apps;
mod endpoints;
mod explained;
mod failing;
mod foreign;
mod isolation;
mod lost;
mod neighbour;
mod refusing;
mod registry;
mod rolling;
mod rotations;
mod scene;
mod storm;
