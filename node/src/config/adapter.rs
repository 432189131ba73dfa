//! Which system does this node stand in front of?
//!
//! `[adapter]` of `node.toml`, and the mapping that it names. The node's `rps_max` is what that system
//! carries: gateways go by it, and the node itself never sends more.

use super::file::File;
use super::{Check, Config, Error};
use crate::adapter::{self, mapping::Mapping};
use hyper::Uri;
use std::sync::Arc;
use std::time::Duration;

/// Looks at its health would take most of less.
const LEAST_RPS: u32 = 5;
const TIMEOUT_MS: u32 = 1_000;
const IN_FLIGHT: u32 = 64;

/// The adapter of a node whose other fields are `config`.
pub(super) fn config(
    check: &Check<'_>,
    file: &File,
    config: &Config,
) -> Result<Option<adapter::Config>, Error> {
    let Some(section) = &file.adapter else { return Ok(None) };
    let (at, adapter) = (section.span(), section.get_ref());
    if !config.holders.is_empty() || !config.populations.is_empty() {
        let problem =
            "adapter: holders are those of the system behind it; leave [[holders]] and [[population]] out";
        return Err(check.at(at, problem));
    }
    if config.rps_max == 0 {
        let problem = "adapter: rps_max of the node is missing: declare what the system behind it carries; \
                       it is never sent more";
        return Err(check.at(at, problem));
    }
    if config.rps_max < LEAST_RPS {
        let problem = format!(
            "adapter: rps_max of the node: at least {LEAST_RPS}, for one request a second is a look at its health"
        );
        return Err(check.at(at, problem));
    }
    let url: Option<Uri> = adapter.url.get_ref().parse().ok();
    let scheme = url.as_ref().filter(|url| url.authority().is_some()).and_then(Uri::scheme_str);
    match (scheme, &adapter.ca) {
        (Some("http"), None) | (Some("https"), Some(_)) => {}
        (Some("http"), Some(ca)) => {
            return Err(check.at(ca.span(), "adapter.ca: it goes with a url that begins with https://"));
        }
        (Some("https"), None) => {
            let problem = "adapter.url: https needs adapter.ca, the authority of its certificate (PEM)";
            return Err(check.at(adapter.url.span(), problem));
        }
        _ => {
            let problem = "adapter.url: a URL is wanted, like \"http://127.0.0.1:8090\"";
            return Err(check.at(adapter.url.span(), problem));
        }
    }
    let mapping = Mapping::load(adapter.mapping.get_ref()).map_err(|error| match error {
        adapter::mapping::Error::Line { file, line, problem } => Error::Line { file, line, problem },
        unread => check.at(adapter.mapping.span(), format!("adapter.mapping: {unread}")),
    })?;
    if let Some(region) = config.scopes.iter().find(|region| mapping.division(**region).is_none()) {
        let problem =
            format!("adapter.mapping: its [divisions] have no word for {region}, which is in scopes");
        return Err(check.at(adapter.mapping.span(), problem));
    }
    let timeout = within(check, "timeout_ms", adapter.timeout_ms.as_ref(), TIMEOUT_MS, 10..=30_000)?;
    let in_flight = within(check, "in_flight", adapter.in_flight.as_ref(), IN_FLIGHT, 1..=10_000)?;
    let made = adapter::Config {
        url: adapter.url.get_ref().clone(),
        ca: adapter.ca.as_ref().map(|ca| ca.get_ref().clone()),
        authorization: authorization(check, adapter.authorization_file.as_ref())?,
        rps: config.rps_max,
        timeout: Duration::from_millis(timeout.into()),
        in_flight: in_flight as usize,
        mapping: Arc::new(mapping),
    };
    if let Err(unusable) = adapter::system::System::open(&made) {
        return Err(check.at(at, unusable.to_string()));
    }
    Ok(Some(made))
}

fn within(
    check: &Check<'_>,
    field: &str,
    value: Option<&toml::Spanned<u32>>,
    default: u32,
    allowed: std::ops::RangeInclusive<u32>,
) -> Result<u32, Error> {
    match value {
        None => Ok(default),
        Some(value) if allowed.contains(value.get_ref()) => Ok(*value.get_ref()),
        Some(value) => {
            let (least, most) = allowed.into_inner();
            Err(check.at(value.span(), format!("adapter.{field}: {least} to {most} is wanted")))
        }
    }
}

fn authorization(
    check: &Check<'_>,
    file: Option<&toml::Spanned<std::path::PathBuf>>,
) -> Result<Option<String>, Error> {
    let Some(file) = file else { return Ok(None) };
    let read = std::fs::read_to_string(file.get_ref());
    let text = read.map_err(|why| {
        check.at(file.span(), format!("adapter.authorization_file {}: {why}", file.get_ref().display()))
    })?;
    Ok(Some(text.trim().to_owned()))
}
