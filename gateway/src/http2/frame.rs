//! What does a frame look like on the wire?
//!
//! Heads and the small frames of RFC 9113, sections 4 and 6. Nothing here knows of connections.

use super::error::Reason;
use bytes::{BufMut as _, BytesMut};

/// What a client says first.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;
/// Windows that nobody has changed yet.
pub(super) const DEFAULT_WINDOW: u32 = 65_535;
/// The smallest limit of a frame's length, and the one that we keep to as a receiver.
pub(super) const MIN_MAX_FRAME: u32 = 16_384;
/// The largest window, and the largest stream id.
pub(super) const MAX_31: u32 = (1 << 31) - 1;

pub(super) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

pub(super) mod flag {
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

pub(super) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) len: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    /// Reads the head that `bytes` begin with; `None`: it is not complete.
    #[inline]
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD] = bytes.first_chunk()?;
        Some(Self {
            len: usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]),
            kind: head[3],
            flags: head[4],
            stream: number(&[head[5], head[6], head[7], head[8]]) & MAX_31,
        })
    }

    /// The head as it goes on the wire.
    #[inline]
    pub(super) const fn bytes(self) -> [u8; HEAD] {
        let len = (self.len as u32).to_be_bytes();
        let id = self.stream.to_be_bytes();
        [len[1], len[2], len[3], self.kind, self.flags, id[0], id[1], id[2], id[3]]
    }

    #[inline]
    pub(super) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Four bytes as a number.
#[inline]
pub(super) const fn number(bytes: &[u8; 4]) -> u32 {
    u32::from_be_bytes(*bytes)
}

/// The payload without its padding.
pub(super) fn unpadded(head: Head, payload: &[u8]) -> Result<&[u8], Reason> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or(Reason::FRAME_SIZE_ERROR)?;
    let len = rest.len().checked_sub(usize::from(padding)).ok_or(Reason::PROTOCOL_ERROR)?;
    Ok(&rest[..len])
}

/// Settings in the order of a SETTINGS frame; a length that is no multiple of six was refused before.
pub(super) fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    let (entries, _) = payload.as_chunks::<6>();
    entries.iter().map(|entry| {
        (u16::from_be_bytes([entry[0], entry[1]]), number(&[entry[2], entry[3], entry[4], entry[5]]))
    })
}

pub(super) fn put_settings(out: &mut BytesMut, settings: &[(u16, u32)]) {
    let head = Head { len: settings.len() * 6, kind: kind::SETTINGS, flags: 0, stream: 0 };
    out.put_slice(&head.bytes());
    for &(id, value) in settings {
        out.put_u16(id);
        out.put_u32(value);
    }
}

pub(super) fn put_settings_ack(out: &mut BytesMut) {
    out.put_slice(&Head { len: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 }.bytes());
}

pub(super) fn put_ping(out: &mut BytesMut, flags: u8, payload: [u8; 8]) {
    out.put_slice(&Head { len: 8, kind: kind::PING, flags, stream: 0 }.bytes());
    out.put_slice(&payload);
}

pub(super) fn put_window_update(out: &mut BytesMut, stream: u32, increment: u32) {
    out.put_slice(&Head { len: 4, kind: kind::WINDOW_UPDATE, flags: 0, stream }.bytes());
    out.put_u32(increment);
}

pub(super) fn put_reset(out: &mut BytesMut, stream: u32, reason: Reason) {
    out.put_slice(&Head { len: 4, kind: kind::RST_STREAM, flags: 0, stream }.bytes());
    out.put_u32(reason.into());
}

pub(super) fn put_goaway(out: &mut BytesMut, last: u32, reason: Reason) {
    out.put_slice(&Head { len: 8, kind: kind::GOAWAY, flags: 0, stream: 0 }.bytes());
    out.put_u32(last);
    out.put_u32(reason.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_survive_the_wire() {
        let head = Head { len: 0x01_0203, kind: kind::DATA, flags: flag::PADDED, stream: 0x7fff_fffe };
        let mut bytes = head.bytes();
        assert_eq!(Head::parse(&bytes), Some(head));
        // The reserved bit is nobody's business.
        bytes[5] |= 0x80;
        assert_eq!(Head::parse(&bytes), Some(head));
        assert_eq!(Head::parse(&bytes[..8]), None);
    }

    #[test]
    fn padding_is_taken_off_and_judged() {
        let head = |flags| Head { len: 0, kind: kind::DATA, flags, stream: 1 };
        assert_eq!(unpadded(head(0), b"\x09abc"), Ok(&b"\x09abc"[..]));
        assert_eq!(unpadded(head(flag::PADDED), b"\x02abcd"), Ok(&b"ab"[..]));
        assert_eq!(unpadded(head(flag::PADDED), b"\x04abcd"), Ok(&b""[..]));
        assert_eq!(unpadded(head(flag::PADDED), b"\x05abcd"), Err(Reason::PROTOCOL_ERROR));
        assert_eq!(unpadded(head(flag::PADDED), b""), Err(Reason::FRAME_SIZE_ERROR));
    }

    #[test]
    fn settings_are_read_as_they_are_written() {
        let mut out = BytesMut::new();
        let wanted = [(setting::INITIAL_WINDOW_SIZE, 7), (0xfff, u32::MAX)];
        put_settings(&mut out, &wanted);
        assert_eq!(settings(&out[HEAD..]).collect::<Vec<_>>(), wanted);
    }
}
