//! What does a signal do?
//!
//! ```text
//! running --SIGTERM, SIGINT--> draining --SIGTERM, SIGINT--> exit at once, 128 + signal
//! ```

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `shutdown` at the first SIGTERM or SIGINT, after `tell`; the second one ends the process.
///
/// # Errors
/// When the system does not let us watch signals.
pub fn cancel_on_signal(shutdown: CancellationToken, tell: fn()) -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            let code = tokio::select! {
                _ = term.recv() => 128 + 15,
                _ = interrupt.recv() => 128 + 2,
            };
            if shutdown.is_cancelled() {
                std::process::exit(code);
            }
            tell();
            shutdown.cancel();
        }
    });
    Ok(())
}

/// What a server tells at the first signal.
pub fn draining() {
    tracing::info!("draining: calls in flight finish; a second signal exits at once");
}
