//! How do headers, data and trailers of our side get into the queue?
//!
//! Headers are encoded straight into the queue, in the order in which they leave: the compression depends
//! on it. DATA goes there as far as both windows and the queue have room; what a handle gave beyond that
//! waits in its stream's outbox, in line with the writers who asked for room first ([`Inner::resume`]).

use super::{Error, Inner, OUT_HIGH, Reason, Recv, Role, Send};
use crate::http2::{
    fields::Fields,
    frame::{HEAD, Head, flag, kind},
    hpack::{Encoder, Pseudo},
};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode};
use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

/// Streams that wait for their reader hold at most so many bytes of a connection in sum.
const STALLED_BYTES: usize = 1 << 20;
/// Above this a connection whose streams all stall is closed.
const STALLED_CONNECTION_BYTES: usize = 48 << 10;
/// Looks in a row that find a stream stalled, before its connection is.
const STALLED_LOOKS: u32 = 2;

static POST: HeaderValue = HeaderValue::from_static("POST");
static HTTP: HeaderValue = HeaderValue::from_static("http");
static STATUS_OK: HeaderValue = HeaderValue::from_static("200");

/// A request's headers, as borrowed from whoever sends it.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// `:authority`.
    pub authority: &'a HeaderValue,
    /// `:path`.
    pub path: &'a HeaderValue,
    /// The fields.
    pub headers: &'a Fields,
    /// Fields instead of those of the same names.
    pub extra: &'a [(HeaderName, HeaderValue)],
}

/// An answer's headers, as borrowed from whoever sends it.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    /// `:status`.
    pub status: StatusCode,
    /// The fields.
    pub headers: &'a Fields,
    /// Fields instead of those of the same names.
    pub extra: &'a [(HeaderName, HeaderValue)],
}

impl Inner {
    /// Sends a request of ours; the stream's slot.
    pub(in super::super) fn send_request(&mut self, head: RequestHead<'_>, end: bool) -> u32 {
        let slot = self.open();
        let stream = self.streams.get_mut(slot);
        stream.send = if end { Send::Ended } else { Send::Body };
        let id = stream.id;
        self.put_head(id, end, |encoder, out| {
            encoder.pseudo(Pseudo::Method, &POST, out);
            encoder.pseudo(Pseudo::Scheme, &HTTP, out);
            encoder.pseudo(Pseudo::Authority, head.authority, out);
            encoder.pseudo(Pseudo::Path, head.path, out);
            put_fields(encoder, head.headers, head.extra, out);
        });
        slot
    }

    /// Sends the headers of an answer.
    ///
    /// # Errors
    /// The stream has ended, or they were sent before.
    pub(in super::super) fn send_response(
        &mut self,
        slot: u32,
        head: ResponseHead<'_>,
        end: bool,
    ) -> Result<(), Error> {
        let stream = self.streams.get_mut(slot);
        if stream.send != Send::Head {
            return Err(stream.failed.unwrap_or(Error::CLOSED));
        }
        stream.send = if end { Send::Ended } else { Send::Body };
        let id = stream.id;
        self.put_head(id, end, |encoder, out| {
            put_status(encoder, head.status, out);
            put_fields(encoder, head.headers, head.extra, out);
        });
        if end {
            self.settle(slot);
        }
        Ok(())
    }

    /// Answers a request that is not let in, without a stream.
    pub(super) fn answer_status(&mut self, id: u32, status: StatusCode) {
        self.put_head(id, true, |encoder, out| put_status(encoder, status, out));
    }

    /// Sends data, or keeps what the windows do not let through yet.
    ///
    /// # Errors
    /// The stream has ended.
    pub(in super::super) fn send_data(&mut self, slot: u32, data: Bytes, end: bool) -> Result<(), Error> {
        let room = self.room(slot);
        let stream = self.streams.get_mut(slot);
        if stream.send != Send::Body {
            return Err(stream.failed.unwrap_or(Error::CLOSED));
        }
        stream.wanted = 0;
        if stream.outbox.bytes == 0 && data.len() <= room {
            if end {
                stream.send = Send::Ended;
            }
            if end || !data.is_empty() {
                self.put_data(slot, &data, end);
            }
            if end {
                self.settle(slot);
            }
            return Ok(());
        }
        if end {
            stream.send = Send::Ending;
        }
        stream.outbox.bytes += data.len();
        if !data.is_empty() {
            stream.outbox.data.push_back(data);
        }
        self.flush(slot);
        Ok(())
    }

    /// Sends trailers, after all data.
    ///
    /// # Errors
    /// The stream has ended.
    pub(in super::super) fn send_trailers(&mut self, slot: u32, trailers: Fields) -> Result<(), Error> {
        let stream = self.streams.get_mut(slot);
        if stream.send != Send::Body {
            return Err(stream.failed.unwrap_or(Error::CLOSED));
        }
        if stream.outbox.bytes > 0 {
            stream.send = Send::Ending;
            stream.outbox.trailers = Some(trailers);
            return Ok(());
        }
        stream.send = Send::Ended;
        let id = stream.id;
        self.put_head(id, true, |encoder, out| put_fields(encoder, &trailers, &[], out));
        self.settle(slot);
        Ok(())
    }

    /// Bytes that would be sent at once.
    pub(in super::super) fn room(&self, slot: u32) -> usize {
        let stream = self.streams.get(slot);
        if stream.outbox.bytes > 0 {
            return 0;
        }
        let queue = OUT_HIGH.saturating_sub(self.out.len());
        stream.credit.available().min(self.credit.available()).min(queue)
    }

    /// Waits until at least one byte would be sent at once; `None`: the stream takes no more.
    pub(in super::super) fn poll_room(
        &mut self,
        cx: &Context<'_>,
        slot: u32,
        wanted: usize,
    ) -> Poll<Option<usize>> {
        let room = self.room(slot);
        let stream = self.streams.get_mut(slot);
        if stream.send != Send::Body {
            return Poll::Ready(None);
        }
        if room > 0 {
            stream.wanted = 0;
            return Poll::Ready(Some(room.min(wanted)));
        }
        stream.wanted = wanted;
        register(&mut stream.writer, cx);
        self.enqueue(slot);
        Poll::Pending
    }

    fn enqueue(&mut self, slot: u32) {
        let stream = self.streams.get_mut(slot);
        if !stream.queued {
            stream.queued = true;
            let id = stream.id;
            self.waiting.push_back((slot, id));
        }
    }

    /// A stream's window has opened.
    pub(super) fn resume_stream(&mut self, slot: u32) {
        let room = self.room(slot);
        let stream = self.streams.get_mut(slot);
        if stream.outbox.bytes > 0 {
            self.flush(slot);
        } else if stream.wanted > 0 && room > 0 {
            stream.wake_writer();
        }
    }

    /// The connection's window has opened, or the queue has room: those who wait go on, in their order.
    pub(super) fn resume(&mut self) {
        let mut left = self.waiting.len();
        let mut budget = self.credit.available();
        while left > 0 && budget > 0 && self.out.len() < OUT_HIGH {
            left -= 1;
            let Some((slot, id)) = self.waiting.pop_front() else { return };
            let stream = self.streams.get_mut(slot);
            if stream.id != id {
                continue;
            }
            stream.queued = false;
            if stream.outbox.bytes > 0 {
                self.flush(slot);
                budget = budget.min(self.credit.available());
            } else if stream.wanted > 0 {
                let room = stream.credit.available().min(stream.wanted);
                if room == 0 {
                    self.enqueue(slot);
                } else {
                    budget = budget.saturating_sub(room);
                    stream.wake_writer();
                }
            }
        }
    }

    /// Sends of a stream's outbox what the windows let through.
    fn flush(&mut self, slot: u32) {
        loop {
            let queue = OUT_HIGH.saturating_sub(self.out.len());
            let limit = self.credit.available().min(queue).min(self.peer.max_frame);
            let stream = self.streams.get_mut(slot);
            let limit = limit.min(stream.credit.available());
            let Some(front) = stream.outbox.data.front_mut() else { return };
            if limit == 0 {
                return self.enqueue(slot);
            }
            let piece = front.split_to(limit.min(front.len()));
            if front.is_empty() {
                stream.outbox.data.pop_front();
            }
            stream.outbox.bytes -= piece.len();
            let last = stream.outbox.data.is_empty() && stream.send == Send::Ending;
            let trailers = if last { stream.outbox.trailers.take() } else { None };
            let id = stream.id;
            self.put_data(slot, &piece, last && trailers.is_none());
            if let Some(trailers) = &trailers {
                self.put_head(id, true, |encoder, out| put_fields(encoder, trailers, &[], out));
            }
            if last {
                return self.finish(slot);
            }
        }
    }

    /// All of our half is on its way.
    fn finish(&mut self, slot: u32) {
        let stream = self.streams.get_mut(slot);
        stream.send = Send::Ended;
        let unwanted = stream.handles == 0 && matches!(stream.recv, Recv::Head | Recv::Body);
        if unwanted {
            self.lose_interest(slot);
        } else {
            self.settle(slot);
        }
    }

    /// Queues DATA that both windows have room for.
    fn put_data(&mut self, slot: u32, data: &[u8], end: bool) {
        let max = self.peer.max_frame;
        self.guard.earn();
        self.credit.spend(data.len());
        let stream = self.streams.get_mut(slot);
        stream.credit.spend(data.len());
        stream.moved = true;
        let id = stream.id;
        let out = self.out();
        let mut rest = data;
        loop {
            let (piece, more) = rest.split_at(rest.len().min(max));
            rest = more;
            let flags = if end && rest.is_empty() { flag::END_STREAM } else { 0 };
            out.reserve(HEAD + piece.len());
            out.put_slice(&Head { len: piece.len(), kind: kind::DATA, flags, stream: id }.bytes());
            out.put_slice(piece);
            if rest.is_empty() {
                break;
            }
        }
        self.wake_task();
    }

    /// Queues a header block.
    fn put_head(&mut self, id: u32, end: bool, fields: impl FnOnce(&mut Encoder, &mut BytesMut)) {
        self.guard.earn();
        let max = self.peer.max_frame;
        let begin = self.out().len();
        let (out, encoder) = (&mut self.out, &mut self.encoder);
        out.put_slice(&[0; HEAD]);
        encoder.start(out);
        fields(encoder, out);
        let len = out.len() - begin - HEAD;
        let end = if end { flag::END_STREAM } else { 0 };
        if len <= max {
            let head = Head { len, kind: kind::HEADERS, flags: flag::END_HEADERS | end, stream: id };
            out[begin..begin + HEAD].copy_from_slice(&head.bytes());
        } else {
            split_head(out, begin, max, id, end);
        }
        self.wake_task();
    }

    /// Looks for streams whose reader does not read: to be called every few seconds. Of those that hold
    /// too much in sum some are reset; false: all stall, and the connection should be closed.
    pub(in super::super) fn look_for_stalls(&mut self) -> bool {
        if self.streams.tidy() {
            self.waiting = VecDeque::new();
            return true;
        }
        let (mut held, mut moving) = (0, false);
        let streams = &self.streams;
        self.waiting.retain(|&(slot, id)| streams.get(slot).id == id);
        let waiting: Vec<u32> = self.waiting.iter().map(|&(slot, _)| slot).collect();
        for slot in waiting {
            let stream = self.streams.get_mut(slot);
            let bytes = stream.outbox.bytes + stream.wanted;
            if bytes == 0 || stream.is_closed() {
                continue;
            }
            stream.stalled = if std::mem::take(&mut stream.moved) { 0 } else { stream.stalled + 1 };
            if stream.stalled == 0 {
                moving = true;
                continue;
            }
            moving |= stream.stalled < STALLED_LOOKS;
            held += bytes;
            if held > STALLED_BYTES {
                held -= bytes;
                self.reset(slot, Reason::ENHANCE_YOUR_CALM);
            }
        }
        moving || held < STALLED_CONNECTION_BYTES
    }
}

/// Remembers whom to wake.
#[inline]
pub(in super::super) fn register(place: &mut Option<std::task::Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        place => *place = Some(cx.waker().clone()),
    }
}

fn put_status(encoder: &mut Encoder, status: StatusCode, out: &mut BytesMut) {
    if status == StatusCode::OK {
        return encoder.pseudo(Pseudo::Status, &STATUS_OK, out);
    }
    let value = HeaderValue::from_str(status.as_str()).expect("three digits are a header value");
    encoder.pseudo(Pseudo::Status, &value, out);
}

fn put_fields(
    encoder: &mut Encoder,
    fields: &Fields,
    extra: &[(HeaderName, HeaderValue)],
    out: &mut BytesMut,
) {
    for (name, value) in fields.iter() {
        if !extra.iter().any(|(other, _)| other == name) {
            encoder.field(name, value, out);
        }
    }
    for (name, value) in extra {
        encoder.field(name, value, out);
    }
}

/// Cuts a block that is longer than a frame into HEADERS and CONTINUATION.
fn split_head(out: &mut BytesMut, begin: usize, max: usize, id: u32, end: u8) {
    let block = out[begin + HEAD..].to_vec();
    out.truncate(begin);
    let pieces = block.chunks(max);
    let count = pieces.len();
    for (at, piece) in pieces.enumerate() {
        let kind = if at == 0 { kind::HEADERS } else { kind::CONTINUATION };
        let last = if at + 1 == count { flag::END_HEADERS } else { 0 };
        let first = if at == 0 { end } else { 0 };
        out.put_slice(&Head { len: piece.len(), kind, flags: first | last, stream: id }.bytes());
        out.put_slice(piece);
    }
}

/// The role decides who answers whom.
impl Role {
    /// Ids of the peer's streams are odd for a server, even for a client.
    pub(super) const fn is_peers(self, id: u32) -> bool {
        (id % 2 == 1) == matches!(self, Self::Server)
    }
}
