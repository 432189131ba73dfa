//! The process's own numbers, by the names that every Prometheus client library uses.
//!
//! Read from `/proc` at the scrape; what cannot be read is left out.

use super::Page;
use prometheus_client::encoding::EncodeMetric as _;
use prometheus_client::metrics::{MetricType, counter::ConstCounter};
use std::{fmt, fs, time::SystemTime};

/// Clock ticks a second in `/proc`: the kernel's `USER_HZ`, 100 wherever this runs.
const TICKS: f64 = 100.0;

pub(super) fn encode(page: &mut Page<'_>, started: &SystemTime) -> fmt::Result {
    let start = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    page.gauge("process_start_time_seconds", "When the process started, since 1970-01-01 UTC", start)?;
    if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|text| cpu(&text)) {
        let help = "CPU time, user and system";
        let out = page.0.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
        ConstCounter::new(seconds).encode(out)?;
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        for (field, name, help) in [
            ("VmRSS:", "process_resident_memory_bytes", "Memory that is in RAM"),
            ("VmSize:", "process_virtual_memory_bytes", "Address space"),
        ] {
            if let Some(bytes) = memory(&status, field) {
                page.gauge(name, help, bytes)?;
            }
        }
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        page.gauge("process_open_fds", "Open file descriptors", files.count() as f64)?;
    }
    Ok(())
}

/// User and system time of `/proc/self/stat` (fields 14 and 15), in seconds. The name of the program, in
/// parentheses, may hold anything.
fn cpu(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

/// A field of `/proc/self/status`, in bytes.
fn memory(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let stat = "7 (a (odd) name) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 3 0 99 1 2";
        assert_eq!(cpu(stat), Some(2.0));
        assert_eq!(cpu("7 (name"), None);
        let status = "Name:\tsuiyue\nVmSize:\t  2048 kB\nVmRSS:\t    12 kB\n";
        assert_eq!(memory(status, "VmRSS:"), Some(12.0 * 1024.0));
        assert_eq!(memory(status, "VmSwap:"), None);
    }
}
