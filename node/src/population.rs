//! Where do holders come from?
//!
//! From a JSONL file, or from a generator that is a pure function of (region, seed, index): a load
//! driver computes the same subjects as the node without asking it.
//! About 1 % of generated holders are yellow and 0.2 % red.
//! A generated subject is no HMAC of anybody: it is for tests and demonstrations only.

use serde::{Deserialize, Serialize};
use std::io::{BufRead, Write};
use suiyue_proto::region::Code;
use suiyue_proto::sy1::Level;

/// A holder, opaque: 16 bytes made by the region's own sign-in.
pub type Subject = [u8; 16];

/// One holder of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Home region.
    pub region: Code,
    /// Who.
    pub subject: Subject,
    /// Level at the time of loading.
    pub level: Level,
}

/// Why a file of holders cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// One line is wrong.
    #[error("{file}, line {line}: {problem}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong and what is wanted.
        problem: String,
    },
}

/// Holder number `index` of the generated population of a region.
#[must_use]
pub fn holder(region: Code, index: u64, seed: u64) -> Holder {
    let subject = subject(region, index, seed);
    let draw = mix(u64::from_le_bytes(half(&subject, 0)) ^ 0x5eed) % 1000;
    let level = match draw {
        0..2 => Level::Red,
        2..12 => Level::Yellow,
        _ => Level::Green,
    };
    Holder { region, subject, level }
}

/// Subject number `index` of the generated population of a region.
#[must_use]
pub fn subject(region: Code, index: u64, seed: u64) -> Subject {
    let start = mix(mix(u64::from(region.get())) ^ seed);
    let first = mix(start ^ index);
    let second = mix(first ^ index.rotate_left(32) ^ start);
    let mut out = [0; 16];
    out[..8].copy_from_slice(&first.to_le_bytes());
    out[8..].copy_from_slice(&second.to_le_bytes());
    out
}

/// Half of a subject, as the eight bytes that hashing uses.
pub(crate) fn half(subject: &Subject, at: usize) -> [u8; 8] {
    let mut out = [0; 8];
    out.copy_from_slice(&subject[at..at + 8]);
    out
}

/// A bijection of 64 bits that spreads every input bit (the finalizer of `SplitMix64`, Steele,
/// Lea and Flood, OOPSLA 2014).
pub(crate) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    region: u32,
    #[serde(borrow)]
    subject: &'a str,
    #[serde(borrow)]
    level: &'a str,
}

/// Writes one holder as a line.
///
/// # Errors
/// Those of the writer.
pub fn write_line(out: &mut impl Write, holder: &Holder) -> std::io::Result<()> {
    let level = word(holder.level);
    writeln!(out, r#"{{"region":{},"subject":"{}","level":"{level}"}}"#, holder.region, hex(&holder.subject))
}

/// Reads holders line by line; empty lines are skipped. Returns how many there were.
///
/// # Errors
/// [`Error`] with the file's name and the line. A subject is never part of it.
pub fn read_lines(file: &str, input: &mut impl BufRead, mut take: impl FnMut(Holder)) -> Result<u64, Error> {
    let (mut text, mut line, mut holders) = (String::new(), 0, 0);
    loop {
        text.clear();
        let read =
            input.read_line(&mut text).map_err(|source| Error::Io { file: file.to_owned(), source })?;
        if read == 0 {
            return Ok(holders);
        }
        line += 1;
        if text.trim().is_empty() {
            continue;
        }
        take(parse(&text).map_err(|problem| Error::Line { file: file.to_owned(), line, problem })?);
        holders += 1;
    }
}

fn parse(text: &str) -> Result<Holder, String> {
    let line: Line<'_> = serde_json::from_str(text).map_err(|e| {
        format!("{e}; a line is {}", r#"{"region":440100,"subject":"<32 hex digits>","level":"green"}"#)
    })?;
    let region = Code::new(line.region).ok_or_else(|| format!("region {} is no region code", line.region))?;
    let subject = unhex(line.subject).ok_or("subject must be 32 hex digits")?;
    let level = Level::ALL
        .into_iter()
        .find(|level| word(*level) == line.level)
        .ok_or_else(|| format!("level {:?} is not known: use green, yellow or red", line.level))?;
    Ok(Holder { region, subject, level })
}

/// The word for a level in files and logs.
#[must_use]
pub const fn word(level: Level) -> &'static str {
    match level {
        Level::Green => "green",
        Level::Yellow => "yellow",
        Level::Red => "red",
    }
}

/// Lower-case hex of a subject, for files and command lines; never for logs.
#[must_use]
pub fn hex(subject: &Subject) -> String {
    format!("{:032x}", u128::from_be_bytes(*subject))
}

/// The subject that 32 hex digits stand for.
#[must_use]
pub fn unhex(text: &str) -> Option<Subject> {
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn guangzhou() -> Code {
        Code::new(440_100).unwrap()
    }

    #[test]
    fn the_population_is_a_function_of_its_arguments() {
        assert_eq!(subject(guangzhou(), 7, 1), subject(guangzhou(), 7, 1));
        let distinct: HashSet<_> = (0..50_000).map(|i| subject(guangzhou(), i, 1)).collect();
        assert_eq!(distinct.len(), 50_000);
        assert_ne!(subject(guangzhou(), 7, 1), subject(guangzhou(), 7, 2));
        assert_ne!(subject(guangzhou(), 7, 1), subject(Code::new(610_100).unwrap(), 7, 1));
    }

    #[test]
    fn about_one_in_a_hundred_is_yellow() {
        let count = |level| (0..100_000).filter(|i| holder(guangzhou(), *i, 1).level == level).count();
        assert!((900..1100).contains(&count(Level::Yellow)));
        assert!((150..250).contains(&count(Level::Red)));
    }

    proptest! {
        #[test]
        fn a_written_line_is_read_again(index: u64, seed: u64) {
            let holder = holder(guangzhou(), index, seed);
            let mut text = Vec::new();
            write_line(&mut text, &holder).unwrap();
            let mut read = Vec::new();
            prop_assert_eq!(read_lines("f", &mut text.as_slice(), |h| read.push(h)).unwrap(), 1);
            prop_assert_eq!(read, vec![holder]);
        }
    }

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let good = r#"{"region":440100,"subject":"00000000000000000000000000000000","level":"green"}"#;
        let text = format!("{good}\n\n{line}\n");
        let error = read_lines("holders.jsonl", &mut text.as_bytes(), |_| ()).unwrap_err().to_string();
        assert!(error.starts_with("holders.jsonl, line 3: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_bad_line_is_named() {
        check("nonsense", "a line is");
        check(
            r#"{"region":1,"subject":"00000000000000000000000000000000","level":"green"}"#,
            "region 1 is no",
        );
        check(r#"{"region":440100,"subject":"zz","level":"green"}"#, "32 hex digits");
        check(
            r#"{"region":440100,"subject":"00000000000000000000000000000000","level":"blue"}"#,
            "use green",
        );
        check(
            r#"{"region":440100,"subject":"00000000000000000000000000000000","level":"red","x":1}"#,
            "unknown field",
        );
    }
}
