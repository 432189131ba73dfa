//! How many calls does every node get from all gateways?
//!
//! One gateway sees its own part only. While somebody looks, all gateways are asked, at most every two
//! seconds however many pages are open; the same sums are what a shift's guards judge by.

use crate::operator::Operator;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// Between two questions.
const EVERY: Duration = Duration::from_secs(2);

/// Calls a second of all gateways.
#[derive(Debug, Default)]
pub(super) struct Sum {
    /// By node.
    pub(super) rates: BTreeMap<Arc<str>, f64>,
    /// Gateways that did not answer: their calls are missing.
    pub(super) silent: Vec<String>,
}

/// The last sum.
#[derive(Debug, Default)]
pub(super) struct Sums(Mutex<Option<(Instant, Arc<Sum>)>>);

impl Sums {
    /// The sum of now, at most two seconds old. Who asks while others do waits for their answer.
    pub(super) async fn now(&self, operator: &Operator) -> Arc<Sum> {
        let mut kept = self.0.lock().await;
        if let Some((_, sum)) = kept.as_ref().filter(|(at, _)| at.elapsed() < EVERY) {
            return sum.clone();
        }
        let (rates, silent) = operator.rates_of_all().await;
        let sum = Arc::new(Sum { rates, silent });
        *kept = Some((Instant::now(), sum.clone()));
        sum
    }
}
