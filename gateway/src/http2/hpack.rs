//! How do header fields become bytes, and bytes header fields?
//!
//! HPACK (RFC 7541) for one connection: a [`Decoder`] for the blocks that arrive, an [`Encoder`] for
//! those that leave, each with a dynamic table of its own. A field that the table knows costs one byte
//! on the wire and a look-up here; such values share memory with the table and are not copied on their
//! way through the gateway.
//!
//! What the fields mean is not decided here: names and values are checked for their characters, no more.

mod decode;
mod encode;
mod huffman;
mod table;

pub use decode::{Decoded, Decoder};
pub use encode::Encoder;

use http::HeaderName;

/// Bytes that a dynamic table may hold until a peer's settings say otherwise (RFC 9113, 6.5.2).
pub const DEFAULT_TABLE: usize = 4096;

/// A pseudo-header field of a request or a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pseudo {
    /// `:method`
    Method,
    /// `:scheme`
    Scheme,
    /// `:authority`
    Authority,
    /// `:path`
    Path,
    /// `:status`
    Status,
    /// `:protocol` (RFC 8441)
    Protocol,
}

impl Pseudo {
    const ALL: [Self; 6] =
        [Self::Method, Self::Scheme, Self::Authority, Self::Path, Self::Status, Self::Protocol];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => ":method",
            Self::Scheme => ":scheme",
            Self::Authority => ":authority",
            Self::Path => ":path",
            Self::Status => ":status",
            Self::Protocol => ":protocol",
        }
    }

    fn of(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|pseudo| pseudo.as_str().as_bytes() == name)
    }
}

/// Name of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// A pseudo-header field.
    Pseudo(Pseudo),
    /// An ordinary field.
    Field(HeaderName),
}

impl Name {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pseudo(pseudo) => pseudo.as_str(),
            Self::Field(name) => name.as_str(),
        }
    }
}

/// The peer's block breaks the compression: the connection cannot go on (`COMPRESSION_ERROR`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The block ends within a field.
    #[error("the header block ends within a field")]
    Truncated,
    /// An integer is larger than anything that could follow.
    #[error("an integer in the header block is too large")]
    IntegerTooLarge,
    /// No table has such an index.
    #[error("the header block refers to an index that no table has")]
    IndexUnknown,
    /// A Huffman code that does not exist, or padding that is none.
    #[error("a string in the header block is not Huffman-coded as it says")]
    Huffman,
    /// A size update that is larger than allowed, or after the first field.
    #[error("the header block changes the size of the table where or how it must not")]
    TableSize,
}

#[cfg(test)]
mod tests;
