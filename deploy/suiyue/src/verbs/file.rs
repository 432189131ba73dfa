//! What does a file that an operator wrote say, and on which line?
//!
//! TOML, read into a type that knows all of its fields. Every complaint names the file, the line and
//! the field, also one that comes later, from a gateway: [`Text::place`] finds the line of a field by
//! its path. `-` is standard input.

use crate::exit::Usage;
use serde::de::DeserializeOwned;
use std::{fs, io, ops::Range, path::Path};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A policy or a shift is small; more than this is another file.
const MAX_BYTES: u64 = 1 << 20;

/// The text of a file, to find lines in.
#[derive(Debug, Clone)]
pub struct Text {
    name: String,
    text: String,
}

/// Reads a file into `T`.
///
/// # Errors
/// [`Usage`] when it cannot be read, is no TOML, or says something that `T` does not know.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<(T, Text), Usage> {
    let name = if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() };
    let text = contents(path).map_err(|error| Usage(format!("{name}: cannot be read: {error}")))?;
    let text = Text { name, text };
    let value = text.parse()?;
    Ok((value, text))
}

fn contents(path: &Path) -> io::Result<String> {
    if path == Path::new("-") {
        return io::read_to_string(io::Read::take(io::stdin().lock(), MAX_BYTES));
    }
    let file = fs::File::open(path)?;
    if file.metadata()?.len() > MAX_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_BYTES} bytes")));
    }
    io::read_to_string(file)
}

impl Text {
    /// What was written, under the name that complaints use.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned() }
    }

    /// Reads the text into `T`.
    ///
    /// # Errors
    /// [`Usage`], naming line and field.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Usage> {
        toml::from_str(&self.text).map_err(|error| {
            let message = error.message().trim().replace('\n', ", ");
            let Some(span) = error.span() else { return Usage(format!("{}: {message}", self.name)) };
            let field = self.field_at(&span).map(|field| format!("{field}: ")).unwrap_or_default();
            Usage(format!("{}:{}: {field}{message}", self.name, self.line(span.start)))
        })
    }

    /// File and line of a field, as in `policy.toml:7`; where the field does not stand in the file, of
    /// what it would stand in.
    #[must_use]
    pub fn place(&self, field: &str) -> String {
        match self.span_of(field) {
            Some(span) => format!("{}:{}", self.name, self.line(span.start)),
            None => self.name.clone(),
        }
    }

    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
    }

    fn span_of(&self, field: &str) -> Option<Range<usize>> {
        let table = DeTable::parse(&self.text).ok()?;
        let mut steps = field.split(['.', '[']).map(|step| step.trim_end_matches(']'));
        let mut found = member(table.get_ref(), steps.next()?)?;
        for step in steps {
            let next = match found.get_ref() {
                DeValue::Table(table) => member(table, step),
                DeValue::Array(array) => step.parse().ok().and_then(|at: usize| array.get(at)),
                _ => None,
            };
            let Some(next) = next else { break };
            found = next;
        }
        Some(found.span())
    }

    /// Path of the innermost field around a span.
    fn field_at(&self, span: &Range<usize>) -> Option<String> {
        let table = DeTable::parse(&self.text).ok()?;
        let path = within(table.get_ref(), span);
        (!path.is_empty()).then_some(path)
    }
}

fn member<'a>(table: &'a DeTable<'_>, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
    table.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value)
}

/// Path of the innermost field of the table around a span, or of the field whose name stands there.
fn within(table: &DeTable<'_>, span: &Range<usize>) -> String {
    for (key, value) in table {
        let deeper = match value.get_ref() {
            DeValue::Table(table) => within(table, span),
            DeValue::Array(array) => array
                .iter()
                .enumerate()
                .find_map(|(at, item)| {
                    let deeper = match item.get_ref() {
                        DeValue::Table(table) => within(table, span),
                        _ => String::new(),
                    };
                    let here = !deeper.is_empty() || holds(&item.span(), span);
                    here.then(
                        || if deeper.is_empty() { format!("[{at}]") } else { format!("[{at}].{deeper}") },
                    )
                })
                .unwrap_or_default(),
            _ => String::new(),
        };
        if !deeper.is_empty() || holds(&key.span(), span) || holds(&value.span(), span) {
            let joint = if deeper.is_empty() || deeper.starts_with('[') { "" } else { "." };
            return format!("{}{joint}{deeper}", key.get_ref());
        }
    }
    String::new()
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end && !inner.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "top = 1\n\n[[weights]]\nnode = \"a\"\nweight = 50\n\n[[weights]]\nnode = \"b\"\nweight = -1\n\n[classes.scan]\nmax_lag_s = 0\n";

    #[test]
    fn a_field_is_found_by_its_path() {
        let text = Text::new("p.toml", TEXT);
        for (field, place) in [
            ("top", "p.toml:1"),
            ("weights[0].weight", "p.toml:5"),
            ("weights[1].node", "p.toml:8"),
            ("weights[1].weight", "p.toml:9"),
            ("classes.scan.max_lag_s", "p.toml:12"),
            // What is not there is looked for in what is.
            ("weights[1].other", "p.toml:7"),
            ("nothing", "p.toml"),
        ] {
            assert_eq!(text.place(field), place, "{field}");
        }
    }

    #[test]
    fn what_cannot_be_read_names_line_and_field() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code, reason = "only reading it is tried")]
        struct Wanted {
            name: Option<String>,
            inner: Option<Inner>,
            list: Option<Vec<Inner>>,
        }
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code, reason = "only reading it is tried")]
        struct Inner {
            number: f64,
        }
        let check = |text: &str, start: &str, word: &str| {
            let error = Text::new("f", text).parse::<Wanted>().unwrap_err().0;
            assert!(error.starts_with(start) && error.contains(word), "{error}");
            assert!(!error.contains('\n'), "{error}");
        };
        check("name = 7", "f:1: name: ", "string");
        check("\nother = 7", "f:2: other: ", "unknown field");
        check("[inner]\n\nnumber = \"x\"", "f:3: inner.number: ", "f64");
        check("[[list]]\nnumber = 1\n[[list]]\nnumbr = 2", "f:4: list[1].numbr: ", "unknown field");
        check("name = \"a\"\n[[list]]\n", "f:2: list[0]: ", "number");
        check("name = \"a\"\nname = \"b\"\n", "f:2: ", "duplicate");
        check("name = \"a\n", "f:1: ", "");
    }
}
