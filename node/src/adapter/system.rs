//! What becomes of a question to the old system?
//!
//! Equal questions that are under way are one. A new one takes a token of the cap, passes the breaker,
//! finds a place among those under way, and is given so long as the configuration says; each caller
//! waits for it until its own deadline. When nobody waits any more the request is dropped.

use super::Config;
use super::breaker::{Breaker, May, Seen};
use super::counts::Unmapped;
use super::http::Http;
use super::limit::Bucket;
use super::mapping::{Ask, Failure, Mapping};
use super::tls::{Connector, trusting};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use hyper::header::HeaderValue;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use suiyue_proto::reason::{DOMAIN, Reason};
use tokio::sync::{Notify, Semaphore};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

/// Come again after this long, where nobody can say how long.
const LATER: Duration = Duration::from_millis(100);
/// A success so recent says more than a look at its health without an answer.
const RECENT: Duration = Duration::from_secs(2);

/// Why a node cannot stand in front of a system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("adapter.{field}: {problem}")]
pub struct Unusable {
    /// The field of the configuration.
    pub field: &'static str,
    /// What is wrong.
    pub problem: String,
}

/// Its answer, or what it means that there is no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The document.
    pub document: Value,
    /// It is a result.
    pub result: Result<(), Failure>,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// As much as may be is under way; come again after this long.
    Capped(Duration),
    /// The breaker is open, or the system gave no usable answer.
    Unavailable,
    /// The caller's time was over.
    Deadline,
}

impl Fault {
    /// What the caller is told.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Capped(wait) => overloaded(*wait),
            Self::Unavailable => Reason::SystemUnavailable.status(),
            Self::Deadline => Reason::DeadlineExceeded.status(),
        }
    }
}

/// RESOURCE_EXHAUSTED with the time to come again, for programs and for gRPC's own retries.
#[must_use]
pub fn overloaded(wait: Duration) -> Status {
    let wait = wait.max(Duration::from_millis(1));
    let mut details = ErrorDetails::with_retry_info(Some(wait));
    details.set_error_info(Reason::SystemOverloaded.as_str(), DOMAIN, HashMap::<String, String>::new());
    let reason = Reason::SystemOverloaded;
    let mut status = Status::with_error_details(reason.code(), reason.text(), details);
    let pushback = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
    status.metadata_mut().insert("grpc-retry-pushback-ms", pushback.into());
    status
}

type Outcome = Result<Arc<Reply>, Fault>;
type Answering = BoxFuture<'static, Outcome>;

/// The system behind this node.
pub struct System {
    http: Http,
    /// How it says things.
    pub mapping: Arc<Mapping>,
    timeout: Duration,
    limit: Mutex<Bucket>,
    breaker: Mutex<Breaker>,
    places: Semaphore,
    under_way: Mutex<HashMap<Ask, WeakShared<Answering>>>,
    last_good: Mutex<Option<Instant>>,
    /// The breaker opened or closed.
    pub(super) turned: Notify,
    pub(super) unmapped: Unmapped,
    sent: AtomicU64,
}

impl std::fmt::Debug for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("System").field("breaker", &*lock(&self.breaker)).finish_non_exhaustive()
    }
}

impl System {
    /// Stands in front of a system. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn open(config: &Config) -> Result<Arc<Self>, Unusable> {
        let now = Instant::now();
        let tls = config.ca.as_deref().map(trusting).transpose();
        let tls = tls.map_err(|problem| Unusable { field: "ca", problem })?;
        let authorization = config.authorization.as_deref().map(|text| {
            let mut value = HeaderValue::from_str(text)?;
            value.set_sensitive(true);
            Ok(value)
        });
        let authorization =
            authorization.transpose().map_err(|error: hyper::header::InvalidHeaderValue| Unusable {
                field: "authorization_file",
                problem: error.to_string(),
            })?;
        let connector = Connector::new(config.timeout, tls);
        let base = config.url.trim_end_matches('/');
        Ok(Arc::new(Self {
            http: Http::new(base, authorization, connector, config.in_flight),
            mapping: Arc::clone(&config.mapping),
            timeout: config.timeout,
            limit: Mutex::new(Bucket::new(config.rps, now)),
            breaker: Mutex::new(Breaker::new(now)),
            places: Semaphore::new(config.in_flight),
            under_way: Mutex::default(),
            last_good: Mutex::default(),
            turned: Notify::new(),
            unmapped: Unmapped::default(),
            sent: AtomicU64::new(0),
        }))
    }

    /// Asks, and waits until `deadline` at most.
    ///
    /// # Errors
    /// [`Fault`].
    ///
    /// Cancel safe: the request goes on while others wait for it.
    pub async fn ask(self: &Arc<Self>, ask: Ask, deadline: Option<tokio::time::Instant>) -> Outcome {
        if deadline.is_some_and(|deadline| deadline <= tokio::time::Instant::now()) {
            return Err(Fault::Deadline);
        }
        let answering = self.join(ask)?;
        match deadline {
            None => answering.await,
            Some(deadline) => {
                tokio::time::timeout_at(deadline, answering).await.unwrap_or(Err(Fault::Deadline))
            }
        }
    }

    /// The same question under way, or a new one.
    fn join(self: &Arc<Self>, ask: Ask) -> Result<Shared<Answering>, Fault> {
        let mut under_way = lock(&self.under_way);
        if let Some(same) = under_way.get(&ask).and_then(WeakShared::upgrade) {
            return Ok(same);
        }
        self.admit()?;
        let watched =
            Watched { system: Arc::clone(self), ask: ask.clone(), began: Instant::now(), seen: None };
        let answering: Answering = Box::pin(watched.answer());
        let answering = answering.shared();
        if let Some(weak) = answering.downgrade() {
            under_way.insert(ask, weak);
        }
        Ok(answering)
    }

    /// A token and the breaker's leave.
    fn admit(&self) -> Result<(), Fault> {
        let now = Instant::now();
        if self.places.available_permits() == 0 {
            return Err(Fault::Capped(LATER));
        }
        if lock(&self.breaker).may(now) != May::Ask {
            return Err(Fault::Unavailable);
        }
        lock(&self.limit).try_take(now).map_err(|wait| {
            // Nothing is sent: a probe's place is free again.
            self.saw(Seen::Nothing);
            Fault::Capped(wait)
        })
    }

    /// One look at its health; `None`: the cap leaves no room to ask, and calls will tell.
    pub(super) async fn look(&self) -> Option<bool> {
        lock(&self.limit).try_take(Instant::now()).ok()?;
        self.sent.fetch_add(1, Relaxed);
        let asking = self.http.send(self.mapping.ask_health());
        match tokio::time::timeout(self.timeout, asking).await {
            // That it is not well, it may say at any time.
            Ok(Ok((status, document))) => Some(self.mapping.is_well(status, &document)),
            // Without a word its answers have the last one.
            Ok(Err(_)) | Err(_) => Some(lock(&self.last_good).is_some_and(|at| at.elapsed() < RECENT)),
        }
    }

    /// Nobody may ask at present.
    pub(super) fn is_cut_off(&self) -> bool {
        lock(&self.breaker).is_open(Instant::now())
    }

    /// Requests sent since the start, looks at its health among them.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Answers with a word that has no mapping since the start.
    #[must_use]
    pub fn unmapped(&self) -> u64 {
        self.unmapped.answers()
    }

    fn saw(&self, seen: Seen) {
        let now = Instant::now();
        if seen == Seen::Good {
            *lock(&self.last_good) = Some(now);
        }
        let closed = {
            let mut breaker = lock(&self.breaker);
            breaker.saw(seen, now).then(|| breaker.is_closed())
        };
        match closed {
            Some(true) => tracing::info!("the system behind answers again: the breaker is closed"),
            Some(false) => tracing::warn!("the system behind fails: the breaker is open"),
            None => return,
        }
        self.turned.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request under way: however it ends, the breaker hears of it.
struct Watched {
    system: Arc<System>,
    ask: Ask,
    began: Instant,
    seen: Option<Seen>,
}

impl Watched {
    async fn answer(mut self) -> Outcome {
        let system = Arc::clone(&self.system);
        let Ok(_place) = system.places.try_acquire() else {
            self.seen = Some(Seen::Nothing);
            return Err(Fault::Capped(LATER));
        };
        system.sent.fetch_add(1, Relaxed);
        let asking = system.http.send(&self.ask);
        let (http, document) = match tokio::time::timeout(system.timeout, asking).await {
            Ok(Ok(answer)) => answer,
            failed => {
                let why = failed.ok().and_then(Result::err);
                tracing::debug!(why = why.map_or("it took too long".to_owned(), |why| why.to_string()));
                self.seen = Some(Seen::Failure);
                return Err(Fault::Unavailable);
            }
        };
        let result = system.mapping.judge(http, &document).map_err(|(failure, word)| {
            if let Some(word) = word {
                system.unmapped.note("result", &word);
            }
            failure
        });
        self.seen = Some(match result {
            Err(Failure::Unavailable) => Seen::Failure,
            Err(Failure::Overloaded) => Seen::Nothing,
            _ => Seen::Good,
        });
        match result {
            Err(Failure::Unavailable) => Err(Fault::Unavailable),
            Err(Failure::Overloaded) => Err(Fault::Capped(LATER)),
            result => Ok(Arc::new(Reply { document, result })),
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&self.system.under_way).remove(&self.ask);
        // Nobody waits any more. Callers in a hurry say nothing about it; long silence does.
        let silent = self.began.elapsed() * 2 >= self.system.timeout;
        let given_up = if silent { Seen::Failure } else { Seen::Nothing };
        self.system.saw(self.seen.unwrap_or(given_up));
    }
}
