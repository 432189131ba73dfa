//! How does a shift look as a file?
//!
//! The words that say where calls go. Ramp, guards and end of a shift are no question to a plan: what
//! is supposed is the whole percentage.

use crate::verbs::regions::file::Class;
use serde::Deserialize;
use suiyue_proto::v1;

/// A shift as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shift {
    /// The region whose calls move.
    pub region: u32,
    /// The classes that move; empty: all.
    #[serde(default)]
    pub classes: Vec<Class>,
    /// The node they leave.
    pub from: String,
    /// How much of what `from` has moves: above 0, at most 100.
    pub percent: f64,
    /// Where they go.
    pub to: Vec<Target>,
}

/// A target of a shift.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The node.
    pub target: String,
    /// Its part, relative to the sum.
    #[serde(default = "one")]
    pub weight: f64,
}

const fn one() -> f64 {
    1.0
}

impl Shift {
    /// The message to send.
    #[must_use]
    pub fn message(&self) -> v1::SupposedShift {
        let to = self.to.iter().map(|t| v1::ShiftTarget { target: t.target.clone(), weight: t.weight });
        v1::SupposedShift {
            region: self.region,
            classes: self.classes.iter().map(|&class| v1::Class::from(class).into()).collect(),
            from: self.from.clone(),
            to: to.collect(),
            percent: self.percent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::file::Text;

    const SHORT: &str = "region = 440100\nfrom = \"suikang\"\npercent = 10\n[[to]]\ntarget = \"yuekang\"\n";

    #[test]
    fn a_shift_is_read() {
        let shift: Shift = Text::new("s", SHORT).parse().unwrap();
        let message = shift.message();
        assert_eq!((message.region, message.percent, message.classes.len()), (440_100, 10.0, 0));
        assert_eq!((message.to[0].target.as_str(), message.to[0].weight), ("yuekang", 1.0));
        let of_class = format!("classes = [\"show\"]\n{SHORT}weight = 3");
        let message = Text::new("s", &of_class).parse::<Shift>().unwrap().message();
        assert_eq!((message.classes, message.to[0].weight), (vec![i32::from(v1::Class::Show)], 3.0));
    }

    #[test]
    fn mistakes_name_line_and_field() {
        let check = |text: &str, start: &str, word: &str| {
            let error = Text::new("s.toml", text).parse::<Shift>().unwrap_err().0;
            assert!(error.starts_with(start) && error.contains(word), "{error}");
        };
        check(&format!("percnt = 1\n{SHORT}"), "s.toml:1: percnt: ", "unknown field");
        check(&SHORT.replace("percent = 10", "percent = \"10\""), "s.toml:3: percent: ", "f64");
        check(&format!("{SHORT}wait = 1"), "s.toml:6: to[0].wait: ", "unknown field");
        check("region = 440100\nfrom = \"a\"\npercent = 1\n", "s.toml:1: ", "to");
    }
}
