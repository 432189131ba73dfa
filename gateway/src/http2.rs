//! How do frames become calls, and calls frames?

pub mod hpack;
