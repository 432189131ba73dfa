//! Apps: registered, changed, refused; and each change in the audit.

use super::*;
use crate::{
    audit::chain::{self, Stored},
    registry::{Registry, keys::Key, suite},
};
use prost::Message as _;

fn grant(token: u8) -> v1::AppGrant {
    v1::AppGrant {
        token_sha256: vec![token; 32].into(),
        methods: vec!["/suiyue.v1.CodeService/VerifyCode".to_owned()],
        regions: vec!["440000".to_owned()],
        quota: Some(v1::AppQuota { rps: Some(50), ..Default::default() }),
        ..Default::default()
    }
}

fn set(app: &str, grant: v1::AppGrant, expected_revision: i64) -> v1::SetAppRequest {
    v1::SetAppRequest { app: app.to_owned(), grant: Some(grant), expected_revision, dry_run: false }
}

fn rotate(app: &str, token: u8, keep_old_s: u32) -> v1::RotateAppRequest {
    let token_sha256 = vec![token; 32].into();
    v1::RotateAppRequest { app: app.to_owned(), token_sha256, keep_old_s, ..Default::default() }
}

fn revoke(app: &str) -> v1::RevokeAppRequest {
    v1::RevokeAppRequest { app: app.to_owned(), ..Default::default() }
}

impl Gateway {
    async fn set_app(&self, asked: v1::SetAppRequest) -> Result<v1::ChangeAppResponse, Status> {
        OperatorService::set_app(&self.operator, Request::new(asked)).await.map(Response::into_inner)
    }

    async fn rotate_app(&self, asked: v1::RotateAppRequest) -> Result<v1::ChangeAppResponse, Status> {
        OperatorService::rotate_app(&self.operator, Request::new(asked)).await.map(Response::into_inner)
    }

    async fn revoke_app(&self, asked: v1::RevokeAppRequest) -> Result<v1::ChangeAppResponse, Status> {
        OperatorService::revoke_app(&self.operator, Request::new(asked)).await.map(Response::into_inner)
    }

    /// The apps, once the table has this revision.
    async fn apps_at(&self, revision: i64) -> Vec<v1::AppInfo> {
        self.until(|snapshot| snapshot.table.revision >= revision).await;
        self.operator.apps(&v1::ListAppsRequest::default()).unwrap().apps
    }

    /// What the audit says, checked.
    async fn audit(&self) -> Vec<v1::AuditEntry> {
        let (mut records, mut head) = (Vec::new(), None);
        for entry in self.registry.list(&Prefix::default().audit()).await.unwrap().entries {
            match Prefix::default().parse(&entry.key).unwrap() {
                Key::Audit(id) => records.push(Stored { id: id.to_string(), value: entry.value }),
                _ => head = Some(entry.value),
            }
        }
        assert_eq!(chain::verify(&records, head.as_deref(), &[]), Ok(records.len() as u64));
        records.iter().map(|record| chain::read(record).unwrap().entry).collect()
    }
}

#[tokio::test]
async fn an_app_lives_from_add_to_revoke() {
    let gateway = Gateway::start().await;
    let added = gateway.set_app(set("gate", grant(1), 0)).await.unwrap();
    assert!(added.written && added.warnings.is_empty(), "{added:?}");
    let [gate] = &gateway.apps_at(added.revision).await[..] else { panic!("one app") };
    assert!(gate.in_force && gate.problem.is_empty() && gate.rps_here == 50.0, "{gate:?}");
    assert_eq!((gate.token_fingerprint.as_str(), gate.revision), ("01010101", added.revision));
    assert!(gate.grant.as_ref().unwrap().token_sha256.is_empty(), "hashes stay here");
    let rotated = gateway.rotate_app(rotate("gate", 2, 60)).await.unwrap();
    assert!(rotated.written && rotated.previous_until_unix_ms > crate::clock::unix_ms());
    let [gate] = &gateway.apps_at(rotated.revision).await[..] else { panic!("one app") };
    assert_eq!(
        (gate.token_fingerprint.as_str(), gate.previous_fingerprint.as_str()),
        ("02020202", "01010101")
    );
    let again = gateway.rotate_app(rotate("gate", 2, 60)).await.unwrap();
    assert!(!again.written && again.revision == rotated.revision);
    // A change of the rest keeps both tokens.
    let wider = v1::AppGrant { regions: vec!["*".to_owned()], token_sha256: Default::default(), ..grant(1) };
    let changed = gateway.set_app(set("gate", wider, rotated.revision)).await.unwrap();
    let [gate] = &gateway.apps_at(changed.revision).await[..] else { panic!("one app") };
    assert_eq!(
        (gate.token_fingerprint.as_str(), gate.previous_fingerprint.as_str()),
        ("02020202", "01010101")
    );
    let revoked = gateway.revoke_app(revoke("gate")).await.unwrap();
    let [gate] = &gateway.apps_at(revoked.revision).await[..] else { panic!("one app") };
    assert!(gate.grant.as_ref().unwrap().disabled && gate.token_fingerprint.is_empty(), "{gate:?}");
    refused(gateway.rotate_app(rotate("gate", 3, 0)).await, Reason::AppRevoked, &[]);
    let gone = gateway.revoke_app(v1::RevokeAppRequest { delete: true, ..revoke("gate") }).await.unwrap();
    assert!(gateway.apps_at(gone.revision).await.is_empty());
    let told: Vec<_> = gateway.audit().await.into_iter().map(|e| (e.method, e.key, e.actor)).collect();
    let expected = ["SetApp", "RotateApp", "SetApp", "RevokeApp", "RevokeApp"];
    assert_eq!(told, expected.map(|m| (m.to_owned(), "apps/gate".to_owned(), "local".to_owned())));
}

#[tokio::test]
async fn the_audit_has_what_was_changed_and_no_hash_of_a_token() {
    let gateway = Gateway::start().await;
    let added = gateway.set_app(set("gate", grant(1), 0)).await.unwrap();
    gateway.rotate_app(rotate("gate", 2, 0)).await.unwrap();
    let [first, second] = &gateway.audit().await[..] else { panic!("two entries") };
    assert!(first.before.is_empty() && first.before_sha256.is_empty() && first.replaced_revision == 0);
    assert_eq!((second.before.as_str(), second.replaced_revision), (first.after.as_str(), added.revision));
    assert!(
        second.before.contains("token=01010101 ") && second.after.contains("token=02020202 "),
        "{second:?}"
    );
    assert_eq!(second.before_sha256, first.after_sha256);
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_nothing_is_written() {
    let gateway = Gateway::start().await;
    let first = gateway.set_app(set("gate", grant(1), 0)).await.unwrap().revision;
    gateway.apps_at(first).await;
    let invalid = |field| [("field", field)];
    refused(gateway.set_app(set("Gate", grant(2), 0)).await, Reason::AppInvalid, &invalid("app"));
    let taken = gateway.set_app(set("other", grant(1), 0)).await;
    refused(taken, Reason::AppInvalid, &[("field", "token_sha256"), ("problem", "credential_taken")]);
    let none = v1::AppGrant { token_sha256: Default::default(), ..grant(2) };
    refused(gateway.set_app(set("other", none, 0)).await, Reason::AppInvalid, &invalid("token_sha256"));
    let region = v1::AppGrant { regions: vec!["440106".to_owned()], ..grant(2) };
    refused(gateway.set_app(set("other", region, 0)).await, Reason::AppInvalid, &invalid("regions[0]"));
    let revision = first.to_string();
    refused(gateway.set_app(set("gate", grant(2), 0)).await, Reason::AppExists, &[("revision", &revision)]);
    refused(gateway.set_app(set("gate", grant(2), first + 9)).await, Reason::AppChanged, &[]);
    refused(gateway.rotate_app(rotate("other", 2, 0)).await, Reason::AppNotFound, &[]);
    refused(
        gateway.rotate_app(rotate("gate", 2, 2_592_001)).await,
        Reason::AppInvalid,
        &invalid("keep_old_s"),
    );
    let short = v1::RotateAppRequest { token_sha256: vec![1].into(), ..rotate("gate", 2, 0) };
    refused(gateway.rotate_app(short).await, Reason::AppInvalid, &invalid("token_sha256"));
    refused(gateway.revoke_app(revoke("other")).await, Reason::AppNotFound, &[]);
    let stale = v1::RevokeAppRequest { expected_revision: first + 9, ..revoke("gate") };
    refused(gateway.revoke_app(stale).await, Reason::AppChanged, &[]);
    let dry = v1::SetAppRequest { dry_run: true, ..set("other", grant(2), 0) };
    assert!(!gateway.set_app(dry).await.unwrap().written);
    assert_eq!(gateway.audit().await.len(), 1);
    refused(
        gateway.operator.apps(&v1::ListAppsRequest { app: "other".to_owned() }),
        Reason::AppNotFound,
        &[],
    );
}

#[tokio::test]
async fn a_grant_that_cannot_be_used_is_shown_with_the_reason() {
    let gateway = Gateway::start().await;
    let mut txn = suite::put("/suiyue/v1/apps/gate", "", 0, 0);
    txn.puts[0].1 = v1::AppGrant { regions: Vec::new(), ..grant(1) }.encode_to_vec().into();
    let revision = suite::written(&gateway.registry, txn).await;
    let [gate] = &gateway.apps_at(revision).await[..] else { panic!("one app") };
    assert!(!gate.in_force && gate.problem.starts_with("regions: count_out_of_range"), "{gate:?}");
    assert!(gateway.set_app(set("gate", grant(1), revision)).await.unwrap().written);
}

#[tokio::test]
async fn the_audit_is_read_whole_or_from_its_end() {
    use tokio_stream::StreamExt as _;
    let gateway = Gateway::start().await;
    for n in 1..=5 {
        gateway.set_app(set(&format!("a{n}"), grant(n), 0)).await.unwrap();
    }
    let read = async |last| {
        let records = gateway.operator.audit_records(v1::ReadAuditRequest { last, follow: false }).unwrap();
        records.map(Result::unwrap).collect::<Vec<_>>().await
    };
    for (last, expected) in [(0, 5), (2, 2), (9, 5)] {
        let mut told = read(last).await;
        let head = told.pop().unwrap();
        assert!(!head.head.is_empty() && told.len() == expected, "{last}: {}", told.len());
        let stored: Vec<_> = told.into_iter().map(|r| Stored { id: r.id, value: r.record }).collect();
        let sequences: Vec<_> = stored.iter().map(|s| chain::read(s).unwrap().head.sequence).collect();
        assert_eq!(sequences, (6 - expected as u64..=5).collect::<Vec<_>>());
    }
    let asked = v1::ReadAuditRequest { last: 1, follow: true };
    let mut following = gateway.operator.audit_records(asked).unwrap();
    assert!(following.next().await.unwrap().unwrap().head.is_empty());
    assert!(!following.next().await.unwrap().unwrap().head.is_empty());
    gateway.set_app(set("a6", grant(6), 0)).await.unwrap();
    let next = following.next().await.unwrap().unwrap();
    let link = chain::read(&Stored { id: next.id, value: next.record }).unwrap();
    assert_eq!((link.head.sequence, link.entry.key.as_str()), (6, "apps/a6"));
}
