//! Is the node fast enough for a checkpoint?
//!
//! Verifications one after the other, so that what is measured is the node and the way to it, not a
//! queue of our own making.

use super::{
    ask::{Asker, told},
    report::{Question, Report},
    trial::Trial,
};
use hdrhistogram::Histogram;
use std::time::{Duration, Instant};
use suiyue_node::population::Holder;

/// A live code is shown anew after this long.
const FRESH: Duration = Duration::from_secs(20);

pub(super) async fn check(asker: &Asker, holder: &Holder, trial: &Trial, report: &mut Report) {
    let bar = trial.scan.as_millis();
    let question = Question {
        name: "not slow".to_owned(),
        asked: format!("{} verifications, one after the other", trial.calls),
        expected: format!("all answered, 99 % within {bar} ms"),
        request: String::new(),
    };
    let came = match timed(asker, holder, trial.calls).await {
        Err(why) => Err(why),
        Ok(took) => {
            let came = shown(&took);
            if within(&took, trial.scan) { Ok(came) } else { Err(format!("slow: {came}")) }
        }
    };
    report.note(question, came);
}

async fn timed(asker: &Asker, holder: &Holder, calls: u32) -> Result<Histogram<u64>, String> {
    let mut took = histogram();
    let mut code = None::<(String, Instant)>;
    for _ in 0..calls {
        let fresh = code.as_ref().filter(|(_, since)| since.elapsed() < FRESH);
        let text = match fresh {
            Some((text, _)) => text.clone(),
            None => {
                let shown = asker.show(holder).await.map_err(|status| told(&status))?;
                code = Some((shown.code.clone(), Instant::now()));
                shown.code
            }
        };
        let began = Instant::now();
        asker.verify(holder.region, &text).await.map_err(|status| told(&status))?;
        record(&mut took, began.elapsed());
    }
    Ok(took)
}

/// Microseconds up to a minute.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are allowed")
}

pub(super) fn record(took: &mut Histogram<u64>, latency: Duration) {
    took.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
}

/// 99 % within the bar.
pub(super) fn within(took: &Histogram<u64>, bar: Duration) -> bool {
    u128::from(took.value_at_quantile(0.99)) <= bar.as_micros()
}

pub(super) fn shown(took: &Histogram<u64>) -> String {
    let ms = |quantile| took.value_at_quantile(quantile) as f64 / 1000.0;
    format!("p50 {:.1} ms, p99 {:.1} ms, of {} calls", ms(0.5), ms(0.99), took.len())
}
