//! What does one due call do?
//!
//! It is drawn (kind, region, holder or code), sent with a timeout, judged, and recorded. Whatever
//! happens, it ends within its limit and leaves one record.

use super::{
    Config, Error,
    call::{self, Answer, Failure, Names, Outgoing, Target},
    codes::Codes,
    draw::Draw,
    mix::Kind,
    pool::Pool,
    record::{Observe, Outcome, Record, ServedBy, code_word},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::HeaderValue;
use prost::Message as _;
use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use suiyue_node::population;
use suiyue_proto::{reason::Reason, region::Code, v1};
use tokio::time::{Instant, timeout_at};

/// The peer answers a timeout itself; the driver waits this much longer before it gives up.
const GRACE: Duration = Duration::from_millis(250);
/// Codes of each region that are fetched at once.
const CODES_FETCHED: u64 = 32;
/// Fewer good codes than this in [`REFILL_EVERY`]: fetch more.
const CODES_WANTED: usize = 16;
const REFILL_EVERY: Duration = Duration::from_secs(3);

/// What every call of a run uses.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) pool: Arc<Pool>,
    pub(super) names: Names,
    pub(super) codes: Codes,
    pub(super) observer: Arc<dyn Observe>,
    pub(super) again: AtomicU64,
    pub(super) in_flight: AtomicUsize,
}

/// One scheduled call.
#[derive(Clone, Copy)]
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) latest: Instant,
    pub(super) seed: u64,
}

impl Shared {
    /// Plays one call to its end and records it.
    pub(super) async fn play(self: Arc<Self>, due: Due) {
        let mut draw = Draw::seeded(due.seed);
        let kind = self.config.mix.draw(u32::try_from(draw.next() >> 32).unwrap_or(0));
        let region = self.region(&mut draw);
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let (outcome, served) = if in_flight >= self.config.in_flight {
            (Outcome::driver("RESOURCE_EXHAUSTED", "DRIVER_FULL"), ServedBy::default())
        } else {
            match kind {
                Kind::Show => self.show(region, &mut draw, due.latest).await,
                Kind::Scan | Kind::Cross => self.scan(region, &mut draw, due.latest).await,
                Kind::Query => self.query(region, &mut draw, due.latest).await,
            }
        };
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.observer.record(&Record {
            due: due.at,
            kind,
            region,
            latency: due.at.elapsed(),
            served,
            outcome,
        });
    }

    /// The region that the call is routed by. A checkpoint and its visitor are drawn alike: the
    /// visitor's code names the region, the checkpoint's own never travels.
    fn region(&self, draw: &mut Draw) -> Code {
        let regions = &self.config.regions;
        regions[usize::try_from(draw.below(regions.len() as u64)).unwrap_or(0)]
    }

    async fn show(&self, region: Code, draw: &mut Draw, latest: Instant) -> (Outcome, ServedBy) {
        let index = draw.below(self.config.holders);
        let subject = population::subject(region, index, self.config.population_seed);
        let message = v1::ShowCodeRequest {
            region: region.get(),
            subject: Bytes::copy_from_slice(&subject),
            max_staleness_s: None,
        };
        let answer = self.call(Target::Show, region, Some(&subject), call::framed(&message), latest).await;
        judged(answer, |answer| self.shown(region, answer))
    }

    fn shown(&self, region: Code, answer: &mut Answer) -> Outcome {
        let malformed = Outcome::driver("INTERNAL", "DRIVER_ANSWER_MALFORMED");
        let Ok(shown) = v1::ShowCodeResponse::decode(answer.message.clone()) else { return malformed };
        // A text of another system's says nothing of its region.
        let ours = shown.code.strip_prefix("SY1:");
        let of_region =
            ours.is_none_or(|rest| rest.get(..6).is_some_and(|code| code.parse() == Ok(region.get())));
        if !of_region || shown.code.is_empty() {
            return malformed;
        }
        self.name_node(answer, shown.served);
        self.codes.keep(region, shown.code, Duration::from_secs(u64::from(shown.ttl_s)));
        Outcome::Ok
    }

    async fn query(&self, region: Code, draw: &mut Draw, latest: Instant) -> (Outcome, ServedBy) {
        let index = draw.below(self.config.holders);
        let subject = population::subject(region, index, self.config.population_seed);
        let message = v1::GetStatusRequest {
            region: region.get(),
            subject: Bytes::copy_from_slice(&subject),
            max_staleness_s: None,
        };
        let answer = self.call(Target::Status, region, Some(&subject), call::framed(&message), latest).await;
        judged(answer, |answer| match v1::GetStatusResponse::decode(answer.message.clone()) {
            Ok(v1::GetStatusResponse { status: Some(_), served }) => {
                self.name_node(answer, served);
                Outcome::Ok
            }
            _ => Outcome::driver("INTERNAL", "DRIVER_ANSWER_MALFORMED"),
        })
    }

    async fn scan(&self, region: Code, draw: &mut Draw, latest: Instant) -> (Outcome, ServedBy) {
        let Some(code) = self.codes.draw(region, draw) else {
            return (Outcome::driver("FAILED_PRECONDITION", "DRIVER_NO_CODE"), ServedBy::default());
        };
        let message = v1::VerifyCodeRequest {
            region: region.get(),
            code,
            request_id: request_id(draw),
            max_staleness_s: None,
        };
        let answer = self.call(Target::Verify, region, None, call::framed(&message), latest).await;
        judged(answer, |answer| self.verdict(answer))
    }

    /// A code that was shown a moment ago is worth what its level says.
    fn verdict(&self, answer: &mut Answer) -> Outcome {
        let Ok(checked) = v1::VerifyCodeResponse::decode(answer.message.clone()) else {
            return Outcome::driver("INTERNAL", "DRIVER_ANSWER_MALFORMED");
        };
        self.name_node(answer, checked.served);
        let result = checked.result.unwrap_or_default();
        let only = |reason: v1::VerdictReason| result.reasons == [i32::from(reason)];
        let explained = match result.verdict() {
            v1::Verdict::Pass => result.reasons.is_empty(),
            v1::Verdict::Caution => only(v1::VerdictReason::LevelYellow),
            v1::Verdict::Deny => only(v1::VerdictReason::LevelRed),
            v1::Verdict::Unspecified | v1::Verdict::Unknown => false,
        };
        if explained {
            return Outcome::Ok;
        }
        let reasons: Vec<_> = result.reasons().map(|reason| reason.as_str_name()).collect();
        Outcome::WrongVerdict(format!("{} {}", result.verdict().as_str_name(), reasons.join(" ")))
    }

    /// Without a gateway in between, only the node itself says who it is.
    fn name_node(&self, answer: &mut Answer, served: Option<v1::Served>) {
        if answer.served.node.is_none() {
            answer.served.node = served.map(|served| self.names.intern(&served.node));
        }
    }

    async fn call(
        &self,
        target: Target,
        region: Code,
        subject: Option<&[u8; 16]>,
        message: Bytes,
        latest: Instant,
    ) -> Option<Result<Answer, Failure>> {
        let timeout = self.config.timeout.unwrap_or(match target {
            Target::Show => Duration::from_secs(3),
            Target::Verify => Duration::from_millis(1500),
            Target::Status => Duration::from_secs(10),
        });
        let outgoing = Outgoing {
            target,
            region: call::region_value(region),
            subject: subject.map(subject_value),
            timeout: call::timeout_value(timeout),
            authorization: self.config.authorization.clone(),
            message,
        };
        let limit = (Instant::now() + timeout + GRACE).min(latest);
        timeout_at(limit, call::send(&self.pool, &self.names, &outgoing, &self.again)).await.ok()
    }

    /// Fetches codes of every region, so that there is something to scan.
    pub(super) async fn fetch_codes(&self, within: Duration) -> Result<(), Error> {
        let latest = Instant::now() + within;
        for &region in &self.config.regions {
            let mut cause = String::new();
            while self.codes.good_for(region, Duration::ZERO) == 0 {
                if Instant::now() >= latest {
                    return Err(Error::NoCode { region, cause });
                }
                cause = self.fetch(region, latest).await.unwrap_or(cause);
                if self.codes.good_for(region, Duration::ZERO) == 0 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        Ok(())
    }

    /// Fetches some codes of a region; the last failure, if there was one.
    async fn fetch(&self, region: Code, latest: Instant) -> Option<String> {
        let seed = self.config.seed ^ u64::from(region.get());
        let shows = stream::iter(0..CODES_FETCHED).map(|n| async move {
            self.show(region, &mut Draw::seeded(seed.wrapping_add(n)), latest).await.0
        });
        let outcomes: Vec<Outcome> = shows.buffer_unordered(8).collect().await;
        outcomes.into_iter().rev().find_map(|outcome| match outcome {
            Outcome::Failed { code, reason } => Some(format!("{code} {reason}")),
            Outcome::Ok | Outcome::WrongVerdict(_) => None,
        })
    }

    /// Keeps codes at hand for as long as the run lasts, also when the mix shows few or none.
    pub(super) async fn keep_codes(self: Arc<Self>) {
        if !self.config.mix.needs_codes() {
            return;
        }
        loop {
            tokio::time::sleep(REFILL_EVERY).await;
            for &region in &self.config.regions {
                if self.codes.good_for(region, REFILL_EVERY * 3) < CODES_WANTED {
                    let _ = self.fetch(region, Instant::now() + REFILL_EVERY).await;
                }
            }
        }
    }
}

fn judged(
    answer: Option<Result<Answer, Failure>>,
    judge: impl FnOnce(&mut Answer) -> Outcome,
) -> (Outcome, ServedBy) {
    match answer {
        Some(Ok(mut answer)) => {
            let outcome = judge(&mut answer);
            (outcome, answer.served)
        }
        Some(Err(Failure::Status(status, served))) => {
            let reason = Reason::of(&status).map_or(Cow::Borrowed("NO_REASON"), |r| r.as_str().into());
            (Outcome::Failed { code: code_word(status.code()), reason }, served)
        }
        Some(Err(Failure::Lost(reason))) => (Outcome::driver("UNAVAILABLE", reason), ServedBy::default()),
        Some(Err(Failure::Malformed)) => {
            (Outcome::driver("INTERNAL", "DRIVER_ANSWER_MALFORMED"), ServedBy::default())
        }
        Some(Err(Failure::ConnectionOver | Failure::Refused)) => {
            (Outcome::driver("UNAVAILABLE", "DRIVER_STREAM_REFUSED"), ServedBy::default())
        }
        None => (Outcome::driver("DEADLINE_EXCEEDED", "DRIVER_UNANSWERED"), ServedBy::default()),
    }
}

fn subject_value(subject: &[u8; 16]) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [0; 32];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(subject) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    let mut value = HeaderValue::from_bytes(&hex).expect("hex digits are a header value");
    // A holder's pseudonym is no use in a compression table, and no business of it.
    value.set_sensitive(true);
    value
}

fn request_id(draw: &mut Draw) -> Bytes {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut random = [0; 10];
    random[..8].copy_from_slice(&draw.next().to_be_bytes());
    let id = uuid::Builder::from_unix_timestamp_millis(u64::try_from(millis).unwrap_or(0), &random);
    Bytes::copy_from_slice(id.into_uuid().as_bytes())
}
