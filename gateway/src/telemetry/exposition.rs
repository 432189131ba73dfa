//! How does a scrape read the numbers?
//!
//! [`Exposed`] adds the workers' series up and hands them to `prometheus-client`, which writes the text.

use super::{BOUNDS_US, Calls, End, Metrics, Series};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
};

/// Shows [`Metrics`] to `prometheus-client`.
#[derive(Debug)]
pub struct Exposed(pub Arc<Metrics>);

/// The numbers in the text format of OpenMetrics.
///
/// # Errors
/// Only if formatting into a string fails.
pub fn text(metrics: Arc<Metrics>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposed(metrics)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Exposed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let calls = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
        encode_calls(&mut encoder, &calls)?;
        encode_durations(&mut encoder, &calls)?;
        super::rules::encode_outside(&mut encoder, &calls)?;
        drop(calls);
        self.0.rules.encode(&mut encoder)?;
        let open: usize = self.0.connections.iter().map(|n| n.load(Relaxed)).sum();
        let text = "Downstream connections open now";
        let out = encoder.encode_descriptor("suiyue_connections", text, None, MetricType::Gauge)?;
        ConstGauge::new(i64::try_from(open).unwrap_or(i64::MAX)).encode(out)?;
        let text = "Connections turned away: too many, or not HTTP/2";
        let out = encoder.encode_descriptor("suiyue_connections_refused", text, None, MetricType::Counter)?;
        ConstCounter::new(self.0.refused_connections.load(Relaxed)).encode(out)
    }
}

fn encode_calls(encoder: &mut DescriptorEncoder<'_>, calls: &Calls) -> fmt::Result {
    let text =
        "Calls that ended, by region, node, tier, class, reason, gRPC status and whether they were retried";
    let mut family = encoder.encode_descriptor("suiyue_calls", text, None, MetricType::Counter)?;
    for ((node, key), by_worker) in calls {
        let end = End::unpacked(*key);
        let labels = [
            ("region", end.region.to_string()),
            ("node", node.to_string()),
            ("tier", end.tier.to_string()),
            ("class", end.class.to_string()),
            ("reason", end.reason.as_str().to_owned()),
            ("status", end.code.to_string()),
            ("retried", end.retried.to_string()),
        ];
        let total: u64 = by_worker.iter().map(|(_, series)| series.calls.load(Relaxed)).sum();
        ConstCounter::new(total).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[derive(Default)]
struct Sum {
    count: u64,
    micros: u64,
    buckets: [u64; BOUNDS_US.len() + 1],
}

impl Sum {
    fn add(&mut self, series: &Series) {
        self.count += series.calls.load(Relaxed);
        self.micros += series.micros.load(Relaxed);
        for (sum, bucket) in self.buckets.iter_mut().zip(&series.buckets) {
            *sum += bucket.load(Relaxed);
        }
    }
}

fn encode_durations(encoder: &mut DescriptorEncoder<'_>, calls: &Calls) -> fmt::Result {
    let mut sums: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
    for ((node, key), by_worker) in calls {
        let sum = sums.entry((node, End::unpacked(*key).class.as_str())).or_default();
        for (_, series) in by_worker {
            sum.add(series);
        }
    }
    let text = "Time from the request's headers to the end of the answer";
    let name = "suiyue_call_duration_seconds";
    let mut family = encoder.encode_descriptor(name, text, None, MetricType::Histogram)?;
    for ((node, class), sum) in sums {
        let bounds = BOUNDS_US.iter().map(|&us| us as f64 / 1e6).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(sum.buckets).collect();
        let labels = [("node", node), ("class", class)];
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
            sum.micros as f64 / 1e6,
            sum.count,
            &buckets,
            None,
        )?;
    }
    Ok(())
}
