//! How does a scrape read the numbers?
//!
//! A [`Scene`] is what there is to read at one moment; [`text`] hands it to `prometheus-client`, which
//! writes the text. `calls` adds the workers' series up, `gateway` tells of table, plan, nodes and
//! queues, `process` of the process. Every family stands in the table of `deploy/README.md`; a test here
//! compares the two.

mod apps;
mod calls;
mod format;
mod gateway;
mod process;

pub use format::Format;

use super::{Metrics, histogram::Reading};
use crate::{
    registry::{follow::Status as Followed, guard::Cause},
    snapshot::Snapshot,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use std::{fmt, sync::Arc, time::Duration};

/// What a scrape reads.
#[derive(Debug)]
pub struct Scene {
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// The snapshot in force.
    pub snapshot: Arc<Snapshot>,
    /// How long plans took to make.
    pub rebuilds: Reading,
    /// Whose certificate ends when, in seconds since 1970-01-01 UTC.
    pub expiries: Vec<(String, i64)>,
    /// Since when the registry has not confirmed the table; as far back as the copy on disk goes;
    /// `None`: there is no registry, or neither it nor a copy was read yet.
    pub age: Option<Duration>,
    /// How the registry is followed; `None`: there is none.
    pub registry: Option<Following>,
}

/// How the registry is followed.
#[derive(Debug, Clone, Default)]
pub struct Following {
    /// Why keys are held, one for each key.
    pub held: Vec<Cause>,
    /// Alarms that are raised.
    pub alarms: Vec<&'static str>,
    /// Gateways that are present.
    pub gateways: u32,
}

impl From<&Followed> for Following {
    fn from(followed: &Followed) -> Self {
        Self {
            held: followed.held().values().map(|held| held.cause).collect(),
            alarms: followed.alarms().iter().map(|alarm| alarm.word).collect(),
            gateways: followed.gateways(),
        }
    }
}

/// The numbers as text.
///
/// # Errors
/// Only if formatting into a string fails.
pub fn text(scene: Scene, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scene));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(format.of_open_metrics(text))
}

impl Collector for Scene {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        calls::encode(&mut page, self)?;
        apps::encode(&mut page, self)?;
        self.metrics.rules.encode(&mut page.0)?;
        gateway::encode(&mut page, self)?;
        process::encode(&mut page, &self.metrics.started)
    }
}

/// A page being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    /// A family of counters. Its name gets `_total`.
    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// One counter.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    /// A family of gauges.
    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// One gauge.
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}

#[cfg(test)]
mod tests;
