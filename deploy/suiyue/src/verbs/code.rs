//! What does one code look like, and what is it worth? (`suiyue code show`, `suiyue code verify`)
//!
//! The same calls that an app makes, on the gateway's data port: the region goes into the metadata
//! and into field 1, and the answer's metadata say who served it.

use super::{
    operator::connect_any,
    output::{self, Format},
    qr::{self, Canvas},
    refusal,
};
use crate::{
    cli::{Server, Subject},
    exit::{Exit, Usage},
};
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use serde::Serialize;
use std::{
    io::IsTerminal as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use suiyue_proto::{
    metadata,
    region::Code,
    v1::{
        CodeResult, Served, ShowCodeRequest, Verdict, VerifyCodeRequest,
        code_service_client::CodeServiceClient,
    },
};
use tonic::{Request, metadata::MetadataMap, transport::Channel};

/// Who answered.
#[derive(Debug, Serialize)]
pub struct Service {
    /// Metadata `suiyue-served-by`; absent when the server is a node itself.
    pub served_by: Option<String>,
    /// Metadata `suiyue-tier`.
    pub tier: Option<u32>,
    /// Metadata `suiyue-reason`.
    pub reason: Option<String>,
    /// Metadata `suiyue-attempt`.
    pub attempt: Option<u32>,
    /// Metadata `suiyue-plan`.
    pub plan: Option<u64>,
    /// The node's own name for itself.
    pub node: String,
    /// `city` or `province`.
    pub role: String,
    /// `authoritative`, `replica` or `last_known`.
    pub freshness: String,
    /// Age of the data in seconds.
    pub staleness_s: u32,
    /// The data is complete up to this instant, in milliseconds since 1970-01-01 UTC.
    pub as_of_unix_ms: i64,
}

impl Service {
    fn of(metadata: &MetadataMap, served: Option<Served>) -> Self {
        let text = |name: http::HeaderName| {
            metadata.get(name.as_str()).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let served = served.unwrap_or_default();
        Self {
            served_by: text(metadata::SERVED_BY),
            tier: text(metadata::TIER).and_then(|tier| tier.parse().ok()),
            reason: text(metadata::REASON),
            attempt: text(metadata::ATTEMPT).and_then(|attempt| attempt.parse().ok()),
            plan: text(metadata::PLAN).and_then(|plan| plan.parse().ok()),
            role: output::word(served.role().as_str_name(), "ROLE_"),
            freshness: output::word(served.freshness().as_str_name(), "FRESHNESS_"),
            node: served.node,
            staleness_s: served.staleness_s,
            as_of_unix_ms: served.as_of_unix_ms,
        }
    }

    fn line(&self) -> String {
        let mut text = format!("served by  {} ({}, {}", self.node, self.role, self.freshness);
        if self.staleness_s > 0 {
            text.push_str(&format!(", {} s old", self.staleness_s));
        }
        text.push(')');
        if let (Some(tier), Some(reason)) = (self.tier, &self.reason) {
            text.push_str(&format!(", tier {tier}, {reason}"));
        }
        if let Some(attempt) = self.attempt.filter(|&attempt| attempt > 1) {
            text.push_str(&format!(", attempt {attempt}"));
        }
        if let Some(plan) = self.plan {
            text.push_str(&format!(", plan {plan}"));
        }
        text
    }
}

/// The document of `code show -o json`.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// Home region of the holder.
    pub region: u32,
    /// The text to draw as a QR code.
    pub code: String,
    /// `green`, `yellow` or `red`.
    pub level: String,
    /// The code is valid for this long.
    pub ttl_s: u32,
    /// Ask for a new one after this long.
    pub refresh_after_s: u32,
    /// When it was issued, in seconds since 1970-01-01 UTC.
    pub issued_unix_s: i64,
    /// Who answered.
    pub service: Service,
}

/// What `code show` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// The QR code and what is known about it.
    Drawing,
    /// The code text only.
    Text,
    /// A JSON document.
    Json,
}

/// Shows a holder's code.
///
/// # Errors
/// When no server can be reached, or it refuses.
pub async fn show(server: &Server, region: Code, subject: Subject, how: Show) -> anyhow::Result<Exit> {
    let (mut client, address) = connect(&server.servers()).await?;
    let message = ShowCodeRequest { region: region.get(), subject: subject.bytes(), max_staleness_s: None };
    let mut request = routed(message, region, Duration::from_secs(3), server)?;
    let hex = subject.to_string().parse().context("the subject is no metadata value")?;
    request.metadata_mut().insert("suiyue-subject", hex);
    let answer = client.show_code(request).await;
    let answer = answer.map_err(|status| anyhow!("ShowCode at {address}: {}", refusal::describe(&status)))?;
    let (metadata, answer, _) = answer.into_parts();
    let shown = Shown {
        region: region.get(),
        level: output::word(answer.level().as_str_name(), "LEVEL_"),
        ttl_s: answer.ttl_s,
        refresh_after_s: answer.refresh_after_s,
        issued_unix_s: answer.issued_unix_s,
        service: Service::of(&metadata, answer.served),
        code: answer.code,
    };
    match how {
        Show::Json => output::json(&shown)?,
        Show::Text => output::line(&shown.code)?,
        Show::Drawing => {
            let canvas = if std::io::stdout().is_terminal() { Canvas::Terminal } else { Canvas::Plain };
            output::line(&format!(
                "{}\n{}\nlevel      {}\nvalid for  {} s, refresh after {} s\n{}",
                qr::draw(&shown.code, canvas)?,
                shown.code,
                shown.level,
                shown.ttl_s,
                shown.refresh_after_s,
                shown.service.line()
            ))?;
        }
    }
    Ok(Exit::Done)
}

/// The document of `code verify -o json`.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// Region of the code.
    pub region: u32,
    /// `pass`, `caution`, `deny` or `unknown`.
    pub verdict: String,
    /// Why; empty for pass.
    pub reasons: Vec<String>,
    /// `green`, `yellow`, `red`, or `unspecified` where the code could not be trusted.
    pub level: String,
    /// When it was issued, in seconds since 1970-01-01 UTC; 0 where not trusted.
    pub issued_unix_s: i64,
    /// When it ends; 0 where not trusted.
    pub expires_unix_s: i64,
    /// One line in Chinese.
    pub text_zh: String,
    /// One line in English.
    pub text_en: String,
    /// Who answered.
    pub service: Service,
}

impl Verified {
    fn new(region: Code, result: CodeResult, service: Service) -> Self {
        Self {
            region: region.get(),
            verdict: output::word(result.verdict().as_str_name(), "VERDICT_"),
            reasons: result
                .reasons()
                .map(|reason| output::word(reason.as_str_name(), "VERDICT_REASON_"))
                .collect(),
            level: output::word(result.level().as_str_name(), "LEVEL_"),
            issued_unix_s: result.issued_unix_s,
            expires_unix_s: result.expires_unix_s,
            text_zh: result.text_zh,
            text_en: result.text_en,
            service,
        }
    }
}

/// Verifies a code. PASS and CAUTION are [`Exit::Done`], DENY and UNKNOWN [`Exit::Refused`].
///
/// # Errors
/// When the text names no region, no server can be reached, or it refuses.
pub async fn verify(
    server: &Server,
    text: &str,
    region: Option<Code>,
    format: Format,
) -> anyhow::Result<Exit> {
    let region = region.map_or_else(|| region_of(text), Ok)?;
    let (mut client, address) = connect(&server.servers()).await?;
    let message = VerifyCodeRequest {
        region: region.get(),
        code: text.to_owned(),
        request_id: request_id(),
        max_staleness_s: None,
    };
    let answer = client.verify_code(routed(message, region, Duration::from_millis(1500), server)?).await;
    let answer =
        answer.map_err(|status| anyhow!("VerifyCode at {address}: {}", refusal::describe(&status)))?;
    let (metadata, answer, _) = answer.into_parts();
    let result = answer.result.ok_or_else(|| anyhow!("VerifyCode at {address}: the answer has no result"))?;
    let exit = match result.verdict() {
        Verdict::Pass | Verdict::Caution => Exit::Done,
        Verdict::Deny | Verdict::Unknown | Verdict::Unspecified => Exit::Refused,
    };
    let verified = Verified::new(region, result, Service::of(&metadata, answer.served));
    match format {
        Format::Json => output::json(&verified)?,
        Format::Table => output::line(&lines(&verified))?,
    }
    Ok(exit)
}

fn lines(verified: &Verified) -> String {
    let mut text =
        format!("{}  {}  {}\n", verified.verdict.to_ascii_uppercase(), verified.text_zh, verified.text_en);
    if !verified.reasons.is_empty() {
        text.push_str(&format!("because    {}\n", verified.reasons.join(", ")));
    }
    text.push_str(&format!("region     {}\nlevel      {}\n", verified.region, verified.level));
    text.push_str(&verified.service.line());
    text
}

async fn connect(servers: &[String]) -> anyhow::Result<(CodeServiceClient<Channel>, String)> {
    let (channel, address) = connect_any(servers, "--server").await?;
    Ok((CodeServiceClient::new(channel), address))
}

/// A UUIDv7, as a device would mint it.
fn request_id() -> Bytes {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let millis = u64::try_from(millis).unwrap_or(0);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &rand::random());
    Bytes::copy_from_slice(id.into_uuid().as_bytes())
}

fn routed<T>(message: T, region: Code, timeout: Duration, server: &Server) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    if let Some(value) = server.authorization()? {
        let mut metadata = std::mem::take(request.metadata_mut()).into_headers();
        metadata.insert(http::header::AUTHORIZATION, value);
        *request.metadata_mut() = MetadataMap::from_headers(metadata);
    }
    let digits = region.to_string().parse().context("the region is no metadata value")?;
    request.metadata_mut().insert("suiyue-region", digits);
    request.set_timeout(timeout);
    Ok(request)
}

/// The region that stands in clear in a code's text.
///
/// # Errors
/// [`Usage`] when it is no SY1 text.
pub fn region_of(text: &str) -> Result<Code, Usage> {
    let digits = text.strip_prefix("SY1:").and_then(|rest| rest.split_once(':')).map(|(digits, _)| digits);
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| {
        Usage(format!(
            "{text:?} is no code text: it must start with SY1: and six digits of a region, as in SY1:440100:…"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_of_a_code_stands_in_its_text() {
        assert_eq!(region_of("SY1:440100:ABC").unwrap().get(), 440_100);
        for bad in ["", "SY1:", "SY1:440100", "SY2:440100:A", "SY1:44:A", "SY1:44010x:A"] {
            assert!(region_of(bad).unwrap_err().to_string().contains("SY1:440100"), "{bad}");
        }
    }
}
