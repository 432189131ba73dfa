//! Who may call without being anybody?
//!
//! Where nothing is said: nobody, at a gateway with a registry, because there apps can be registered; and
//! everybody at one without, because nothing else could ever be.

use super::{Error, Source, file};
use crate::apps::{Anonymous, grant::Methods};
use std::ops::Range;
use toml::Value;

/// What `[apps]` says. `registry`: the gateway has one.
pub(super) fn anonymous(source: &Source<'_>, file: &file::Apps, registry: bool) -> Result<Anonymous, Error> {
    let Some(given) = &file.anonymous else {
        return Ok(if registry { Anonymous::Deny } else { Anonymous::Allow });
    };
    let wrong = || refused(source, &given.span());
    match given.get_ref() {
        Value::String(word) if word == "allow" => Ok(Anonymous::Allow),
        Value::String(word) if word == "deny" => Ok(Anonymous::Deny),
        Value::Array(list) => {
            let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            let texts = texts.ok_or_else(wrong)?;
            let bad = |at: usize| {
                let problem = format!(
                    "{:?} is no method: write /package.Service/Method or package.Service/*",
                    texts[at]
                );
                source.invalid(&given.span(), "apps.anonymous", problem)
            };
            Methods::parse(&texts).map(Anonymous::Only).map_err(bad)
        }
        _ => Err(wrong()),
    }
}

fn refused(source: &Source<'_>, span: &Range<usize>) -> Error {
    let problem =
        "use \"allow\", \"deny\", or a list of methods as in [\"/suiyue.v1.CodeService/VerifyCode\"]";
    source.invalid(span, "apps.anonymous", problem)
}
