//! What does a header block mean for its stream?
//!
//! Decodes a complete block, judges pseudo-header and connection-specific fields (RFC 9113, sections 8.2
//! and 8.3), and opens a stream, answers one, or ends it with trailers. The block is decoded in every
//! case: the compression of the next one depends on it.

use super::{By, Error, Frame, Inner, MAX_31, Phase, Reason, Recv, Role, Send};
use crate::http2::{
    fields::Fields,
    frame,
    hpack::{Name, Pseudo},
    stream::{Head, Start},
};
use http::{HeaderName, HeaderValue, StatusCode, header};

/// Fields that an ordinary message has.
const FIELDS: usize = 8;

/// A decoded block.
#[derive(Debug, Default)]
struct Block {
    method: Option<HeaderValue>,
    scheme: Option<HeaderValue>,
    authority: Option<HeaderValue>,
    path: Option<HeaderValue>,
    status: Option<HeaderValue>,
    headers: Fields,
    malformed: bool,
    /// The size of its fields is over the limit.
    too_large: bool,
}

impl Block {
    fn add(&mut self, name: Name, value: HeaderValue) {
        match name {
            Name::Field(name) => {
                if is_connection_specific(&name, &value) {
                    self.malformed = true;
                } else {
                    self.headers.append(name, value);
                }
            }
            Name::Pseudo(pseudo) => {
                let place = match pseudo {
                    Pseudo::Method => &mut self.method,
                    Pseudo::Scheme => &mut self.scheme,
                    Pseudo::Authority => &mut self.authority,
                    Pseudo::Path => &mut self.path,
                    Pseudo::Status => &mut self.status,
                    // Extended CONNECT is not offered.
                    Pseudo::Protocol => return self.malformed = true,
                };
                // Twice, or after an ordinary field.
                if place.replace(value).is_some() || !self.headers.is_empty() {
                    self.malformed = true;
                }
            }
        }
    }

    const fn has_pseudo(&self) -> bool {
        self.method.is_some()
            || self.scheme.is_some()
            || self.authority.is_some()
            || self.path.is_some()
            || self.status.is_some()
    }

    fn into_request(self) -> Option<Head> {
        let path = self.path.filter(|path| !path.is_empty());
        match (self.malformed, self.method, self.scheme, path, self.status) {
            (false, Some(method), Some(_), Some(path), None) => {
                Some(Head { method, path, headers: self.headers })
            }
            _ => None,
        }
    }

    fn into_response(self) -> Option<(StatusCode, Fields)> {
        let asks =
            self.method.is_some() || self.scheme.is_some() || self.path.is_some() || self.authority.is_some();
        let status = self.status.as_ref().and_then(|value| StatusCode::from_bytes(value.as_bytes()).ok())?;
        (!self.malformed && !asks).then_some((status, self.headers))
    }

    fn into_trailers(self) -> Option<Fields> {
        (!self.malformed && !self.has_pseudo()).then_some(self.headers)
    }
}

/// Fields that belong to one hop of HTTP/1 (RFC 9113, section 8.2.2).
fn is_connection_specific(name: &HeaderName, value: &HeaderValue) -> bool {
    match *name {
        header::TE => value != "trailers",
        header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE => true,
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection"),
    }
}

impl Inner {
    /// Acts on a complete header block.
    ///
    /// # Errors
    /// The connection cannot go on.
    pub(super) fn block(&mut self, id: u32, end: bool, block: &[u8]) -> Result<(), Reason> {
        let limit = self.config.header_list as usize;
        let mut fields = Block { headers: Fields::with_capacity(FIELDS), ..Block::default() };
        let decoded = self.decoder.decode(block, limit, |name, value| fields.add(name, value));
        let decoded = decoded.map_err(|_| Reason::COMPRESSION_ERROR)?;
        fields.malformed |= decoded.malformed;
        fields.too_large = decoded.list_size > limit;
        match (self.streams.find(id), self.role) {
            (Some(slot), Role::Client) if self.streams.get(slot).recv == Recv::Head => {
                self.response(id, slot, end, fields)
            }
            (Some(slot), _) => self.trailers(id, slot, end, fields),
            (None, Role::Server) if id > self.last_id => self.request(id, end, fields),
            (None, _) => self.guard.count(Frame::Late, self.now_ms),
        }
    }

    /// A new stream of the client.
    fn request(&mut self, id: u32, end: bool, fields: Block) -> Result<(), Reason> {
        // Also of those that are ignored: the rest of such a stream is late, not wrong.
        self.last_id = id;
        if let Phase::Leaving { last, .. } = self.phase
            && last != MAX_31
        {
            // It was told, and tries elsewhere.
            return Ok(());
        }
        let most = self.config.streams as usize;
        // Streams that were reset while their calls still tidy up count, too, to a point.
        if self.streams.active() >= most || self.streams.held() >= 2 * most {
            frame::put_reset(self.out(), id, Reason::REFUSED_STREAM);
            return self.guard.count(Frame::Refused, self.now_ms);
        }
        if fields.too_large {
            self.answer_status(id, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
            if !end {
                frame::put_reset(self.out(), id, Reason::NO_ERROR);
            }
            return self.guard.count(Frame::Provoked, self.now_ms);
        }
        let Some(start) = fields.into_request() else {
            return self.refuse_frame(id, None, Reason::PROTOCOL_ERROR);
        };
        let (allowance, credit) = self.windows();
        let slot = self.streams.insert(id, allowance, credit);
        let stream = self.streams.get_mut(slot);
        (stream.recv, stream.send) = (if end { Recv::Ended } else { Recv::Body }, Send::Head);
        // Held by the queue until it is handed over.
        stream.handles = 1;
        stream.opened_ms = self.now_ms;
        stream.start = Some(Start::Request(start));
        self.accepted.push_back(slot);
        Ok(())
    }

    /// The beginning of an answer.
    fn response(&mut self, id: u32, slot: u32, end: bool, fields: Block) -> Result<(), Reason> {
        let too_large = fields.too_large;
        let Some((status, headers)) = fields.into_response().filter(|_| !too_large) else {
            return self.refuse_frame(id, Some(slot), Reason::PROTOCOL_ERROR);
        };
        if status.is_informational() {
            // The real answer follows, and one that does not is malformed.
            return if end { self.refuse_frame(id, Some(slot), Reason::PROTOCOL_ERROR) } else { Ok(()) };
        }
        let stream = self.streams.get_mut(slot);
        stream.recv = if end { Recv::Ended } else { Recv::Body };
        stream.start = Some(Start::Response(status, headers));
        stream.wake_reader();
        if end {
            self.settle(slot);
        }
        Ok(())
    }

    /// Trailers end the peer's half.
    fn trailers(&mut self, id: u32, slot: u32, end: bool, fields: Block) -> Result<(), Reason> {
        let stream = self.streams.get_mut(slot);
        if stream.recv != Recv::Body {
            return self.refuse_frame(id, Some(slot), Reason::STREAM_CLOSED);
        }
        let too_large = fields.too_large;
        let Some(trailers) = fields.into_trailers().filter(|_| end && !too_large) else {
            return self.refuse_frame(id, Some(slot), Reason::PROTOCOL_ERROR);
        };
        stream.recv = Recv::Ended;
        stream.trailers = Some(trailers);
        stream.wake_reader();
        self.settle(slot);
        Ok(())
    }

    /// The peer resets a stream.
    pub(super) fn reset_by_peer(&mut self, slot: u32, reason: Reason) -> Result<(), Reason> {
        let stream = self.streams.get(slot);
        let young = self.now_ms.wrapping_sub(stream.opened_ms) < crate::http2::guard::YOUNG_MS;
        let frame = if young { Frame::RapidReset } else { Frame::Reset };
        self.break_stream(slot, Error::reset(reason, By::Peer));
        self.guard.count(frame, self.now_ms)
    }
}
