//! How are codes shown and verified where the old system has the say?
//!
//! Codes with one of its prefixes, and all codes that are shown, are its own. Texts of ours (`SY1:`)
//! are judged here by the federation's keys, and scans are stored here, as at every node.

use super::deadline;
use super::mapping::{Failure, Vars, Word};
use super::system::{Fault, Reply, System, overloaded};
use crate::codes::verify::{Basis, Judgement};
use crate::codes::{self, BATCH_MAX, with_verdicts};
use crate::population::hex;
use crate::scope::{self, Scope};
use crate::status::not_found;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::sync::Arc;
use std::time::Duration;
use suiyue_proto::reason::Reason;
use suiyue_proto::region::Code;
use suiyue_proto::v1::code_service_server::CodeService;
use suiyue_proto::v1::{self, Verdict, VerdictReason};
use suiyue_proto::verdict::Tally;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

/// Codes of one batch that it is asked about at a time.
const AT_A_TIME: usize = 8;

/// The code service of a node in front of another system.
#[derive(Debug, Clone)]
pub struct Service {
    /// Who answers.
    pub scope: Arc<Scope>,
    /// The system behind.
    pub system: Arc<System>,
    /// What the node does by itself.
    pub own: codes::Service,
}

/// What a call about codes is about.
struct About {
    region: Code,
    request_id: String,
    deadline: Option<Instant>,
}

#[tonic::async_trait]
impl CodeService for Service {
    async fn show_code(
        &self,
        request: Request<v1::ShowCodeRequest>,
    ) -> Result<Response<v1::ShowCodeResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let subject = hex(&scope::subject(&asked.subject)?);
        let deadline = deadline::of(&metadata)?;
        let (region, served) = self.scope.admit(&metadata, asked.region, asked.max_staleness_s)?;
        let mapping = &self.system.mapping;
        let vars = self.vars(region, Vars { subject: &subject, ..Vars::default() });
        let reply =
            self.system.ask(mapping.show.ask(&vars), deadline).await.map_err(|fault| fault.status())?;
        refuse(&reply)?;
        let document = &reply.document;
        let text = super::read::word(document, &mapping.show.code);
        let code = text.filter(|text| mapping.is_its_code(text)).ok_or_else(|| {
            self.system.unmapped.note("show.code", "a text without a known prefix");
            Reason::SystemAnswerUnknown.status()
        })?;
        let level = match mapping.level(document, &mapping.show.level) {
            Word::Known(level) => level.number().into(),
            Word::Missing => 0,
            Word::Unmapped(word) => {
                self.system.unmapped.note("show.level", &word);
                0
            }
        };
        let issued = mapping.show.issued.as_ref().and_then(|issued| issued.of(document));
        Ok(Response::new(v1::ShowCodeResponse {
            served: Some(served),
            code,
            ttl_s: mapping.show.ttl_s,
            refresh_after_s: mapping.show.refresh_after_s,
            level,
            issued_unix_s: issued.map_or_else(|| self.scope.clock.unix_s(), |ms| ms.div_euclid(1000)),
        }))
    }

    async fn verify_code(
        &self,
        request: Request<v1::VerifyCodeRequest>,
    ) -> Result<Response<v1::VerifyCodeResponse>, Status> {
        if !self.system.mapping.is_its_code(&request.get_ref().code) {
            return self.own.verify_code(request).await;
        }
        let (metadata, _, asked) = request.into_parts();
        let request_id = hex(&scope::request_id(&asked.request_id)?);
        let deadline = deadline::of(&metadata)?;
        let (region, served) = self.scope.admit(&metadata, asked.region, asked.max_staleness_s)?;
        let judged = self.judge(&About { region, request_id, deadline }, &asked.code).await?;
        let tally: Tally = [judged.kind()].into_iter().collect();
        let answer = v1::VerifyCodeResponse { served: Some(served), result: Some(judged.into()) };
        Ok(with_verdicts(answer, &tally))
    }

    async fn verify_batch(
        &self,
        request: Request<v1::VerifyBatchRequest>,
    ) -> Result<Response<v1::VerifyBatchResponse>, Status> {
        let foreign = |code: &String| self.system.mapping.is_its_code(code);
        if !request.get_ref().codes.iter().any(foreign) {
            return self.own.verify_batch(request).await;
        }
        let (metadata, _, asked) = request.into_parts();
        let request_id = hex(&scope::request_id(&asked.request_id)?);
        if !(1..=BATCH_MAX).contains(&asked.codes.len()) {
            return Err(scope::invalid("codes", "1 to 100 codes"));
        }
        let deadline = deadline::of(&metadata)?;
        let (region, served) = self.scope.admit(&metadata, asked.region, asked.max_staleness_s)?;
        let about = About { region, request_id, deadline };
        let judging = asked.codes.into_iter().enumerate().map(|(at, code)| self.judge_any(&about, at, code));
        let judged: Vec<Judgement> = stream::iter(judging).buffered(AT_A_TIME).try_collect().await?;
        let tally = judged.iter().map(Judgement::kind).collect();
        let results = judged.into_iter().map(Into::into).collect();
        Ok(with_verdicts(v1::VerifyBatchResponse { served: Some(served), results }, &tally))
    }

    type RecordScansStream = crate::scans::Receipts;

    async fn record_scans(
        &self,
        request: Request<Streaming<v1::RecordScansRequest>>,
    ) -> Result<Response<Self::RecordScansStream>, Status> {
        self.own.record_scans(request).await
    }
}

impl Service {
    fn vars<'a>(&'a self, region: Code, vars: Vars<'a>) -> Vars<'a> {
        let division = self.system.mapping.division(region).unwrap_or("");
        Vars { region: region.get(), division, ..vars }
    }

    async fn judge_any(&self, about: &About, at: usize, code: String) -> Result<Judgement, Status> {
        if self.system.mapping.is_its_code(&code) {
            return self.judge(about, &code).await;
        }
        codes::same_region(about.region, &format!("codes[{at}]"), &code)?;
        Ok(self.own.verifier.verify(&code))
    }

    /// What a code of the old system is worth.
    async fn judge(&self, about: &About, code: &str) -> Result<Judgement, Status> {
        let verify = &self.system.mapping.verify;
        let vars = Vars { code, request_id: &about.request_id, ..Vars::default() };
        let ask = verify.ask(&self.vars(about.region, vars));
        let reply = self.system.ask(ask, about.deadline).await.map_err(|fault| fault.status())?;
        if reply.result.is_ok() {
            self.same_division(about.region, &reply)?;
        }
        let mut judged = self.judgement(&reply)?;
        if let Some(at) = verify.issued.as_ref().and_then(|issued| issued.of(&reply.document)) {
            judged.issued_unix_s = at.div_euclid(1000);
        }
        if let Some(at) = verify.expires.as_ref().and_then(|expires| expires.of(&reply.document)) {
            judged.expires_unix_s = at.div_euclid(1000);
        }
        Ok(judged)
    }

    /// The code must be of the region that the call was routed by, where the old system says which it is.
    fn same_division(&self, region: Code, reply: &Reply) -> Result<(), Status> {
        let Some(pointer) = &self.system.mapping.verify.division else { return Ok(()) };
        match self.system.mapping.region(&reply.document, pointer) {
            Word::Known(of_code) if of_code == region => Ok(()),
            Word::Known(of_code) => {
                let (routed, named) = (region.to_string(), of_code.to_string());
                Err(Reason::RegionMismatch.with(&[("field", "code"), ("message", &routed), ("code", &named)]))
            }
            Word::Missing => Ok(()),
            Word::Unmapped(word) => {
                self.system.unmapped.note("verify.division", &word);
                Err(Reason::SystemAnswerUnknown.status())
            }
        }
    }

    fn judgement(&self, reply: &Reply) -> Result<Judgement, Status> {
        let mapping = &self.system.mapping;
        match reply.result {
            Ok(()) => {}
            Err(Failure::HolderNotFound) => return Ok(by_reason(VerdictReason::SubjectUnknown)),
            Err(Failure::Code(reason)) => return Ok(by_reason(reason)),
            Err(Failure::Unmapped) => return Ok(by_reason(VerdictReason::NotMapped)),
            Err(Failure::Overloaded | Failure::Unavailable) => return Err(Fault::Unavailable.status()),
        }
        let reason =
            mapping.verify.reason.as_ref().map_or(Word::Missing, |p| mapping.reason(&reply.document, p));
        let level = mapping.level(&reply.document, &mapping.verify.level);
        Ok(match (reason, level) {
            (Word::Known(VerdictReason::CodeRevoked), Word::Known(level)) => {
                let mut judged = by_level(level);
                judged.reasons.insert(0, VerdictReason::CodeRevoked);
                judged
            }
            (Word::Known(reason), _) => by_reason(reason),
            (Word::Unmapped(word), _) if !word.is_empty() => {
                self.system.unmapped.note("verify.reason", &word);
                by_reason(VerdictReason::NotMapped)
            }
            (_, Word::Known(level)) => by_level(level),
            (_, Word::Unmapped(word)) => {
                self.system.unmapped.note("verify.level", &word);
                by_reason(VerdictReason::NotMapped)
            }
            (_, Word::Missing) => {
                self.system.unmapped.note("verify.level", "nothing");
                by_reason(VerdictReason::NotMapped)
            }
        })
    }
}

fn by_level(level: suiyue_proto::sy1::Level) -> Judgement {
    use suiyue_proto::sy1::Level::{Green, Red, Yellow};
    let (verdict, reasons) = match level {
        Green => (Verdict::Pass, Vec::new()),
        Yellow => (Verdict::Caution, vec![VerdictReason::LevelYellow]),
        Red => (Verdict::Deny, vec![VerdictReason::LevelRed]),
    };
    Judgement {
        verdict,
        reasons,
        level: Some(level),
        issued_unix_s: 0,
        expires_unix_s: 0,
        basis: Basis::Status,
    }
}

fn by_reason(reason: VerdictReason) -> Judgement {
    let verdict = match reason {
        VerdictReason::SignatureInvalid => Verdict::Deny,
        _ => Verdict::Unknown,
    };
    Judgement {
        verdict,
        reasons: vec![reason],
        level: None,
        issued_unix_s: 0,
        expires_unix_s: 0,
        basis: Basis::Nothing,
    }
}

/// Refuses a call about a holder whose answer is no result.
pub(super) fn refuse(reply: &Reply) -> Result<(), Status> {
    match reply.result {
        Ok(()) => Ok(()),
        Err(Failure::HolderNotFound) => Err(not_found()),
        Err(Failure::Overloaded) => Err(overloaded(Duration::from_millis(100))),
        Err(Failure::Unavailable) => Err(Reason::SystemUnavailable.status()),
        Err(Failure::Code(_) | Failure::Unmapped) => Err(Reason::SystemAnswerUnknown.status()),
    }
}
