//! Does our HTTP/2 understand others, and survive those who do not want to be understood?

mod chaos;
mod ends;
mod hostile;
mod pairs;
mod peers;
mod raw;
mod rules;

use super::Config;
use std::time::Duration;

/// What the tests' connections start from.
fn config() -> Config {
    Config { stream_window: 64 << 10, connection_window: 256 << 10, streams: 100, header_list: 64 << 10 }
}

/// Runs a test on one thread, as a worker does; a test that hangs fails.
fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let limited = async { tokio::time::timeout(Duration::from_secs(60), test).await };
    runtime.block_on(local.run_until(limited)).expect("the test hangs")
}
