//! What does a header block say?

use super::{
    Error, Name, Pseudo, huffman,
    table::{self, Dynamic, Entry},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue};

/// Reads the header blocks of one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    table: Dynamic<Characters>,
    /// What we allow the peer's table to hold.
    allowed: usize,
}

/// What was noticed of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// Size of all fields (RFC 9113, 10.5.1). Fields that would exceed the limit were not handed over.
    pub list_size: usize,
    /// A name or value has characters that it must not have: the message is malformed.
    pub malformed: bool,
}

/// Are a field's characters those that a field may have?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Characters {
    Good,
    /// Its name had so many bytes.
    Bad {
        name_len: usize,
    },
}

/// How a literal is to be kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Literal {
    Indexed,
    Plain,
    NeverIndexed,
}

impl Decoder {
    /// A decoder whose table holds at most so many bytes, as our settings tell the peer.
    #[must_use]
    pub const fn new(allowed: usize) -> Self {
        Self { table: Dynamic::new(allowed), allowed }
    }

    /// Decodes a complete block and hands over its fields in order, until they are larger than
    /// `max_list` in sum; the table follows to the end of the block in any case.
    ///
    /// # Errors
    /// The block breaks the compression: the connection must end.
    pub fn decode(
        &mut self,
        mut block: &[u8],
        max_list: usize,
        mut sink: impl FnMut(Name, HeaderValue),
    ) -> Result<Decoded, Error> {
        let mut decoded = Decoded { list_size: 0, malformed: false };
        let mut emit = |decoded: &mut Decoded, name: &Name, value: &HeaderValue| {
            decoded.list_size += table::size(name.as_str(), value);
            if decoded.list_size <= max_list {
                sink(name.clone(), value.clone());
            }
        };
        let mut begun = false;
        while let Some(&first) = block.first() {
            if first & 0xe0 == 0x20 {
                self.size_update(&mut block, begun)?;
                continue;
            }
            begun = true;
            if first & 0x80 != 0 {
                let index = integer(&mut block, 7)?;
                match self.table.get(index).ok_or(Error::IndexUnknown)? {
                    (_, _, Some(Characters::Bad { .. })) => decoded.malformed = true,
                    (name, value, _) => emit(&mut decoded, name, value),
                }
                continue;
            }
            let (literal, prefix) = match first {
                _ if first & 0x40 != 0 => (Literal::Indexed, 6),
                _ if first & 0x10 != 0 => (Literal::NeverIndexed, 4),
                _ => (Literal::Plain, 4),
            };
            let Some((name, value)) = self.literal(&mut block, literal, prefix)? else {
                decoded.malformed = true;
                continue;
            };
            emit(&mut decoded, &name, &value);
            if literal == Literal::Indexed {
                let size = table::size(name.as_str(), &value);
                self.table.add(Entry { name, value, size, beside: Characters::Good });
            }
        }
        Ok(decoded)
    }

    fn size_update(&mut self, block: &mut &[u8], begun: bool) -> Result<(), Error> {
        let size = integer(block, 5)?;
        if begun || size > self.allowed {
            return Err(Error::TableSize);
        }
        self.table.resize(size);
        Ok(())
    }

    /// A field that is spelled out; `None` if its characters are bad. The peer has such a field in its
    /// table, too: one of the same size takes its place in ours, and is refused again when it is
    /// referred to.
    fn literal(
        &mut self,
        block: &mut &[u8],
        literal: Literal,
        prefix: u8,
    ) -> Result<Option<(Name, HeaderValue)>, Error> {
        let index = integer(block, prefix)?;
        let (name, name_len) = if index == 0 {
            let text = string(block)?;
            (name_of(&text), text.len())
        } else {
            match self.table.get(index).ok_or(Error::IndexUnknown)? {
                (_, _, Some(&Characters::Bad { name_len })) => (None, name_len),
                (name, _, _) => (Some(name.clone()), name.as_str().len()),
            }
        };
        let text = string(block)?;
        let value_len = text.len();
        let value = HeaderValue::from_maybe_shared(text).ok();
        if let (Some(name), Some(mut value)) = (name, value) {
            value.set_sensitive(literal == Literal::NeverIndexed);
            return Ok(Some((name, value)));
        }
        if literal == Literal::Indexed {
            let size = name_len + value_len + table::OVERHEAD;
            let (name, value) = (Name::Pseudo(Pseudo::Path), HeaderValue::from_static(""));
            self.table.add(Entry { name, value, size, beside: Characters::Bad { name_len } });
        }
        Ok(None)
    }
}

fn name_of(text: &Bytes) -> Option<Name> {
    if text.first() == Some(&b':') {
        return Pseudo::of(text).map(Name::Pseudo);
    }
    HeaderName::from_lowercase(text).ok().map(Name::Field)
}

/// An integer whose first byte has `prefix` bits for it (RFC 7541, 5.1). At most four bytes follow:
/// nothing that is longer could be in a block.
fn integer(block: &mut &[u8], prefix: u8) -> Result<usize, Error> {
    let mask = (1usize << prefix) - 1;
    let mut value = usize::from(next(block)?) & mask;
    if value < mask {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = next(block)?;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Error::IntegerTooLarge)
}

fn next(block: &mut &[u8]) -> Result<u8, Error> {
    let (&first, rest) = block.split_first().ok_or(Error::Truncated)?;
    *block = rest;
    Ok(first)
}

/// A string, plain or Huffman-coded (RFC 7541, 5.2).
fn string(block: &mut &[u8]) -> Result<Bytes, Error> {
    let coded = block.first().ok_or(Error::Truncated)? & 0x80 != 0;
    let len = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(len).ok_or(Error::Truncated)?;
    *block = rest;
    if !coded {
        return Ok(Bytes::copy_from_slice(text));
    }
    let mut plain = BytesMut::new();
    huffman::decode(text, &mut plain)?;
    Ok(plain.freeze())
}
