//! How is a field said in few bytes?
//!
//! A field takes a place in the peer's table when it comes a second time: what is said once (a trace
//! id, a time that is left) never drives out what is said in every call.

use super::{
    DEFAULT_TABLE, Name, Pseudo, huffman,
    table::{self, Dynamic, Entry, STATIC_LEN},
};
use bytes::{BufMut as _, BytesMut};
use http::{HeaderName, HeaderValue};

/// Fields that were said lately, by some bits of their hash.
const LATELY: usize = 64;

/// Writes the header blocks of one direction of a connection.
#[derive(Debug)]
pub struct Encoder {
    table: Dynamic<u32>,
    /// Hashes of fields that were said once.
    said: [u32; LATELY],
    /// The smallest size since the last block that the peer has not been told, and that it must be.
    untold: Option<usize>,
}

/// A field to be written.
#[derive(Clone, Copy)]
enum Field<'a> {
    Pseudo(Pseudo),
    Named(&'a HeaderName),
}

impl Field<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Pseudo(pseudo) => pseudo.as_str(),
            Self::Named(name) => name.as_str(),
        }
    }

    fn is(&self, name: &Name) -> bool {
        match (self, name) {
            (Self::Pseudo(a), Name::Pseudo(b)) => a == b,
            (Self::Named(a), Name::Field(b)) => *a == b,
            _ => false,
        }
    }

    fn to_name(self) -> Name {
        match self {
            Self::Pseudo(pseudo) => Name::Pseudo(pseudo),
            Self::Named(name) => Name::Field(name.clone()),
        }
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder for a peer that has said nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { table: Dynamic::new(DEFAULT_TABLE), said: [0; LATELY], untold: None }
    }

    /// The peer says how much its table may hold. More than the default is not used.
    pub fn resize(&mut self, peer_max: usize) {
        let max = peer_max.min(DEFAULT_TABLE);
        if max != self.table.max() {
            self.untold = Some(self.untold.unwrap_or(max).min(max));
            self.table.resize(max);
        }
    }

    /// Begins a block.
    pub fn start(&mut self, out: &mut BytesMut) {
        if let Some(smallest) = self.untold.take() {
            if smallest < self.table.max() {
                integer(0x20, 5, smallest, out);
            }
            integer(0x20, 5, self.table.max(), out);
        }
    }

    /// Writes a pseudo-header field.
    pub fn pseudo(&mut self, name: Pseudo, value: &HeaderValue, out: &mut BytesMut) {
        match table::static_pseudo(name, value.as_bytes()) {
            Some((index, true)) => integer(0x80, 7, index, out),
            known => self.write(Field::Pseudo(name), value, || known.map(|(index, _)| index), out),
        }
    }

    /// Writes an ordinary field.
    pub fn field(&mut self, name: &HeaderName, value: &HeaderValue, out: &mut BytesMut) {
        self.write(Field::Named(name), value, || table::static_name(name), out);
    }

    fn write(
        &mut self,
        field: Field<'_>,
        value: &HeaderValue,
        static_index: impl FnOnce() -> Option<usize>,
        out: &mut BytesMut,
    ) {
        // Most values came out of a table and go into this one in call after call: the same memory.
        let text = value.as_bytes();
        let known = |entry: &Entry<u32>| std::ptr::eq(entry.value.as_bytes(), text) && field.is(&entry.name);
        if let Some(at) = self.table.iter().position(known) {
            return integer(0x80, 7, STATIC_LEN + 1 + at, out);
        }
        let hash = hash(field.as_str().as_bytes(), text);
        let same =
            |entry: &Entry<u32>| entry.beside == hash && field.is(&entry.name) && entry.value == *value;
        if let Some(at) = self.table.iter().position(same) {
            return integer(0x80, 7, STATIC_LEN + 1 + at, out);
        }
        let index = static_index().or_else(|| {
            self.table.iter().position(|entry| field.is(&entry.name)).map(|at| STATIC_LEN + 1 + at)
        });
        let size = table::size(field.as_str(), value);
        let said = &mut self.said[hash as usize % LATELY];
        let again = std::mem::replace(said, hash) == hash;
        let keep = again && !value.is_sensitive() && size <= self.table.max() / 2;
        let (pattern, prefix) = match (keep, value.is_sensitive()) {
            (true, _) => (0x40, 6),
            (false, true) => (0x10, 4),
            (false, false) => (0x00, 4),
        };
        integer(pattern, prefix, index.unwrap_or(0), out);
        if index.is_none() {
            string(field.as_str().as_bytes(), out);
        }
        string(value.as_bytes(), out);
        if keep {
            self.table.add(Entry { name: field.to_name(), value: value.clone(), size, beside: hash });
        }
    }
}

/// Never zero, which stands for nothing said.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    let mut state = name.len() as u64 ^ 0x9e37_79b9_7f4a_7c15;
    for text in [name, value] {
        let mut words = text.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes(word.try_into().expect("chunks of eight bytes"));
            state = (state ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
        }
        let tail = words.remainder().iter().fold(1u64, |tail, &byte| tail << 8 | u64::from(byte));
        state = (state ^ tail).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
    }
    (state >> 32) as u32 | 1
}

/// An integer whose first byte has `prefix` bits for it (RFC 7541, 5.1).
fn integer(pattern: u8, prefix: u8, value: usize, out: &mut BytesMut) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        return out.put_u8(pattern | value as u8);
    }
    out.put_u8(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.put_u8(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// A string, coded where that makes it shorter.
fn string(text: &[u8], out: &mut BytesMut) {
    let coded = huffman::coded_len(text);
    if coded < text.len() {
        integer(0x80, 7, coded, out);
        huffman::encode(text, out);
    } else {
        integer(0x00, 7, text.len(), out);
        out.put_slice(text);
    }
}
