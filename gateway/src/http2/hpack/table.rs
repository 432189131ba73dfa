//! Which fields need no spelling out?
//!
//! The static table (RFC 7541, Appendix A) and the dynamic one: fields in the order in which they came,
//! newest first, the oldest forgotten when their sizes add up to more than the table may hold.

use super::{Name, Pseudo};
use http::{HeaderName, HeaderValue};
use std::{collections::VecDeque, sync::LazyLock};

/// Size of a field beyond its name and value (RFC 7541, 4.1).
pub(super) const OVERHEAD: usize = 32;

/// Name and value by index, from 1.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""),
    ("content-length", ""), ("content-location", ""), ("content-range", ""), ("content-type", ""),
    ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""),
];

/// The static table, ready to be handed out.
static ENTRIES: LazyLock<Vec<(Name, HeaderValue)>> = LazyLock::new(|| {
    let entry = |&(name, value): &(&'static str, &'static str)| {
        let pseudo = Pseudo::of(name.as_bytes()).map(Name::Pseudo);
        let name = pseudo.unwrap_or_else(|| Name::Field(HeaderName::from_static(name)));
        (name, HeaderValue::from_static(value))
    };
    STATIC.iter().map(entry).collect()
});

/// How many indexes the static table takes.
pub(super) const STATIC_LEN: usize = STATIC.len();

/// Index of an ordinary field's name in the static table.
pub(super) fn static_name(name: &HeaderName) -> Option<usize> {
    // Ordinary fields stand in the alphabet's order but for one pair.
    let name = name.as_str();
    STATIC[14..].iter().position(|(known, _)| *known == name).map(|at| at + 15)
}

/// Index of a pseudo-header field in the static table, and whether its value stands there, too.
pub(super) fn static_pseudo(name: Pseudo, value: &[u8]) -> Option<(usize, bool)> {
    let (first, values): (usize, &[&[u8]]) = match name {
        // It stands there with an empty value, which nobody sends.
        Pseudo::Authority => (1, &[]),
        Pseudo::Method => (2, &[b"GET", b"POST"]),
        Pseudo::Path => (4, &[b"/", b"/index.html"]),
        Pseudo::Scheme => (6, &[b"http", b"https"]),
        Pseudo::Status => (8, &[b"200", b"204", b"206", b"304", b"400", b"404", b"500"]),
        Pseudo::Protocol => return None,
    };
    let at = values.iter().position(|known| *known == value);
    Some(at.map_or((first, false), |at| (first + at, true)))
}

/// Size of a field in a table.
pub(super) fn size(name: &str, value: &HeaderValue) -> usize {
    name.len() + value.len() + OVERHEAD
}

/// A dynamic table with what its owner keeps beside each field.
#[derive(Debug)]
pub(super) struct Dynamic<T> {
    fields: VecDeque<Entry<T>>,
    size: usize,
    max: usize,
}

/// A field of a dynamic table.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) name: Name,
    pub(super) value: HeaderValue,
    pub(super) size: usize,
    pub(super) beside: T,
}

impl<T> Dynamic<T> {
    pub(super) const fn new(max: usize) -> Self {
        Self { fields: VecDeque::new(), size: 0, max }
    }

    pub(super) const fn max(&self) -> usize {
        self.max
    }

    /// Changes what it may hold.
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.shrink_to(max);
    }

    /// Adds a field; one that is larger than the table empties it.
    pub(super) fn add(&mut self, entry: Entry<T>) {
        self.shrink_to(self.max.saturating_sub(entry.size));
        if entry.size <= self.max {
            self.size += entry.size;
            self.fields.push_front(entry);
        }
    }

    fn shrink_to(&mut self, limit: usize) {
        while self.size > limit {
            let Some(oldest) = self.fields.pop_back() else { return };
            self.size -= oldest.size;
        }
    }

    /// The fields, newest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<T>> {
        self.fields.iter()
    }

    /// A field of either table by its index on the wire, with what is kept beside one of the dynamic.
    pub(super) fn get(&self, index: usize) -> Option<(&Name, &HeaderValue, Option<&T>)> {
        if let Some(at) = index.checked_sub(STATIC_LEN + 1) {
            return self.fields.get(at).map(|entry| (&entry.name, &entry.value, Some(&entry.beside)));
        }
        ENTRIES.get(index.checked_sub(1)?).map(|(name, value)| (name, value, None))
    }
}
