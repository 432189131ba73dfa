//! Where does the state of a stream live?
//!
//! In a slab of one connection: [`Streams`] finds a stream by its id, handles know its slot. A stream
//! leaves the index of ids when it is closed, and its slot when the last handle is gone, whichever comes
//! later:
//!
//! ```text
//! opened ──► both directions run ──► one has ended ──► closed (both ended, or reset) ──► slot free
//!            in the index                              out of the index                 no handle left
//! ```

use super::{
    error::Error,
    fields::Fields,
    flow::{Allowance, Credit},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use std::{collections::VecDeque, task::Waker};

/// How far the peer's half of a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recv {
    /// The answer's headers are still to come.
    Head,
    /// Data and trailers may come.
    Body,
    /// All has come.
    Ended,
    /// It broke before its end.
    Broken,
}

/// How far our half of a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Send {
    /// Our headers are still to be sent.
    Head,
    /// Data and trailers may be sent.
    Body,
    /// The end was said, although some of it may still wait for the peer's window.
    Ending,
    /// All is on its way.
    Ended,
}

/// The headers that a stream began with.
#[derive(Debug)]
pub(super) enum Start {
    /// Of a request.
    Request(Head),
    /// Of an answer.
    Response(StatusCode, Fields),
}

/// Headers of a request.
#[derive(Debug, Clone)]
pub struct Head {
    /// `:method`.
    pub method: HeaderValue,
    /// `:path`, never empty.
    pub path: HeaderValue,
    /// The fields.
    pub headers: Fields,
}

/// What was handed over and waits for the peer's window.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) data: VecDeque<Bytes>,
    pub(super) bytes: usize,
    pub(super) trailers: Option<Fields>,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// 0: the slot is free.
    pub(super) id: u32,
    /// Handles that point here.
    pub(super) handles: u32,
    /// When it was opened, in the connection's milliseconds.
    pub(super) opened_ms: u32,
    pub(super) recv: Recv,
    pub(super) send: Send,
    /// Why it broke.
    pub(super) failed: Option<Error>,
    pub(super) start: Option<Start>,
    pub(super) inbox: VecDeque<Bytes>,
    pub(super) trailers: Option<Fields>,
    pub(super) allowance: Allowance,
    /// Received, and not given back to the windows yet.
    pub(super) unreleased: usize,
    pub(super) credit: Credit,
    pub(super) outbox: Outbox,
    /// Bytes that a writer waits to send.
    pub(super) wanted: usize,
    /// It stands in the connection's queue of those that wait for a window.
    pub(super) queued: bool,
    /// DATA was sent since the last look for stalls.
    pub(super) moved: bool,
    /// Looks for stalls that found it waiting and not moving.
    pub(super) stalled: u32,
    /// Waits for what comes from the peer.
    pub(super) reader: Option<Waker>,
    /// Waits for room, or for a reset.
    pub(super) writer: Option<Waker>,
}

impl Stream {
    fn free() -> Self {
        Self {
            id: 0,
            handles: 0,
            opened_ms: 0,
            recv: Recv::Ended,
            send: Send::Ended,
            failed: None,
            start: None,
            inbox: VecDeque::new(),
            trailers: None,
            allowance: Allowance::new(0),
            unreleased: 0,
            credit: Credit::new(0),
            outbox: Outbox::default(),
            wanted: 0,
            queued: false,
            moved: false,
            stalled: 0,
            reader: None,
            writer: None,
        }
    }

    /// Wakes whoever reads.
    #[inline]
    pub(super) fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    /// Wakes whoever writes, or watches for a reset.
    #[inline]
    pub(super) fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    /// Both directions have ended.
    #[inline]
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.recv, Recv::Ended | Recv::Broken) && matches!(self.send, Send::Ended)
    }
}

/// The streams of one connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: Vec<Stream>,
    free: Vec<u32>,
    index: Index,
}

impl Streams {
    /// Takes a slot for a new stream and enters it into the index.
    pub(super) fn insert(&mut self, id: u32, allowance: Allowance, credit: Credit) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Stream::free());
            (self.slots.len() - 1) as u32
        });
        let stream = &mut self.slots[slot as usize];
        (stream.id, stream.handles, stream.failed) = (id, 0, None);
        (stream.allowance, stream.credit) = (allowance, credit);
        (stream.moved, stream.stalled) = (false, 0);
        self.index.insert(id, slot);
        slot
    }

    /// Streams that are not closed.
    pub(super) const fn active(&self) -> usize {
        self.index.len
    }

    /// Slots in use, those of closed streams with handles included.
    pub(super) const fn held(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Slot of a stream that is not closed.
    #[inline]
    pub(super) fn find(&self, id: u32) -> Option<u32> {
        self.index.find(id)
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> &Stream {
        &self.slots[slot as usize]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Stream {
        &mut self.slots[slot as usize]
    }

    /// The stream is closed: late frames do not find it any more.
    pub(super) fn forget(&mut self, id: u32) {
        self.index.remove(id);
    }

    /// Frees the slot of a closed stream without handles. Small queues keep their memory for the next.
    pub(super) fn free(&mut self, slot: u32) {
        let stream = &mut self.slots[slot as usize];
        stream.id = 0;
        (stream.recv, stream.send) = (Recv::Ended, Send::Ended);
        (stream.start, stream.trailers, stream.outbox.trailers) = (None, None, None);
        (stream.reader, stream.writer) = (None, None);
        (stream.unreleased, stream.wanted, stream.outbox.bytes, stream.queued) = (0, 0, 0, false);
        recycle(&mut stream.inbox);
        recycle(&mut stream.outbox.data);
        self.free.push(slot);
    }

    /// An idle connection holds no memory for its busiest hour: to be called now and then. True: there
    /// are no slots any more.
    pub(super) fn tidy(&mut self) -> bool {
        let idle = self.free.len() == self.slots.len();
        if idle {
            *self = Self::default();
        }
        idle
    }

    /// Slots of all streams that are not closed.
    pub(super) fn slots(&self) -> Vec<u32> {
        self.index.table.iter().filter(|(id, _)| *id != 0).map(|(_, slot)| *slot).collect()
    }
}

fn recycle(queue: &mut VecDeque<Bytes>) {
    if queue.capacity() > 8 {
        *queue = VecDeque::new();
    } else {
        queue.clear();
    }
}

/// Slots by id: open addressing with linear probing. Ids rise in steps of two; they are spread by the
/// golden ratio, so that neighbours do not form runs, which would make every removal long.
#[derive(Debug, Default)]
struct Index {
    /// Id and slot; id 0: empty. A power of two long, or empty.
    table: Vec<(u32, u32)>,
    len: usize,
}

impl Index {
    #[inline]
    const fn place(&self, id: u32) -> usize {
        ((id >> 1).wrapping_mul(0x9e37_79b9) >> 16) as usize & (self.table.len() - 1)
    }

    #[inline]
    fn find(&self, id: u32) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let mut at = self.place(id);
        loop {
            match self.table[at] {
                (0, _) => return None,
                (found, slot) if found == id => return Some(slot),
                _ => at = (at + 1) & (self.table.len() - 1),
            }
        }
    }

    fn insert(&mut self, id: u32, slot: u32) {
        // At most half full: searches for what is not there end soon.
        if (self.len + 1) * 2 > self.table.len() {
            let size = (self.table.len() * 2).max(16);
            let old = std::mem::replace(&mut self.table, vec![(0, 0); size]);
            for (id, slot) in old.into_iter().filter(|(id, _)| *id != 0) {
                self.put(id, slot);
            }
        }
        self.put(id, slot);
        self.len += 1;
    }

    fn put(&mut self, id: u32, slot: u32) {
        let mut at = self.place(id);
        while self.table[at].0 != 0 {
            at = (at + 1) & (self.table.len() - 1);
        }
        self.table[at] = (id, slot);
    }

    /// Removes an id, and closes the gap that it leaves in its run.
    fn remove(&mut self, id: u32) {
        if self.len == 0 {
            return;
        }
        let mask = self.table.len() - 1;
        let mut gap = self.place(id);
        while self.table[gap].0 != id {
            if self.table[gap].0 == 0 {
                return;
            }
            gap = (gap + 1) & mask;
        }
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let (next, _) = self.table[at];
            if next == 0 {
                break;
            }
            // It may move into the gap unless its own place lies between the gap and where it is.
            let home = self.place(next);
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(gap) & mask) {
                self.table[gap] = self.table[at];
                gap = at;
            }
        }
        self.table[gap] = (0, 0);
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn the_index_finds_what_is_there_and_nothing_else(
            steps in prop::collection::vec((any::<bool>(), 0..40u32, 0..4u32), 1..400),
        ) {
            let (mut index, mut model) = (Index::default(), HashMap::new());
            for (add, low, high) in steps {
                // Ids that collide, as an attacker may choose them.
                let id = 2 * (low + high * 64) + 1;
                if add && !model.contains_key(&id) {
                    index.insert(id, low);
                    model.insert(id, low);
                } else {
                    index.remove(id);
                    model.remove(&id);
                }
                prop_assert_eq!(index.len, model.len());
                for low in 0..40 {
                    for high in 0..4 {
                        let id = 2 * (low + high * 64) + 1;
                        prop_assert_eq!(index.find(id), model.get(&id).copied());
                    }
                }
            }
        }
    }

    #[test]
    fn slots_are_used_again_and_given_back_by_an_idle_connection() {
        let mut streams = Streams::default();
        let open = |streams: &mut Streams, id| streams.insert(id, Allowance::new(1), Credit::new(1));
        let slots: Vec<u32> = (0..100).map(|i| open(&mut streams, 2 * i + 1)).collect();
        assert_eq!((streams.active(), streams.held()), (100, 100));
        streams.forget(7);
        assert_eq!((streams.find(7), streams.active(), streams.held()), (None, 99, 100));
        for (i, slot) in slots.into_iter().enumerate() {
            streams.forget(2 * i as u32 + 1);
            streams.free(slot);
        }
        assert_eq!((streams.active(), streams.held(), streams.slots.len()), (0, 0, 100));
        let slot = open(&mut streams, 201);
        assert!(!streams.tidy());
        assert_eq!((streams.held(), streams.find(201)), (1, Some(slot)));
        streams.forget(201);
        streams.free(slot);
        assert!(streams.tidy());
        assert_eq!((streams.held(), streams.slots.capacity()), (0, 0));
        assert_eq!(open(&mut streams, 203), 0);
    }
}
