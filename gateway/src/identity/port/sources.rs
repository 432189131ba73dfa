//! How much of a door may one source take?
//!
//! A handshake costs us a signature and a place, and its other side nothing but silence. So each source (an
//! IPv4 address, or the first 64 bits of an IPv6 address) has a share of the handshakes that go on at a
//! time; more of its connections wait for their turn, and what is beyond that crowd is closed at once. Many
//! nodes behind one address get in one after the other; somebody who fills its own share keeps nobody else
//! out.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// What each source may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// Handshakes at a time.
    pub(super) handshakes: usize,
    /// Connections that have not shaken hands yet, those that do so now among them.
    pub(super) crowd: usize,
}

/// The sources that are at the door. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    share: Share,
    present: Arc<Mutex<HashMap<IpAddr, Lane>>>,
}

/// One source at the door.
#[derive(Debug)]
struct Lane {
    turns: Arc<Semaphore>,
    crowd: usize,
}

/// A connection of a source that has not shaken hands yet.
#[derive(Debug)]
pub(super) struct Place {
    sources: Sources,
    source: IpAddr,
    turns: Arc<Semaphore>,
}

impl Sources {
    pub(super) fn new(share: Share) -> Self {
        Self { share, present: Arc::default() }
    }

    /// A connection has come; `None`: its source has too many at the door.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let source = source_of(address);
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Lane { turns: Arc::new(Semaphore::new(self.share.handshakes)), crowd: 0 };
        let lane = present.entry(source).or_insert_with(new);
        if lane.crowd >= self.share.crowd {
            return None;
        }
        lane.crowd += 1;
        Some(Place { sources: self.clone(), source, turns: lane.turns.clone() })
    }
}

impl Place {
    /// Waits for a turn of its source.
    ///
    /// Cancel safe.
    pub(super) async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("the semaphore is never closed")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut present = self.sources.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = present.get_mut(&self.source) {
            lane.crowd -= 1;
            if lane.crowd == 0 {
                present.remove(&self.source);
            }
        }
    }
}

/// Whoever has an IPv6 address has 2⁶⁴ of them.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let bits = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(bits.into())
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_source_has_its_share_and_others_have_theirs() {
        let sources = Sources::new(Share { handshakes: 2, crowd: 3 });
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let places: Vec<_> = (0..3).map(|_| sources.enter(one).unwrap()).collect();
        assert!(sources.enter(one).is_none() && sources.enter(address("::ffff:192.0.2.1")).is_none());
        let turns: Vec<_> = places[..2].iter().map(|place| place.turn().now_or_never().unwrap()).collect();
        assert!(places[2].turn().now_or_never().is_none(), "it waits for the others");
        let place = sources.enter(other).unwrap();
        assert!(place.turn().now_or_never().is_some());
        drop(turns);
        assert!(places[2].turn().now_or_never().is_some());
        drop((place, places));
        assert!(sources.present.lock().unwrap().is_empty(), "who has left is forgotten");
    }

    #[test]
    fn a_source_of_ipv6_is_a_network() {
        let sources = Sources::new(Share { handshakes: 1, crowd: 1 });
        let _place = sources.enter(address("2001:db8::1")).unwrap();
        assert!(sources.enter(address("2001:db8::2:3")).is_none());
        assert!(sources.enter(address("2001:db8:0:1::1")).is_some());
    }
}
