//! How does a connection end?
//!
//! Gracefully: GOAWAY with the highest id, then with the last one that was seen, and the end once all
//! streams have ended. For a broken rule: GOAWAY with its reason, and all streams end at once. Without
//! a word, when the socket is gone. A peer's GOAWAY is heard in `read`.

use super::{GOODBYE_PING, Inner, MAX_31, Phase, Role};
use crate::http2::{
    error::{By, Error, Kind, Reason},
    frame,
};

impl Inner {
    /// The connection cannot go on: GOAWAY for a rule that the peer broke, and the end of all streams.
    pub(super) fn give_up(&mut self, reason: Reason) {
        if matches!(self.phase, Phase::Broken | Phase::Ended) {
            return;
        }
        let last = match self.phase {
            _ if self.role == Role::Client => 0,
            // Never more than was said before (RFC 9113, section 6.8).
            Phase::Leaving { last, .. } => last.min(self.last_id),
            _ => self.last_id,
        };
        self.limit = None;
        frame::put_goaway(self.out(), last, reason);
        self.phase = Phase::Broken;
        self.end_streams(Error::go_away(reason, By::Us));
        self.wake_task();
    }

    /// Ends all streams, and lets nobody open another one.
    pub(super) fn end_streams(&mut self, error: Error) {
        self.error.get_or_insert(error);
        for slot in self.accepted.drain(..) {
            self.streams.get_mut(slot).handles -= 1;
        }
        for slot in self.streams.slots() {
            self.break_stream(slot, error);
        }
        self.waiting.clear();
        if let Some(waker) = self.ping.waker.take() {
            waker.wake();
        }
    }

    /// The socket ended or broke.
    pub(super) fn lost(&mut self, error: Error) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            self.end_streams(error);
        }
    }

    /// Asks the peer to open no more streams: GOAWAY with the highest id (RFC 9113, section 6.8). Those
    /// that it opens nevertheless are served until [`Inner::last_call`].
    pub(in super::super) fn shut_down(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Leaving { last: MAX_31, heard: false, due: false };
            // Ahead of what is held back, which is whole frames.
            let held = self.limit.map(|_| std::mem::take(&mut self.out));
            frame::put_goaway(self.out(), MAX_31, Reason::NO_ERROR);
            frame::put_ping(self.out(), 0, GOODBYE_PING);
            if let Some(held) = held {
                self.limit = Some(self.out.len());
                self.out.extend_from_slice(&held);
            }
            self.wake_task();
        }
    }

    /// Holds back what is queued from now on, but for a goodbye; not while something is half written.
    pub(in super::super) fn hold(&mut self) {
        if self.out.is_empty() && self.phase == Phase::Open {
            self.limit = Some(0);
        }
    }

    /// Writes what was held back.
    pub(in super::super) fn unhold(&mut self) {
        if self.limit.take().is_some() {
            self.wake_task();
        }
    }

    /// Takes no new streams as soon as the peer has seen that we go away.
    pub(in super::super) fn last_call(&mut self) {
        if let Phase::Leaving { due, .. } = &mut self.phase {
            *due = true;
            self.conclude();
        }
    }

    /// Ends the connection as soon as what is queued has been written.
    pub(in super::super) fn abort(&mut self, reason: Reason) {
        self.give_up(reason);
    }

    /// The peer has seen that we go away.
    pub(super) fn goodbye_heard(&mut self) {
        if let Phase::Leaving { heard, .. } = &mut self.phase {
            *heard = true;
            self.conclude();
        }
    }

    /// Names the last stream, when it is time and the peer knows.
    fn conclude(&mut self) {
        if let Phase::Leaving { last: MAX_31, heard: true, due: true } = self.phase {
            let last = self.last_id;
            self.phase = Phase::Leaving { last, heard: true, due: true };
            frame::put_goaway(self.out(), last, Reason::NO_ERROR);
            self.wake_task();
        }
    }

    /// Nothing more will happen once the queue is empty.
    pub(super) fn is_over(&self) -> bool {
        match self.phase {
            Phase::Broken | Phase::Ended => true,
            _ if self.streams.active() > 0 || !self.accepted.is_empty() => false,
            Phase::Leaving { last, .. } => last != MAX_31,
            Phase::Open => self.role == Role::Client && (self.heard.is_some() || self.openers == 0),
        }
    }

    /// How the connection ended, for its owner.
    pub(super) fn outcome(&self) -> Result<(), Error> {
        match (self.error, self.heard) {
            // A peer that said goodbye may close.
            (None | Some(Error(Kind::Io(_))), Some(Reason::NO_ERROR)) => Ok(()),
            (_, Some(reason)) if reason != Reason::NO_ERROR => Err(Error::go_away(reason, By::Peer)),
            (Some(error), _) if error.reason() != Some(Reason::NO_ERROR) => Err(error),
            _ => Ok(()),
        }
    }
}
