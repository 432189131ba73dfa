//! What went wrong, who said so, and was anything processed?
//!
//! [`Reason`] is the code on the wire (RFC 9113, section 7). [`Error`] adds where it came from: a proxy
//! decides about trying again by exactly that.

use std::{fmt, io};

/// An error code of HTTP/2.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason(u32);

impl Reason {
    /// No error: a graceful end.
    pub const NO_ERROR: Self = Self(0);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// Something broke on this side.
    pub const INTERNAL_ERROR: Self = Self(2);
    /// The peer sent more than its window.
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    /// Settings were not acknowledged in time.
    pub const SETTINGS_TIMEOUT: Self = Self(4);
    /// A frame came after the end of its stream.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A frame has an impossible size.
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    /// The stream was not processed.
    pub const REFUSED_STREAM: Self = Self(7);
    /// The stream is not wanted any more.
    pub const CANCEL: Self = Self(8);
    /// A header block cannot be decoded.
    pub const COMPRESSION_ERROR: Self = Self(9);
    /// The peer asks for too much.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);

    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
}

impl From<u32> for Reason {
    fn from(code: u32) -> Self {
        Self(code)
    }
}

impl From<Reason> for u32 {
    fn from(reason: Reason) -> Self {
        reason.0
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "reason {}", self.0),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Who ended a stream or a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// This side.
    Us,
    /// The peer.
    Peer,
}

/// Why a stream or a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error(pub(super) Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One stream was reset.
    Reset(Reason, By),
    /// The connection goes away: from the peer it says that the stream was not processed.
    GoAway(Reason, By),
    /// The socket broke or ended.
    Io(io::ErrorKind),
    /// The handle was used after the end of its stream.
    Closed,
}

impl Error {
    pub(super) const fn reset(reason: Reason, by: By) -> Self {
        Self(Kind::Reset(reason, by))
    }

    pub(super) const fn go_away(reason: Reason, by: By) -> Self {
        Self(Kind::GoAway(reason, by))
    }

    pub(super) const fn io(kind: io::ErrorKind) -> Self {
        Self(Kind::Io(kind))
    }

    #[cfg(test)]
    pub(crate) const fn reset_by_peer(reason: Reason) -> Self {
        Self::reset(reason, By::Peer)
    }

    pub(super) const CLOSED: Self = Self(Kind::Closed);

    /// The peer said so.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        matches!(self.0, Kind::Reset(_, By::Peer) | Kind::GoAway(_, By::Peer))
    }

    /// One stream was reset.
    #[must_use]
    pub const fn is_reset(&self) -> bool {
        matches!(self.0, Kind::Reset(..))
    }

    /// GOAWAY was said. From the peer it means that the stream was not processed.
    #[must_use]
    pub const fn is_go_away(&self) -> bool {
        matches!(self.0, Kind::GoAway(..))
    }

    /// The socket broke or ended.
    #[must_use]
    pub const fn is_io(&self) -> bool {
        matches!(self.0, Kind::Io(_))
    }

    /// The code, where one was said.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self.0 {
            Kind::Reset(reason, _) | Kind::GoAway(reason, _) => Some(reason),
            Kind::Io(_) | Kind::Closed => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Reset(reason, By::Us) => write!(f, "stream reset: {reason}"),
            Kind::Reset(reason, By::Peer) => write!(f, "stream reset by the peer: {reason}"),
            Kind::GoAway(reason, By::Us) => write!(f, "connection given up: {reason}"),
            Kind::GoAway(reason, By::Peer) => write!(f, "the peer goes away: {reason}"),
            Kind::Io(kind) => write!(f, "connection lost: {kind}"),
            Kind::Closed => f.write_str("the stream has ended"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::io(error.kind())
    }
}
