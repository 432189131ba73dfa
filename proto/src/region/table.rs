//! How is a code found quickly?
//!
//! The divisions are kept in one sorted vector. A code's place in it stands in
//! an open-addressing index of `u16`s: one multiplication, and as a rule one or
//! two probes. The retired codes are off the path of a good request and
//! are looked up by bisection.
//!
//! The table is compiled in, so a line that cannot be read is a bug in this
//! crate: parsing panics, at the first look-up and in every test.

use super::{Code, Division, Level, Unroutable};

/// Slots of the index, as a power of two: about five slots for each division.
const INDEX_BITS: u32 = 14;
const EMPTY: u16 = u16::MAX;

/// The divisions of today and the codes of yesterday.
#[derive(Debug)]
pub(super) struct Table {
    divisions: Vec<Division>,
    /// For each slot, the position of a division in `divisions`, or `EMPTY`.
    index: Box<[u16]>,
    /// Retired code and main successor, in the order of the codes.
    retired: Vec<(Code, Code)>,
}

impl Table {
    /// Reads the two tab-separated files; `#` starts a comment line.
    pub(super) fn parse(divisions: &'static str, retired: &'static str) -> Self {
        let mut divisions: Vec<_> = lines(divisions).map(division).collect();
        divisions.sort_unstable_by_key(|division| division.code);
        let mut retired: Vec<_> = lines(retired).map(succession).collect();
        retired.sort_unstable();
        let index = index(&divisions);
        Self { divisions, index, retired }
    }

    pub(super) fn divisions(&self) -> &[Division] {
        &self.divisions
    }

    pub(super) fn division(&self, code: u32) -> Option<&Division> {
        let mut slot = slot(code);
        loop {
            // An empty slot holds `EMPTY`, which no vector of divisions reaches.
            let division = self.divisions.get(usize::from(self.index[slot]))?;
            if division.code.get() == code {
                return Some(division);
            }
            slot = next(slot);
        }
    }

    /// Why a code that is not a division leads nowhere.
    #[cold]
    pub(super) fn unroutable(&self, code: u32) -> Unroutable {
        let found = self.retired.binary_search_by_key(&code, |(retired, _)| retired.get());
        match found.ok().and_then(|position| self.retired.get(position)) {
            Some(&(code, successor)) => Unroutable::Retired { code, successor },
            None => Unroutable::Unknown(code),
        }
    }
}

/// The slot where the search for a code begins: Fibonacci hashing (Knuth, The
/// Art of Computer Programming, volume 3, section 6.4).
fn slot(code: u32) -> usize {
    (code.wrapping_mul(0x9E37_79B9) >> (32 - INDEX_BITS)) as usize
}

/// The slot to look at when one is taken.
fn next(slot: usize) -> usize {
    (slot + 1) % (1 << INDEX_BITS)
}

fn index(divisions: &[Division]) -> Box<[u16]> {
    assert!(
        divisions.len() <= (1 << INDEX_BITS) / 2,
        "a search ends at an empty slot, so at least half must stay empty"
    );
    let mut index = vec![EMPTY; 1 << INDEX_BITS].into_boxed_slice();
    for (position, division) in (0_u16..).zip(divisions) {
        let mut slot = slot(division.code.get());
        while index[slot] != EMPTY {
            slot = next(slot);
        }
        index[slot] = position;
    }
    index
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

fn division(line: &'static str) -> Division {
    let fields: Vec<&'static str> = line.split('\t').collect();
    let [own, level, region, province, name_zh, name_en] = fields[..] else {
        panic!("divisions.tsv: not six fields: {line}");
    };
    Division {
        code: code(own),
        level: match level {
            "province" => Level::Province,
            "prefecture" => Level::Prefecture,
            "county" => Level::County,
            _ => panic!("divisions.tsv: no such level: {line}"),
        },
        name_zh,
        name_en,
        rolls_up_to: code(region),
        province: code(province),
    }
}

fn succession(line: &'static str) -> (Code, Code) {
    let fields: Vec<&'static str> = line.split('\t').collect();
    let [retired, _year, successors, _name] = fields[..] else {
        panic!("retired.tsv: not four fields: {line}");
    };
    let main = successors.split(',').next().unwrap_or_default();
    (code(retired), code(main))
}

fn code(text: &str) -> Code {
    match text.parse() {
        Ok(code) => code,
        Err(malformed) => panic!("the region table has {text:?}: {malformed}"),
    }
}
