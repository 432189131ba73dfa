//! How is a code shown, and what is a shown code worth?
//!
//! [`issue`] signs what the table says now; [`verify`] judges a text. [`live`] is this node's list
//! of the codes it issued in the last two minutes, by which it judges its own codes by the holder's
//! current status and not by what was signed.
//! A bad code is an answer with a verdict; only a bad call is an error.

pub mod issue;
pub mod live;
pub mod text;
pub mod verify;

use crate::scope::{self, Scope};
use crate::status::not_found;
use issue::Issuer;
use std::sync::Arc;
use suiyue_proto::reason::Reason;
use suiyue_proto::region::Code;
use suiyue_proto::v1;
use suiyue_proto::v1::code_service_server::CodeService;
use suiyue_proto::verdict::{self, Tally};
use suiyue_proto::{region, sy1};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};
use verify::{Basis, Judgement, Verifier};

/// Codes of one VerifyBatch at most.
pub const BATCH_MAX: usize = 100;
/// Ask for a new code after this many seconds.
pub const REFRESH_S: u32 = 30;

/// The code service of this node.
#[derive(Debug, Clone)]
pub struct Service {
    /// Who answers.
    pub scope: Arc<Scope>,
    /// Makes codes.
    pub issuer: Arc<Issuer>,
    /// Judges codes.
    pub verifier: Arc<Verifier>,
    /// Stores scans.
    pub scans: crate::scans::Recorder,
}

#[tonic::async_trait]
impl CodeService for Service {
    async fn show_code(
        &self,
        request: Request<v1::ShowCodeRequest>,
    ) -> Result<Response<v1::ShowCodeResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let subject = scope::subject(&asked.subject)?;
        let (region, served) = self.scope.admit(&metadata, asked.region, asked.max_staleness_s)?;
        let issued = self.issuer.issue(region, &subject).map_err(|why| match why {
            issue::Error::SubjectUnknown => not_found(),
            issue::Error::NoKey => scope::not_ready(region),
        })?;
        Ok(Response::new(v1::ShowCodeResponse {
            served: Some(served),
            code: issued.text,
            ttl_s: issue::TTL_S,
            refresh_after_s: REFRESH_S,
            level: issued.claims.level.number().into(),
            issued_unix_s: issued.claims.issued_unix_s(),
        }))
    }

    async fn verify_code(
        &self,
        request: Request<v1::VerifyCodeRequest>,
    ) -> Result<Response<v1::VerifyCodeResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        scope::request_id(&asked.request_id)?;
        let region = self.region(&metadata, asked.region)?;
        same_region(region, "code", &asked.code)?;
        let judged = self.verifier.verify(&asked.code);
        let served = self.served(region, std::slice::from_ref(&judged), asked.max_staleness_s)?;
        let tally: Tally = [judged.kind()].into_iter().collect();
        let answer = v1::VerifyCodeResponse { served: Some(served), result: Some(judged.into()) };
        Ok(with_verdicts(answer, &tally))
    }

    async fn verify_batch(
        &self,
        request: Request<v1::VerifyBatchRequest>,
    ) -> Result<Response<v1::VerifyBatchResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        scope::request_id(&asked.request_id)?;
        if !(1..=BATCH_MAX).contains(&asked.codes.len()) {
            return Err(scope::invalid("codes", "1 to 100 codes"));
        }
        let region = self.region(&metadata, asked.region)?;
        for (at, code) in asked.codes.iter().enumerate() {
            same_region(region, &format!("codes[{at}]"), code)?;
        }
        let mut judged = Vec::with_capacity(asked.codes.len());
        for codes in asked.codes.chunks(16) {
            judged.extend(codes.iter().map(|code| self.verifier.verify(code)));
            // A full batch takes milliseconds; other calls of this thread get their turn.
            tokio::task::yield_now().await;
        }
        let served = self.served(region, &judged, asked.max_staleness_s)?;
        let tally = judged.iter().map(Judgement::kind).collect();
        let results = judged.into_iter().map(Into::into).collect();
        Ok(with_verdicts(v1::VerifyBatchResponse { served: Some(served), results }, &tally))
    }

    type RecordScansStream = crate::scans::Receipts;

    async fn record_scans(
        &self,
        request: Request<Streaming<v1::RecordScansRequest>>,
    ) -> Result<Response<Self::RecordScansStream>, Status> {
        let (metadata, _, scans) = request.into_parts();
        Ok(Response::new(self.scans.record(metadata, scans)))
    }
}

impl Service {
    /// The region of a verification. A node judges codes of regions outside its scope too, as a
    /// peer does, if it has been told which keys sign there.
    fn region(&self, metadata: &MetadataMap, field: u32) -> Result<Code, Status> {
        let region = self.scope.region(metadata, field)?;
        if self.scope.readiness.in_scope(region) {
            self.scope.readiness.as_of(region).ok_or_else(|| scope::not_ready(region))?;
        } else if !self.verifier.knows(region) {
            return Err(self.scope.not_served(region));
        }
        Ok(region)
    }

    /// The label of an answer: as old as the oldest status or code that it rests on.
    fn served(
        &self,
        region: Code,
        judged: &[Judgement],
        max_staleness_s: Option<u32>,
    ) -> Result<v1::Served, Status> {
        let signed = judged.iter().filter(|judgement| judgement.basis == Basis::Signed);
        let oldest = signed.map(|judgement| judgement.issued_unix_s).min();
        let served = match (oldest, self.scope.served(region)) {
            (None, Some(served)) => served,
            (None, None) => self.scope.served_offline(region, self.scope.clock.unix_s()),
            (Some(issued), _) => self.scope.served_offline(region, issued),
        };
        scope::accept(&served, max_staleness_s)?;
        Ok(served)
    }
}

/// An answer that tells the gateway what was judged; it decodes no messages.
pub(crate) fn with_verdicts<T>(answer: T, tally: &Tally) -> Response<T> {
    let mut response = Response::new(answer);
    if let Ok(value) = tally.to_string().parse() {
        response.metadata_mut().insert(verdict::KEY, value);
    }
    response
}

/// A readable text must be of the region that the call was routed by. A text that is no code at all
/// has no region; the verdict says what it is.
pub(crate) fn same_region(region: Code, field: &str, text: &str) -> Result<(), Status> {
    let Ok(of_code) = sy1::region_of(text) else { return Ok(()) };
    if region::resolve(of_code.get()) == Ok(region) {
        return Ok(());
    }
    let (routed, named) = (region.to_string(), of_code.to_string());
    Err(Reason::RegionMismatch.with(&[("field", field), ("message", &routed), ("code", &named)]))
}

impl From<Judgement> for v1::CodeResult {
    fn from(judged: Judgement) -> Self {
        let (text_zh, text_en) = text::of(&judged);
        Self {
            verdict: judged.verdict.into(),
            reasons: judged.reasons.iter().map(|reason| (*reason).into()).collect(),
            level: judged.level.map_or(0, |level| level.number().into()),
            issued_unix_s: judged.issued_unix_s,
            expires_unix_s: judged.expires_unix_s,
            text_zh: text_zh.to_owned(),
            text_en: text_en.to_owned(),
        }
    }
}
