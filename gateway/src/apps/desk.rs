//! Which app's call is this, and is it let in?
//!
//! One desk a worker, made anew when the grants change. It remembers the tokens it has seen by a keyed hash
//! and compares them whole, so that a call of a known app costs no SHA-256, no lock and no allocation. A call
//! of nobody costs one look into its headers, which is there to keep tokens from going on to nodes.
//!
//! ```text
//!   who? ── nobody ──► is that taken for this method?
//!     │ app
//!     ▼
//!   method → class → region, where the metadata names one → calls a second → calls in flight → let in
//! ```
//! A region that only the message names is judged when it has been read ([`Pass::region`]).

use super::{
    Anonymous,
    grant::{Grant, Grants, Outside},
    meters::{Meter, Meters, Outcome, Stranger},
    quota::{InFlight, Rate},
    token::{Hash, bearer},
};
use crate::clock::unix_ms;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use foldhash::quality::RandomState;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::BuildHasher as _,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};
use suiyue_proto::{method::Method, reason::Reason, region::Code};

/// Places for tokens that were seen; two that fall into one take turns.
const PLACES: usize = 1024;

/// What a caller shows.
#[derive(Debug, Clone, Copy)]
pub enum Caller<'a> {
    /// Nothing.
    Anonymous,
    /// The value of `authorization`; it wins over a certificate.
    Token(&'a [u8]),
    /// The name that the connection's client certificate proves.
    Certificate(&'a str),
}

impl<'a> Caller<'a> {
    /// What a call shows.
    #[must_use]
    pub fn of(authorization: Option<&'a http::HeaderValue>, certificate: Option<&'a str>) -> Self {
        match (authorization, certificate) {
            (Some(value), _) => Self::Token(value.as_bytes()),
            (None, Some(name)) => Self::Certificate(name),
            (None, None) => Self::Anonymous,
        }
    }
}

/// What a worker knows of an app.
#[derive(Debug)]
struct Seat {
    grant: Arc<Grant>,
    meter: Arc<Meter>,
}

/// A token that was seen.
struct Place {
    hash: u64,
    token: Box<[u8]>,
    until_ms: Option<i64>,
    seat: Rc<Seat>,
}

/// One worker's desk.
pub struct Desk {
    grants: Arc<Grants>,
    anonymous: Arc<Anonymous>,
    meters: Arc<Meters>,
    worker: usize,
    hasher: RandomState,
    places: RefCell<Vec<Option<Place>>>,
    seats: RefCell<HashMap<Arc<str>, Rc<Seat>, foldhash::fast::RandomState>>,
}

/// A call of an app that was let in. Dropping it counts the call and gives its place back.
#[derive(Debug)]
pub struct Pass {
    seat: Rc<Seat>,
    worker: usize,
    outcome: Cell<Outcome>,
}

impl Desk {
    /// A desk for these grants.
    #[must_use]
    pub fn new(grants: Arc<Grants>, anonymous: Arc<Anonymous>, meters: Arc<Meters>, worker: usize) -> Self {
        let (places, seats) = (RefCell::default(), RefCell::default());
        Self { grants, anonymous, meters, worker, hasher: RandomState::default(), places, seats }
    }

    /// The desk is for these grants.
    #[must_use]
    pub fn is_for(&self, grants: &Arc<Grants>) -> bool {
        Arc::ptr_eq(&self.grants, grants)
    }

    /// Lets a call in; `None`: it is nobody's, and is taken all the same.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn admit(
        &self,
        caller: Caller<'_>,
        method: &Method,
        region: Option<Code>,
        now: Instant,
    ) -> Result<Option<Pass>, Reason> {
        let seat = match caller {
            Caller::Anonymous if self.anonymous.takes(&method.path) => return Ok(None),
            Caller::Anonymous => {
                self.meters.stranger(self.worker, Stranger::Anonymous);
                return Err(Reason::AppRequired);
            }
            Caller::Token(value) => self.of_token(value),
            Caller::Certificate(name) => match self.grants.of_certificate(name) {
                // It is for something else than this.
                None => return self.admit(Caller::Anonymous, method, region, now),
                Some(grant) => (!grant.disabled).then(|| self.seat(grant)),
            },
        };
        let Some(seat) = seat else {
            self.meters.stranger(self.worker, Stranger::Unknown);
            return Err(Reason::AppUnknown);
        };
        self.let_in(seat, method, region, now).map(Some)
    }

    fn let_in(
        &self,
        seat: Rc<Seat>,
        method: &Method,
        region: Option<Code>,
        now: Instant,
    ) -> Result<Pass, Reason> {
        let Seat { grant, meter } = &*seat;
        let refuse = |outcome, reason| {
            meter.count(self.worker, outcome);
            Err(reason)
        };
        match grant.covers(method) {
            Ok(()) => {}
            Err(Outside::Method) => return refuse(Outcome::Denied, Reason::AppMethodDenied),
            Err(Outside::Class) => return refuse(Outcome::Denied, Reason::AppClassDenied),
        }
        if region.is_some_and(|region| !grant.regions.has(region)) {
            return refuse(Outcome::Denied, Reason::AppRegionDenied);
        }
        let gateways = || self.meters.gateways.load(Relaxed);
        if let Some((rps, burst)) = grant.rate
            && !meter.bucket.take(self.meters.nanos(now), Rate::new(rps, burst, gateways()))
        {
            return refuse(Outcome::OverRate, Reason::QuotaExceeded);
        }
        let most = grant.in_flight_max.map_or(u32::MAX, |max| InFlight::part(max, gateways()));
        if !meter.in_flight.enter(most) {
            return refuse(Outcome::OverInFlight, Reason::QuotaExceeded);
        }
        // One that is never told otherwise was given up.
        Ok(Pass { seat, worker: self.worker, outcome: Cell::new(Outcome::Error) })
    }

    fn of_token(&self, value: &[u8]) -> Option<Rc<Seat>> {
        let token = bearer(value)?;
        let hash = self.hasher.hash_one(token);
        let at = hash as usize % PLACES;
        if let Some(Some(place)) = self.places.borrow().get(at)
            && place.hash == hash
            && verify_slices_are_equal(&place.token, token).is_ok()
        {
            return is_good(place.until_ms).then(|| place.seat.clone());
        }
        let (grant, until_ms) = self.grants.of_token(Hash::of(token))?;
        let (seat, until_ms) = (self.seat(grant), *until_ms);
        let mut places = self.places.borrow_mut();
        places.resize_with(PLACES, || None);
        places[at] = Some(Place { hash, token: token.into(), until_ms, seat: seat.clone() });
        is_good(until_ms).then_some(seat)
    }

    fn seat(&self, grant: &Arc<Grant>) -> Rc<Seat> {
        if let Some(seat) = self.seats.borrow().get(&grant.app) {
            return seat.clone();
        }
        let seat = Rc::new(Seat { grant: grant.clone(), meter: self.meters.of(&grant.app) });
        self.seats.borrow_mut().insert(grant.app.clone(), seat.clone());
        seat
    }
}

/// A token that ends is good until then. The clock is read for such tokens only.
fn is_good(until_ms: Option<i64>) -> bool {
    until_ms.is_none_or(|until| unix_ms() < until)
}

impl Pass {
    /// The app may ask about this region.
    ///
    /// # Errors
    /// It may not.
    pub fn region(&self, region: Code) -> Result<(), Reason> {
        if self.seat.grant.regions.has(region) {
            return Ok(());
        }
        self.outcome.set(Outcome::Denied);
        Err(Reason::AppRegionDenied)
    }

    /// The call has ended with this gRPC status.
    pub fn ended(&self, code: u8) {
        if self.outcome.get() != Outcome::Denied {
            self.outcome.set(if code == 0 { Outcome::Ok } else { Outcome::Error });
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.seat.meter.in_flight.leave();
        self.seat.meter.count(self.worker, self.outcome.get());
    }
}

#[cfg(test)]
mod tests;
