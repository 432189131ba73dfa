//! What do the fields of a message look like between its two ends?
//!
//! A list in the order of the wire. A call has five to ten fields, is asked for three of them and passes
//! on the rest: comparing names is less work than hashing them, and nothing has to be put in order again.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The fields of a request, an answer, or trailers. Names may come more than once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(HeaderName, HeaderValue)>);

impl Fields {
    /// No fields.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// No fields, with memory for some.
    #[must_use]
    pub fn with_capacity(n: usize) -> Self {
        Self(Vec::with_capacity(n))
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// There are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first value of a name.
    #[must_use]
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.get_all(name).next()
    }

    /// All values of a name.
    pub fn get_all(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value)
    }

    /// A name is there.
    #[must_use]
    pub fn contains_key(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// Adds a field behind the others.
    #[inline]
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }

    /// Adds a field instead of those of the same name.
    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        self.remove(&name);
        self.append(name, value);
    }

    /// Removes all fields of a name; the first value.
    pub fn remove(&mut self, name: &HeaderName) -> Option<HeaderValue> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.0.remove(at);
        self.0.retain(|(known, _)| known != name);
        Some(value)
    }

    /// Keeps the fields whose name passes.
    pub fn retain(&mut self, mut keep: impl FnMut(&HeaderName) -> bool) {
        self.0.retain(|(name, _)| keep(name));
    }

    /// Names and values, in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

impl From<Fields> for HeaderMap {
    fn from(fields: Fields) -> Self {
        let mut map = Self::with_capacity(fields.len());
        for (name, value) in fields.0 {
            map.append(name, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_answers_like_a_map() {
        let (a, b) = (HeaderName::from_static("x-a"), HeaderName::from_static("x-b"));
        let value = HeaderValue::from_static;
        let mut fields: Fields =
            [(a.clone(), value("1")), (b.clone(), value("2")), (a.clone(), value("3"))].into_iter().collect();
        assert_eq!(fields.get(&a), Some(&value("1")));
        assert_eq!(fields.get_all(&a).collect::<Vec<_>>(), ["1", "3"]);
        fields.insert(b.clone(), value("4"));
        assert_eq!(fields.remove(&a), Some(value("1")));
        assert_eq!((fields.len(), fields.contains_key(&a), fields.get(&b)), (1, false, Some(&value("4"))));
        assert_eq!(Fields::from(&HeaderMap::from(fields.clone())), fields);
        fields.retain(|name| *name != b);
        assert!(fields.is_empty() && fields.remove(&b).is_none());
    }
}
