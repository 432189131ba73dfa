//! Records of trust, brought by whoever has one.

use super::*;
use crate::{
    identity::trust::tests::Realm,
    registry::{Outcome, Registry as _, Txn},
};
use suiyue_proto::{reason::Reason, v1::PublishTrustRequest};

const KEY: &str = "/suiyue/v1/trust/44";

async fn publish(gateway: &Gateway, record: &[u8]) -> Result<(u64, bool), Reason> {
    let request = Request::new(PublishTrustRequest { record: record.to_vec().into() });
    match gateway.operator.publish_trust(request).await {
        Ok(answer) => Ok((answer.get_ref().serial, answer.get_ref().written)),
        Err(status) => Err(Reason::of(&status).unwrap()),
    }
}

#[tokio::test]
async fn a_record_is_published_once_and_never_set_back() {
    let realm = Realm::new();
    let trust = realm.trust();
    let gateway = Gateway::trusting(Some(trust.clone())).await;
    let (one, two) = (realm.record(|_| {}), realm.record(|trust| trust.serial = 2));
    assert_eq!(publish(&gateway, &one).await, Ok((1, true)));
    assert_eq!(publish(&gateway, &one).await, Ok((1, false)), "it stands there");
    gateway.until(|_| !trust.roll().provinces().is_empty()).await;
    assert_eq!(publish(&gateway, &two).await, Ok((2, true)));
    assert_eq!(publish(&gateway, &one).await, Err(Reason::TrustOlder));
    let audited = gateway.audited().await;
    let told =
        |at: usize| (audited[at].method.as_str(), audited[at].key.as_str(), audited[at].after.as_str());
    assert_eq!(audited.len(), 2, "{audited:?}");
    assert_eq!((told(0).0, told(0).1), ("PublishTrust", "trust/44"));
    assert!(told(1).2.contains("serial=2") && audited[1].before.contains("serial=1"), "{audited:?}");
    let other_two = realm.record(|trust| (trust.serial, trust.code_prefixes) = (2, vec!["4401".to_owned()]));
    assert_eq!(publish(&gateway, &other_two).await, Err(Reason::TrustOlder));
}

#[tokio::test]
async fn a_forged_record_is_refused_and_does_not_stand_in_the_way() {
    let realm = Realm::new();
    let gateway = Gateway::trusting(Some(realm.trust())).await;
    let forged = Realm::new().record(|trust| trust.serial = u64::MAX);
    assert_eq!(publish(&gateway, &forged).await, Err(Reason::TrustInvalid));
    assert_eq!(publish(&gateway, b"\xff").await, Err(Reason::TrustInvalid));
    let county = realm.record(|trust| trust.province = 440_106);
    assert_eq!(publish(&gateway, &county).await, Err(Reason::TrustInvalid));
    let put = Txn { puts: vec![(KEY.to_owned(), forged.into(), 0)], ..Txn::default() };
    assert!(matches!(gateway.registry.commit(put).await, Ok(Outcome::Committed(_))));
    assert_eq!(publish(&gateway, &realm.record(|_| {})).await, Ok((1, true)));
}

#[tokio::test]
async fn a_gateway_without_an_anchor_cannot_tell() {
    let gateway = Gateway::start().await;
    assert_eq!(publish(&gateway, &Realm::new().record(|_| {})).await, Err(Reason::TrustNone));
}
