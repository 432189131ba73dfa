//! Does what stands in `mapping.toml` hold?
//!
//! Each complaint names the line, the field and what to do, so that whoever reviews the file finds it.

use super::file::{self, File, Words};
use super::template::{Ask, Piece, Template, Var, Verb, pieces};
use super::{Error, Expected, Failure, Health, Instant, Mapping, Show, Status, Verify};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use suiyue_proto::region::{self, Code};
use suiyue_proto::sy1::Level;
use suiyue_proto::v1::VerdictReason;
use toml::Spanned;

/// Prefixes that a manifest takes.
const PREFIXES: usize = 16;
/// A code is valid for a day at most.
const TTL_MAX_S: u32 = 86_400;

const REASONS: [(&str, VerdictReason); 6] = [
    ("signature_invalid", VerdictReason::SignatureInvalid),
    ("code_expired", VerdictReason::CodeExpired),
    ("not_yet_valid", VerdictReason::NotYetValid),
    ("code_revoked", VerdictReason::CodeRevoked),
    ("key_unknown", VerdictReason::KeyUnknown),
    ("subject_unknown", VerdictReason::SubjectUnknown),
];

pub(super) fn mapping(name: &str, text: &str) -> Result<Mapping, Error> {
    let check = Check { name, text };
    let file: File = toml::from_str(text).map_err(|error| {
        let problem = error.message().trim_end().replace('\n', "; ");
        check.at(error.span().unwrap_or(0..0), problem)
    })?;
    check.mapping(&file)
}

/// The file under check: what an error must name.
struct Check<'a> {
    name: &'a str,
    text: &'a str,
}

impl Check<'_> {
    fn at(&self, span: Range<usize>, problem: impl Into<String>) -> Error {
        let before = self.text.get(..span.start).unwrap_or("");
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Error::Line { file: self.name.to_owned(), line, problem: problem.into() }
    }

    fn mapping(&self, file: &File) -> Result<Mapping, Error> {
        let mut errors = HashMap::new();
        for (word, ours) in &file.errors {
            errors.insert(word.clone(), self.failure(&format!("errors.{word}"), ours)?);
        }
        let mut reasons = HashMap::new();
        for (word, ours) in &file.reasons {
            reasons.insert(word.clone(), self.reason(&format!("reasons.{word}"), ours)?);
        }
        Ok(Mapping {
            code_prefixes: self.prefixes(&file.code_prefixes)?,
            result: file.result.as_ref().map(|expected| self.expected("result", expected)).transpose()?,
            errors,
            levels: self.levels(&file.levels)?,
            reasons,
            divisions: self.divisions(&file.divisions)?,
            show: self.show(&file.show)?,
            verify: self.verify(&file.verify)?,
            status: self.status(&file.status)?,
            health: self.health(&file.health)?,
        })
    }

    fn prefixes(&self, prefixes: &Spanned<Vec<Spanned<String>>>) -> Result<Vec<String>, Error> {
        if !(1..=PREFIXES).contains(&prefixes.get_ref().len()) {
            return Err(self.at(prefixes.span(), format!("code_prefixes: 1 to {PREFIXES} are wanted")));
        }
        let mut read = Vec::new();
        for prefix in prefixes.get_ref() {
            let text = prefix.get_ref();
            if !(2..=32).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                let problem = "code_prefixes: 2 to 32 visible ASCII characters are wanted";
                return Err(self.at(prefix.span(), problem));
            }
            if "SY1:".starts_with(text.as_str()) || text.starts_with("SY1:") {
                let problem = "code_prefixes: SY1: is the prefix of our own codes; name another one";
                return Err(self.at(prefix.span(), problem));
            }
            read.push(text.clone());
        }
        Ok(read)
    }

    fn expected(&self, table: &str, expected: &file::Expected) -> Result<Expected, Error> {
        if expected.ok.get_ref().is_empty() {
            let problem = format!("{table}.ok: name the words that mean that all is well");
            return Err(self.at(expected.ok.span(), problem));
        }
        let pointer = self.pointer(&format!("{table}.field"), &expected.field)?;
        Ok(Expected { pointer, ok: expected.ok.get_ref().clone() })
    }

    fn failure(&self, field: &str, ours: &Spanned<String>) -> Result<Failure, Error> {
        let word = ours.get_ref().as_str();
        Ok(match word {
            "holder_not_found" => Failure::HolderNotFound,
            "overloaded" => Failure::Overloaded,
            "unavailable" => Failure::Unavailable,
            _ => match REASONS.into_iter().find(|(known, _)| *known == word) {
                Some((_, reason)) => Failure::Code(reason),
                None => {
                    let known = REASONS.map(|(word, _)| word).join(", ");
                    let problem = format!("{field}: use holder_not_found, overloaded, unavailable, {known}");
                    return Err(self.at(ours.span(), problem));
                }
            },
        })
    }

    fn reason(&self, field: &str, ours: &Spanned<String>) -> Result<VerdictReason, Error> {
        let found = REASONS.into_iter().find(|(known, _)| *known == ours.get_ref());
        found.map(|(_, reason)| reason).ok_or_else(|| {
            let known = REASONS.map(|(word, _)| word).join(", ");
            self.at(ours.span(), format!("{field}: use {known}"))
        })
    }

    /// Every level of ours must have a word, or its holders could never be told.
    fn levels(&self, words: &Spanned<Words>) -> Result<HashMap<String, Level>, Error> {
        let mut levels = HashMap::new();
        for (word, ours) in words.get_ref() {
            let known =
                Level::ALL.into_iter().find(|level| crate::population::word(*level) == ours.get_ref());
            let level = known.ok_or_else(|| {
                let problem =
                    format!("levels.{word}: {:?} is no level; use green, yellow or red", ours.get_ref());
                self.at(ours.span(), problem)
            })?;
            levels.insert(word.clone(), level);
        }
        for level in Level::ALL {
            if !levels.values().any(|known| *known == level) {
                let problem = format!("levels: no word stands for {}", crate::population::word(level));
                return Err(self.at(words.span(), problem));
            }
        }
        Ok(levels)
    }

    fn divisions(&self, words: &Spanned<Words>) -> Result<BTreeMap<Code, String>, Error> {
        let mut divisions = BTreeMap::<Code, String>::new();
        for (number, division) in words.get_ref() {
            let resolved = number.parse::<u32>().ok().map(region::resolve);
            let region = match resolved {
                Some(Ok(region)) if region.to_string() == *number => region,
                Some(Ok(region)) => {
                    let problem = format!("divisions.{number}: it belongs to {region}; use that");
                    return Err(self.at(division.span(), problem));
                }
                Some(Err(why)) => return Err(self.at(division.span(), format!("divisions.{number}: {why}"))),
                None => {
                    let problem = format!("divisions.{number}: six digits (GB/T 2260) are wanted");
                    return Err(self.at(division.span(), problem));
                }
            };
            let word = division.get_ref().clone();
            if word.is_empty() || divisions.values().any(|other| *other == word) {
                let problem = format!("divisions.{number}: a word that no other region has is wanted");
                return Err(self.at(division.span(), problem));
            }
            divisions.insert(region, word);
        }
        if divisions.is_empty() {
            return Err(self.at(words.span(), "divisions: name at least the node's own region"));
        }
        Ok(divisions)
    }

    fn show(&self, show: &file::Show) -> Result<Show, Error> {
        let template = Parts { table: "show", method: &show.method, path: &show.path, send: &show.send };
        let unit = self.unit("show.time_unit", show.time_unit.as_ref())?;
        let ttl_s = *show.ttl_s.get_ref();
        if !(10..=TTL_MAX_S).contains(&ttl_s) {
            return Err(
                self.at(show.ttl_s.span(), format!("show.ttl_s: 10 to {TTL_MAX_S} seconds are wanted"))
            );
        }
        let refresh_after_s = match &show.refresh_after_s {
            None => ttl_s / 2,
            Some(refresh) if (1..=ttl_s).contains(refresh.get_ref()) => *refresh.get_ref(),
            Some(refresh) => {
                let problem = format!("show.refresh_after_s: 1 to {ttl_s}, the ttl, is wanted");
                return Err(self.at(refresh.span(), problem));
            }
        };
        Ok(Show {
            template: self.template(&template, Var::Subject, &[Var::Code, Var::RequestId])?,
            code: self.pointer("show.code", &show.code)?,
            level: self.pointer("show.level", &show.level)?,
            issued: self.instant("show.issued", show.issued.as_ref(), unit)?,
            ttl_s,
            refresh_after_s,
        })
    }

    fn verify(&self, verify: &file::Verify) -> Result<Verify, Error> {
        let template =
            Parts { table: "verify", method: &verify.method, path: &verify.path, send: &verify.send };
        let unit = self.unit("verify.time_unit", verify.time_unit.as_ref())?;
        let pointer = |field: &str, value: &Option<Spanned<String>>| {
            value.as_ref().map(|value| self.pointer(field, value)).transpose()
        };
        Ok(Verify {
            template: self.template(&template, Var::Code, &[Var::Subject])?,
            level: self.pointer("verify.level", &verify.level)?,
            reason: pointer("verify.reason", &verify.reason)?,
            division: pointer("verify.division", &verify.division)?,
            issued: self.instant("verify.issued", verify.issued.as_ref(), unit)?,
            expires: self.instant("verify.expires", verify.expires.as_ref(), unit)?,
        })
    }

    fn status(&self, status: &file::Status) -> Result<Status, Error> {
        let template =
            Parts { table: "status", method: &status.method, path: &status.path, send: &status.send };
        let unit = self.unit("status.time_unit", status.time_unit.as_ref())?;
        let reason = status.reason.as_ref().map(|value| self.pointer("status.reason", value));
        Ok(Status {
            template: self.template(&template, Var::Subject, &[Var::Code, Var::RequestId])?,
            level: self.pointer("status.level", &status.level)?,
            decided: self.instant("status.decided", status.decided.as_ref(), unit)?,
            reason: reason.transpose()?,
        })
    }

    fn health(&self, health: &file::Health) -> Result<Health, Error> {
        let expected = match (&health.field, &health.ok) {
            (None, None) => None,
            (Some(field), Some(ok)) if !ok.get_ref().is_empty() => {
                let pointer = self.pointer("health.field", field)?;
                Some(Expected { pointer, ok: ok.get_ref().clone() })
            }
            (Some(other), _) => return Err(self.at(other.span(), "health: field and ok belong together")),
            (_, Some(other)) => return Err(self.at(other.span(), "health: field and ok belong together")),
        };
        let path = self.path("health.path", &health.path)?;
        Ok(Health { ask: Ask { verb: Verb::Get, path, body: Bytes::new() }, expected })
    }

    fn template(&self, parts: &Parts<'_>, needed: Var, foreign: &[Var]) -> Result<Template, Error> {
        let Parts { table, method, path, send } = parts;
        let verb = match method.as_ref().map(|method| (method, method.get_ref().as_str())) {
            None | Some((_, "POST")) => Verb::Post,
            Some((_, "GET")) => Verb::Get,
            Some((method, _)) => {
                return Err(self.at(method.span(), format!("{table}.method: use \"GET\" or \"POST\"")));
            }
        };
        let mut fields = Vec::new();
        for (name, value) in *send {
            let field = format!("{table}.send.{name}");
            let pieces = pieces(value.get_ref()).map_err(|gap| {
                let problem = format!(
                    "{field}: {{{gap}}} is not known; use region, division, subject, code, request_id"
                );
                self.at(value.span(), problem)
            })?;
            if let Some(var) = foreign.iter().find(|var| pieces.contains(&Piece::Var(**var))) {
                return Err(
                    self.at(value.span(), format!("{field}: there is no {{{}}} in {table}", var.name()))
                );
            }
            fields.push((name.clone(), pieces));
        }
        if !fields.iter().any(|(_, pieces)| pieces.contains(&Piece::Var(needed))) {
            let problem = format!("{table}.send: {{{}}} stands in no field", needed.name());
            return Err(self.at(path.span(), problem));
        }
        Ok(Template { verb, path: self.path(&format!("{table}.path"), path)?, fields })
    }

    fn path(&self, field: &str, path: &Spanned<String>) -> Result<String, Error> {
        let text = path.get_ref();
        if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Ok(text.clone());
        }
        Err(self.at(path.span(), format!("{field}: a path that begins with / is wanted, percent-encoded")))
    }

    fn pointer(&self, field: &str, pointer: &Spanned<String>) -> Result<String, Error> {
        if pointer.get_ref().starts_with('/') {
            return Ok(pointer.get_ref().clone());
        }
        let problem = format!("{field}: a JSON pointer is wanted, such as \"/data/level\"");
        Err(self.at(pointer.span(), problem))
    }

    fn instant(
        &self,
        field: &str,
        pointer: Option<&Spanned<String>>,
        unit_ms: i64,
    ) -> Result<Option<Instant>, Error> {
        let made = |pointer| Ok(Instant { pointer: self.pointer(field, pointer)?, unit_ms });
        pointer.map(made).transpose()
    }

    fn unit(&self, field: &str, unit: Option<&Spanned<String>>) -> Result<i64, Error> {
        match unit.map(|unit| (unit, unit.get_ref().as_str())) {
            None | Some((_, "s")) => Ok(1000),
            Some((_, "ms")) => Ok(1),
            Some((unit, _)) => {
                Err(self.at(unit.span(), format!("{field}: use \"s\" or \"ms\", since 1970-01-01 UTC")))
            }
        }
    }
}

/// What makes a request, as written.
struct Parts<'a> {
    table: &'a str,
    method: &'a Option<Spanned<String>>,
    path: &'a Spanned<String>,
    send: &'a Words,
}
