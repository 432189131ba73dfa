//! How does a child of the demo end when the demo is killed?
//!
//! The demo holds the other end of the child's stdin and never writes. However the demo dies, the
//! system closes that end, and the child reads the end of the file and goes.

use std::io::Read as _;

/// Ends the process as soon as stdin ends.
///
/// # Errors
/// When no thread can be started.
pub fn exit_with_parent() -> std::io::Result<()> {
    // A thread, because reading stdin blocks; it lives as long as the process.
    std::thread::Builder::new().name("parent".to_owned()).spawn(|| {
        let mut stdin = std::io::stdin().lock();
        let mut bytes = [0; 64];
        while matches!(stdin.read(&mut bytes), Ok(read) if read > 0) {}
        std::process::exit(1);
    })?;
    Ok(())
}
