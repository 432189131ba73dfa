//! Which apps are there, and may this one be changed so?
//!
//! ```text
//!   name? → what stands there? → the one that was read? → the new grant → usable? → the same? → dry run?
//!         → compare-and-swap, with the audit's entry
//! ```
//! Tokens are drawn where they are used: only hashes come here.

use super::{Operator, dump};
use crate::{
    apps::{
        grant::{self, Grant, Invalid, Problem},
        meters::Outcome as Ended,
        quota::Rate,
        token::Hash,
    },
    audit::{Failure, What, actor::Deed},
    clock::unix_ms,
    registry::{
        Entry, Error, Outcome, Txn,
        keys::{Key, is_name},
    },
    table::Table,
};
use bytes::Bytes;
use prost::Message as _;
use std::sync::atomic::Ordering::Relaxed;
use suiyue_proto::{method::Class, reason::Reason, v1};
use tonic::Status;

/// The old token may stay good for this long: 30 days.
const MAX_KEEP_S: u32 = 30 * 24 * 3600;

/// A change of one app.
struct Change<'a> {
    deed: &'a Deed,
    app: String,
    dry_run: bool,
    /// Revision that was read; `None`: whatever stands there.
    expected: Option<i64>,
}

/// What stands in the registry for an app.
struct Present {
    grant: Option<v1::AppGrant>,
    value: Option<Bytes>,
    revision: i64,
}

impl Operator {
    pub(super) fn apps(&self, asked: &v1::ListAppsRequest) -> Result<v1::ListAppsResponse, Status> {
        let snapshot = self.snapshots.current();
        let entries = self.followed.as_ref().map_or_else(Vec::new, |followed| followed.entries());
        let mut apps = Vec::new();
        for entry in &entries {
            let Ok(Key::App(name)) = self.prefix.parse(&entry.key) else { continue };
            if asked.app.is_empty() || asked.app == name {
                apps.push(self.app(&name, entry, &snapshot.table));
            }
        }
        if apps.is_empty() && !asked.app.is_empty() {
            return Err(Reason::AppNotFound.status());
        }
        Ok(v1::ListAppsResponse {
            gateway: self.gateway.clone(),
            revision: snapshot.table.revision,
            anonymous: self.anonymous.as_str().to_owned(),
            apps,
        })
    }

    fn app(&self, name: &str, entry: &Entry, table: &Table) -> v1::AppInfo {
        let mut grant = v1::AppGrant::decode(entry.value.clone()).unwrap_or_default();
        let now = unix_ms();
        let fingerprint = |hash: &Bytes| {
            <[u8; 32]>::try_from(&hash[..]).map_or_else(|_| String::new(), |hash| Hash(hash).fingerprint())
        };
        let token_fingerprint = fingerprint(&grant.token_sha256);
        let kept = grant.previous_until_unix_ms > now;
        let previous_fingerprint =
            if kept { fingerprint(&grant.previous_token_sha256) } else { String::new() };
        (grant.token_sha256, grant.previous_token_sha256) = (Bytes::new(), Bytes::new());
        let problem = table.quarantined.iter().find(|q| q.key == entry.key).map(|q| q.reason.clone());
        let meters = &self.metrics.apps;
        let rate = table.apps.app(name).and_then(|grant| grant.rate);
        let here = rate.map(|(rps, burst)| Rate::new(rps, burst, meters.gateways.load(Relaxed)).per_second());
        let calls = meters.find(name).map(|meter| {
            let counts = meter.read();
            let of = |outcome: Ended| counts[outcome as usize];
            v1::AppCalls {
                ok: of(Ended::Ok),
                error: of(Ended::Error),
                denied: of(Ended::Denied),
                over_rate: of(Ended::OverRate),
                over_in_flight: of(Ended::OverInFlight),
                in_flight: meter.in_flight.now(),
            }
        });
        v1::AppInfo {
            app: name.to_owned(),
            grant: Some(grant),
            revision: entry.mod_revision,
            in_force: problem.is_none() && table.revision >= entry.mod_revision,
            problem: problem.unwrap_or_default(),
            token_fingerprint,
            previous_fingerprint,
            rps_here: here.unwrap_or(0.0),
            calls: Some(calls.unwrap_or_default()),
        }
    }

    pub(super) async fn set_app(
        &self,
        deed: &Deed,
        asked: v1::SetAppRequest,
    ) -> Result<v1::ChangeAppResponse, Status> {
        let v1::SetAppRequest { app, grant, expected_revision, dry_run } = asked;
        let mut grant = grant.unwrap_or_default();
        let change = Change { deed, app, dry_run, expected: Some(expected_revision) };
        self.change_app(change, move |present| {
            let old = present.unwrap_or_default();
            // A change of the rest leaves the credentials alone.
            if grant.token_sha256.is_empty() && grant.certificate.is_empty() {
                (grant.token_sha256, grant.certificate) = (old.token_sha256.clone(), old.certificate.clone());
            }
            let kept = grant.token_sha256 == old.token_sha256 && !grant.token_sha256.is_empty();
            let (hash, until) = (old.previous_token_sha256, old.previous_until_unix_ms);
            (grant.previous_token_sha256, grant.previous_until_unix_ms) =
                if kept { (hash, until) } else { (Bytes::new(), 0) };
            Ok(Some(grant))
        })
        .await
    }

    pub(super) async fn rotate_app(
        &self,
        deed: &Deed,
        asked: v1::RotateAppRequest,
    ) -> Result<v1::ChangeAppResponse, Status> {
        let v1::RotateAppRequest { app, token_sha256, keep_old_s, expected_revision, dry_run } = asked;
        if keep_old_s > MAX_KEEP_S {
            let expected = format!("0 to {MAX_KEEP_S} seconds");
            let invalid = grant::invalid::<()>("keep_old_s", Problem::NumberOutOfRange, expected);
            invalid.map_err(|invalid| refusal(&invalid))?;
        }
        let expected = (expected_revision > 0).then_some(expected_revision);
        let change = Change { deed, app, dry_run, expected };
        self.change_app(change, move |present| {
            let mut grant = present.ok_or_else(|| Reason::AppNotFound.status())?;
            if grant.disabled {
                return Err(Reason::AppRevoked.status());
            }
            // Asked for a second time: it is done.
            if !token_sha256.is_empty() && grant.token_sha256 == token_sha256 {
                return Ok(Some(grant));
            }
            let old = std::mem::replace(&mut grant.token_sha256, token_sha256);
            let keep = keep_old_s > 0 && !old.is_empty();
            let until = unix_ms().saturating_add(i64::from(keep_old_s) * 1000);
            (grant.previous_token_sha256, grant.previous_until_unix_ms) =
                if keep { (old, until) } else { (Bytes::new(), 0) };
            if grant.token_sha256.is_empty() {
                let expected = "the hash of the new token";
                let invalid = grant::invalid("token_sha256", Problem::CredentialMissing, expected);
                return invalid.map_err(|invalid| refusal(&invalid));
            }
            Ok(Some(grant))
        })
        .await
    }

    pub(super) async fn revoke_app(
        &self,
        deed: &Deed,
        asked: v1::RevokeAppRequest,
    ) -> Result<v1::ChangeAppResponse, Status> {
        let v1::RevokeAppRequest { app, delete, expected_revision, dry_run } = asked;
        let expected = (expected_revision > 0).then_some(expected_revision);
        let change = Change { deed, app, dry_run, expected };
        self.change_app(change, move |present| {
            let mut grant = present.ok_or_else(|| Reason::AppNotFound.status())?;
            grant.disabled = true;
            // A token that may be in wrong hands must not come back with the app.
            (grant.token_sha256, grant.previous_token_sha256) = (Bytes::new(), Bytes::new());
            grant.previous_until_unix_ms = 0;
            Ok((!delete).then_some(grant))
        })
        .await
    }

    async fn change_app(
        &self,
        change: Change<'_>,
        make: impl FnOnce(Option<v1::AppGrant>) -> Result<Option<v1::AppGrant>, Status>,
    ) -> Result<v1::ChangeAppResponse, Status> {
        if change.dry_run {
            change.deed.rehearse();
        }
        if !is_name(&change.app) {
            let expected = "1 to 63 characters of a-z, 0-9 and '-'";
            let invalid = grant::invalid::<()>("app", Problem::TextInvalid, expected);
            invalid.map_err(|invalid| refusal(&invalid))?;
        }
        let key = self.prefix.key(&Key::App(change.app.clone()));
        let present = self.present_app(&key).await?;
        if let Some(expected) = change.expected.filter(|&expected| expected != present.revision) {
            let (is, was) = (present.revision.to_string(), expected.to_string());
            let reason = if expected == 0 { Reason::AppExists } else { Reason::AppChanged };
            return Err(reason.with(&[("revision", &is), ("expected_revision", &was)]));
        }
        let grant = make(present.grant.clone())?;
        let warnings = grant.as_ref().map_or(Ok(Vec::new()), |grant| self.judge_app(&change.app, grant))?;
        let until = grant.as_ref().map_or(0, |grant| grant.previous_until_unix_ms);
        let (revision, written) = if grant == present.grant || change.dry_run {
            (present.revision, false)
        } else {
            (self.write_app(&change, key, present, grant).await?, true)
        };
        if written {
            tracing::info!(app = change.app, revision, method = change.deed.method, "an app was changed");
        }
        Ok(v1::ChangeAppResponse {
            gateway: self.gateway.clone(),
            app: change.app,
            revision,
            written,
            warnings,
            previous_until_unix_ms: until,
        })
    }

    async fn present_app(&self, key: &str) -> Result<Present, Status> {
        let registry = self.registry.as_ref().ok_or_else(|| Reason::RegistryNone.status())?;
        let listing = registry.list(key).await.map_err(|error| away(&error))?;
        let entry = listing.entries.into_iter().find(|entry| entry.key == *key);
        Ok(Present {
            grant: entry.as_ref().map(|e| v1::AppGrant::decode(e.value.clone()).unwrap_or_default()),
            revision: entry.as_ref().map_or(0, |entry| entry.mod_revision),
            value: entry.map(|entry| entry.value),
        })
    }

    async fn write_app(
        &self,
        change: &Change<'_>,
        key: String,
        present: Present,
        grant: Option<v1::AppGrant>,
    ) -> Result<i64, Status> {
        let audit = self.audit.as_ref().ok_or_else(|| Reason::RegistryNone.status())?;
        let app = Key::App(change.app.clone());
        let after = grant.map(|grant| Bytes::from(grant.encode_to_vec()));
        let what = What {
            key: app.to_string(),
            replaced: present.revision,
            before: present.value.map(|bytes| dump::value(&app, bytes)),
            after: after.clone().map(|bytes| dump::value(&app, bytes)),
        };
        let mut txn = Txn { expect: vec![(key.clone(), present.revision)], ..Txn::default() };
        match after {
            Some(value) => txn.puts.push((key, value, 0)),
            None => txn.deletes.push(key),
        }
        match audit.commit(change.deed, &what, &txn).await {
            Ok(Outcome::Committed(revision)) => Ok(revision),
            Ok(Outcome::Conflict(now)) => {
                let revision = now.first().map_or(0, |entry| entry.mod_revision).to_string();
                Err(Reason::AppChanged.with(&[("revision", &revision)]))
            }
            Err(failure) => Err(not_written(&failure)),
        }
    }

    /// Whether the grant can be used; what may not be meant, a sentence each.
    fn judge_app(&self, app: &str, grant: &v1::AppGrant) -> Result<Vec<String>, Status> {
        let checked = grant::check(app, grant).map_err(|invalid| refusal(&invalid))?;
        let snapshot = self.snapshots.current();
        if let Some((field, other)) = taken(&checked, &snapshot.table) {
            let expected = format!("one of its own: the app {other} has this one");
            let invalid = grant::invalid::<()>(field, Problem::CredentialTaken, expected);
            invalid.map_err(|invalid| refusal(&invalid))?;
        }
        let methods = &snapshot.table.methods;
        let unknown = checked.methods.unknown(|path| methods.contains_key(path));
        let mut warnings: Vec<_> =
            unknown.map(|path| format!("methods: nobody serves {path} at present")).collect();
        warnings.sort();
        let useful = |class: Class| {
            methods.values().any(|method| method.class == class && checked.methods.has(&method.path))
        };
        let named = Class::ALL.into_iter().filter(|_| !grant.classes.is_empty());
        let useless = named.filter(|class| checked.classes[class.index()] && !useful(*class));
        warnings.extend(useless.map(|class| format!("classes: none of the methods is of the class {class}")));
        if checked.rate.is_none() && !checked.disabled {
            warnings
                .push("quota: no calls a second are set: the app may call as much as it likes".to_owned());
        }
        if self.anonymous.as_str() == "allow" {
            warnings.push(
                "this gateway takes calls of nobody: the grant binds the app only where it shows its token"
                    .to_owned(),
            );
        }
        Ok(warnings)
    }
}

/// The credential that another app has already.
fn taken(grant: &Grant, table: &Table) -> Option<(&'static str, std::sync::Arc<str>)> {
    let other = |found: Option<&std::sync::Arc<Grant>>| {
        found.filter(|found| found.app != grant.app).map(|found| found.app.clone())
    };
    let token = grant.token.and_then(|hash| other(table.apps.of_token(hash).map(|(grant, _)| grant)));
    let certificate = || other(grant.certificate.as_ref().and_then(|name| table.apps.of_certificate(name)));
    token.map(|app| ("token_sha256", app)).or_else(|| certificate().map(|app| ("certificate", app)))
}

fn refusal(invalid: &Invalid) -> Status {
    Reason::AppInvalid.with(&[
        ("field", &invalid.field),
        ("problem", invalid.problem.as_str()),
        ("expected", &invalid.expected),
    ])
}

/// What an operator is told of a change that was not written, or may not be.
pub(super) fn not_written(failure: &Failure) -> Status {
    tracing::warn!(%failure, "a change could not be written");
    match failure {
        Failure::Registry(Error::Unknown(_)) => Reason::WriteUnknown.status(),
        Failure::Registry(_) => Reason::RegistryUnavailable.status(),
        Failure::Broken => Reason::AuditBroken.status(),
    }
}

fn away(error: &Error) -> Status {
    tracing::warn!(%error, "the registry cannot be read for an operator");
    Reason::RegistryUnavailable.status()
}
