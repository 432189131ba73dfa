//! What do certificates let operators, apps, gateways and keys do, and what not?
//!
//! End to end over mTLS: the operator's verbs with a role, an app at the data port, a gateway that asks
//! another one for its table, static nodes, the conformance run, and a key that signs for another region.

use crate::{cli::run, identity::Scene};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use prost::Message as _;
use std::{path::Path, process::Output};
use suiyue_gateway::registry::{Outcome, Registry as _, Txn, etcd::Etcd};
use suiyue_node::{clock::Clock, keys::own::Own};
use suiyue_proto::{
    identity::{Files, Identity, Usage, files::now, signed::Kind},
    reason::Reason,
    region::Code,
    sy1::{self, Claims, Level},
    v1::{
        AuditEntry, AuditOutcome, AuditRecord, CopyRegistryRequest, Health, KeyDeclaration, ListNodesRequest,
        NodeKeys, ReadAuditRequest, ReadAuditResponse, ShowCodeRequest, TableSource, VerdictReason,
        VerifyCodeRequest, VerifyingKey, code_service_client::CodeServiceClient,
        gateway_service_client::GatewayServiceClient, operator_service_client::OperatorServiceClient,
    },
};
use suiyue_tests::{
    client,
    eventually::eventually,
    gateway::Gateway,
    node::{HOLDERS, Node, SEED},
    region::{GUANGDONG, GUANGZHOU, XIAN},
    trust::{Desk, FEDERATION, section, sign},
};
use tonic::transport::{Channel, Endpoint};

const XIAN_KEYS: &str = "/suiyue/v1/nodes/610100/chengma/keys";

/// Flags that say who somebody is.
fn shown(files: &Files) -> anyhow::Result<[String; 6]> {
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path that is text");
    let (cert, key, trust) = (text(&files.cert)?, text(&files.key)?, text(&files.trust)?);
    Ok(["--cert".to_owned(), cert, "--key".to_owned(), key, "--trust".to_owned(), trust])
}

/// A verb of somebody with a certificate; without one of nobody.
async fn verb(words: &[&str], who: Option<&Files>) -> anyhow::Result<Output> {
    let flags = who.map(shown).transpose()?;
    let flags = flags.iter().flatten().map(String::as_str);
    run(&words.iter().copied().chain(flags).collect::<Vec<_>>()).await
}

fn complaint(output: &Output) -> String {
    format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))
}

async fn audited(gateway: &Gateway) -> anyhow::Result<Vec<AuditEntry>> {
    let answer = gateway.operator().await?.read_audit(ReadAuditRequest::default()).await?;
    let parts: Vec<_> = answer.into_inner().try_collect().await?;
    let entry = |part: ReadAuditResponse| Ok(AuditEntry::decode(AuditRecord::decode(part.record)?.entry)?);
    parts.into_iter().filter(|part| !part.record.is_empty()).map(entry).collect()
}

/// A channel to a port of a gateway that shows a gateway's certificate.
async fn connected(own: &Identity, address: std::net::SocketAddr) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(suiyue_node::identity::connect(own, endpoint).await?)
}

#[tokio::test]
async fn operators_do_what_their_certificates_say_and_the_audit_names_them() -> anyhow::Result<()> {
    let scene = Scene::start().await?;
    let (desk, gateway) = (&scene.desk, &scene.gateway);
    let client_only = |order: &mut suiyue_proto::identity::issue::Order| order.uses = vec![Usage::Client];
    let wang = desk.issue("wang", &format!("spiffe://{FEDERATION}/operator/viewer/wang"), client_only)?;
    let li = desk.files("li");
    let control = gateway.control.to_string();
    let at = ["--gateway", control.as_str()];
    let list = [&["node", "list"], &at[..]].concat();
    let drain = [&["node", "drain", "suikang"], &at[..]].concat();
    let reasoned = [&drain[..], &["--reason", "disk full", "--actor", "somebody-else"]].concat();
    // Both may look; who shows nothing is not let in at all.
    for who in [&wang, &li] {
        let listed = verb(&list, Some(who)).await?;
        ensure!(listed.status.success(), "{}", complaint(&listed));
    }
    let nobody = verb(&list, None).await?;
    ensure!(!nobody.status.success(), "in the clear");
    // A viewer changes nothing, and an operator says why.
    let refused = verb(&reasoned, Some(&wang)).await?;
    ensure!(complaint(&refused).contains("ROLE_INSUFFICIENT"), "{}", complaint(&refused));
    let refused = verb(&drain, Some(&li)).await?;
    ensure!(complaint(&refused).contains("REASON_REQUIRED"), "{}", complaint(&refused));
    ensure!(gateway.node("suikang").await?.intent.is_none_or(|intent| !intent.drained), "it is drained");
    let done = verb(&reasoned, Some(&li)).await?;
    ensure!(done.status.success(), "{}", complaint(&done));
    let frozen = ["registry", "freeze", "--reason", "a trial"];
    let frozen = verb(&[&frozen[..], &at[..]].concat(), Some(&li)).await?;
    ensure!(frozen.status.success(), "{}", complaint(&frozen));
    // A node's certificate opens the port, and is no operator's.
    let node = connected(&Identity::open(desk.files("suikang"))?, gateway.control).await?;
    let answer = OperatorServiceClient::new(node.clone()).list_nodes(ListNodesRequest::default()).await;
    assert_eq!(answer.err().as_ref().and_then(Reason::of), Some(Reason::IdentityRequired));
    let copied = GatewayServiceClient::new(node)
        .copy_registry(CopyRegistryRequest { prefix: "/suiyue/v1/".to_owned() })
        .await;
    assert_eq!(copied.err().as_ref().and_then(Reason::of), Some(Reason::IdentityRefused));
    let told: Vec<_> = audited(gateway)
        .await?
        .into_iter()
        .map(|entry| {
            let outcome = if entry.outcome() == AuditOutcome::Written { "" } else { "refused" };
            ensure!(entry.authenticated, "{entry:?}");
            Ok((entry.method, entry.actor, entry.role, entry.reason, outcome, entry.refusal))
        })
        .collect::<anyhow::Result<_>>()?;
    let entry = |method: &str, actor: &str, role: &str, reason: &str, outcome, refusal: &str| {
        let [method, actor, role, reason] = [method, actor, role, reason].map(str::to_owned);
        (method, actor, role, reason, outcome, refusal.to_owned())
    };
    let expected = [
        entry("PublishTrust", "li", "operator", "a trial", "", ""),
        entry("SetNodeIntent", "wang", "viewer", "disk full", "refused", "ROLE_INSUFFICIENT"),
        entry("SetNodeIntent", "li", "operator", "disk full", "", ""),
        entry("FreezeRegistry", "li", "operator", "a trial", "", ""),
    ];
    assert_eq!(told, expected);
    let verified = verb(&[&["audit", "verify"], &at[..]].concat(), Some(&wang)).await?;
    ensure!(verified.status.success(), "{}", complaint(&verified));
    Ok(())
}

/// A gateway whose data port asks apps for certificates, and Suikang's node.
async fn asking(desk: &Desk) -> anyhow::Result<(Gateway, Node)> {
    let sections = desk.gateway("gw-1")?;
    let own = desk.files("gw-1");
    let tls = format!("[tls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\n", own.cert, own.key, own.trust);
    let gateway = Gateway::builder("gw-1")
        .embedded()
        .no_anonymous()
        .toml(&format!("{sections}{tls}"))
        .operated_by(desk.operator()?)
        .start()
        .await?;
    desk.publish(&gateway, desk.record(1, |_| {})).await?;
    let node = Node::codes("suikang", GUANGZHOU).identity(&desk.node(GUANGZHOU, "suikang")?);
    let node = node.gateways(&[gateway.control]).start().await?;
    gateway.sees("suikang", node.address).await?;
    Ok((gateway, node))
}

#[tokio::test]
async fn an_app_with_a_certificate_may_call_what_its_grant_says_and_nothing_else() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let (gateway, _node) = asking(&desk).await?;
    let (gate, other) =
        (format!("spiffe://{FEDERATION}/app/gate"), format!("spiffe://{FEDERATION}/app/other"));
    let control = gateway.control.to_string();
    let add = ["app", "add", "gate", "--certificate", &gate, "--region", "440000", "--method"];
    let more = ["/suiyue.v1.CodeService/ShowCode", "--reason", "a trial", "--gateway", &control];
    let added = verb(&[&add[..], &more[..]].concat(), Some(&desk.files("li"))).await?;
    ensure!(added.status.success(), "{}", complaint(&added));

    let app = async |name: &str, uri: &str| {
        let files = desk.issue(name, uri, |order| order.uses = vec![Usage::Client])?;
        anyhow::Ok(CodeServiceClient::new(connected(&Identity::open(files)?, gateway.data).await?))
    };
    let subject = |region: Code| Bytes::copy_from_slice(&suiyue_node::population::subject(region, 0, SEED));
    let [city, xian] = [GUANGZHOU, XIAN].map(|number| Code::new(number).expect("a code"));
    let show = |region: Code| ShowCodeRequest {
        region: region.get(),
        subject: subject(region),
        max_staleness_s: None,
    };
    let reason = |status: tonic::Status| Reason::of(&status).with_context(|| format!("{status:?}"));
    let mut granted = app("gate", &gate).await?;
    eventually("the grant is in force", async || {
        let code = granted.clone().show_code(show(city)).await?.into_inner().code;
        ensure!(code.starts_with("SY1:440100:"), "{code}");
        Ok(())
    })
    .await?;
    let refused = granted.show_code(show(xian)).await.expect_err("another province");
    assert_eq!(reason(refused)?, Reason::AppRegionDenied);
    let verify = VerifyCodeRequest { region: city.get(), code: "x".to_owned(), ..Default::default() };
    let refused = granted.verify_code(verify).await.expect_err("another method");
    assert_eq!(reason(refused)?, Reason::AppMethodDenied);
    let stranger =
        app("other", &other).await?.show_code(show(city)).await.expect_err("an app without a grant");
    // A certificate that no grant names is for something else: its calls are those of nobody.
    assert_eq!(reason(stranger)?, Reason::AppRequired);
    let operator = CodeServiceClient::new(connected(&desk.operator()?, gateway.data).await?);
    let nobody = operator.clone().show_code(show(city)).await.expect_err("no app's certificate");
    assert_eq!(reason(nobody)?, Reason::AppRequired);
    ensure!(client::channel(gateway.data).await.is_err() || in_the_clear(gateway.data).await.is_err());
    let revoke = ["app", "revoke", "gate", "--reason", "leaked", "--gateway", &control];
    let revoked = verb(&revoke, Some(&desk.files("li"))).await?;
    ensure!(revoked.status.success(), "{}", complaint(&revoked));
    eventually("the grant is gone", async || {
        let refused = granted.clone().show_code(show(city)).await.err().context("it is in force")?;
        ensure!(Reason::of(&refused) == Some(Reason::AppUnknown), "{refused:?}");
        Ok(())
    })
    .await
}

async fn in_the_clear(address: std::net::SocketAddr) -> anyhow::Result<()> {
    let mut client = CodeServiceClient::new(client::channel(address).await?);
    client.show_code(ShowCodeRequest::default()).await?;
    Ok(())
}

#[tokio::test]
async fn a_gateway_without_etcd_takes_its_table_from_one_with_a_certificate() -> anyhow::Result<()> {
    let mut scene = Scene::start().await?;
    // What is forged does not come along either.
    let evil = "/suiyue/v1/nodes/440100/suikang/live/evil";
    let forged = suiyue_proto::v1::LiveEndpoint { address: "127.0.0.1:6".to_owned(), ..Default::default() };
    scene.refuses(evil, &forged.encode_to_vec(), "not signed").await?;
    let endpoint = scene.etcd.endpoint();
    scene.etcd.stop();
    let second = Gateway::builder("gw-2")
        .etcd(&endpoint)
        .peers(&[scene.gateway.control])
        .toml(&scene.desk.gateway("gw-2")?)
        .operated_by(scene.desk.operator()?)
        .start()
        .await?;
    second.sees("suikang", scene.suikang.address).await?;
    let listed = second.nodes().await?;
    let table = listed.table.context("a table")?;
    assert_eq!(table.source(), TableSource::Peer);
    ensure!(table.quarantined.iter().any(|bad| bad.key == evil), "{:?}", table.quarantined);
    ensure!(listed.nodes.iter().flat_map(|node| &node.endpoints).all(|e| e.endpoint != "evil"));
    Ok(())
}

#[tokio::test]
async fn a_static_node_and_a_node_that_is_tried_show_their_certificates() -> anyhow::Result<()> {
    let scene = Scene::start().await?;
    let desk = &scene.desk;
    let own = desk.issue("gw-3", &format!("spiffe://{FEDERATION}/gateway/gw-3"), |_| {})?;
    let address = scene.suikang.address;
    // The same address under two names, of which one is that of the node there.
    let node = |name: &str, region: u32| {
        format!("[[node]]\nname = {name:?}\nregion = {region}\naddresses = [\"{address}\"]\ntls = true\n")
    };
    let tables = format!("{}{}{}", section(&own), node("suikang", GUANGZHOU), node("yuekang", GUANGDONG));
    let gateway = Gateway::builder("gw-3").toml(&tables).operated_by(desk.operator()?).start().await?;
    gateway.sees("suikang", address).await?;
    eventually("the other one was tried", async || {
        let endpoint = gateway.node("yuekang").await?.endpoints.into_iter().next().context("an endpoint")?;
        ensure!(endpoint.health_reason != "not checked yet", "{endpoint:?}");
        ensure!(endpoint.health() != Health::Ok, "{endpoint:?}");
        Ok(())
    })
    .await?;
    let (address, holders, seed) = (address.to_string(), HOLDERS.to_string(), SEED.to_string());
    let try_it = ["node", "verify", &address, "--region", "440100", "--population", &holders];
    let try_it = [&try_it[..], &["--seed", &seed, "--scan-ms", "10000"]].concat();
    let tried = verb(&try_it, Some(&own)).await?;
    ensure!(tried.status.success(), "{}{}", String::from_utf8_lossy(&tried.stdout), complaint(&tried));
    for who in [None, Some(desk.files("li"))] {
        let tried = verb(&try_it, who.as_ref()).await?;
        ensure!(!tried.status.success(), "somebody else got into the node");
    }
    Ok(())
}

/// A live code of a region that was signed with this key just now.
fn signed(own: &Own, region: Code) -> anyhow::Result<String> {
    let key = own.current(now()).context("a key")?;
    let issued = u32::try_from(now() - sy1::EPOCH_UNIX_S)?;
    let claims = Claims {
        kind: sy1::Kind::Live,
        algorithm: sy1::ED25519,
        key_id: key.id(),
        code_id: [7; 14],
        level: Level::Green,
        issued,
        ttl: 6,
        list_index: 1,
    };
    Ok(sy1::encode(region, &claims, &key.sign(region, &claims)))
}

/// Declares keys under Xi'an's certificate in etcd, beside those that are there.
async fn declare(scene: &Scene, keys: Vec<VerifyingKey>) -> anyhow::Result<()> {
    let registry = Etcd::connect(&[scene.etcd.endpoint()]).await?;
    let declared = KeyDeclaration { region: XIAN, node: "chengma".to_owned(), keys };
    let record = sign(&scene.desk.files("chengma"), Kind::Keys, &declared)?;
    let listing = registry.list(XIAN_KEYS).await?;
    let present = listing.entries.into_iter().next().context("no keys of Xi'an")?;
    let mut stored = NodeKeys::decode(present.value)?;
    stored.signed.push(record);
    let put = (XIAN_KEYS.to_owned(), stored.encode_to_vec().into(), 0);
    let expect = vec![(XIAN_KEYS.to_owned(), present.mod_revision)];
    let outcome = registry.commit(Txn { expect, puts: vec![put], deletes: Vec::new() }).await?;
    ensure!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    Ok(())
}

#[tokio::test]
async fn a_key_of_xian_signs_no_code_of_guangzhou_whoever_declares_it() -> anyhow::Result<()> {
    let scene = Scene::start().await?;
    let shaanxi = |trust: &mut suiyue_proto::v1::ProvinceTrust| {
        (trust.province, trust.code_prefixes) = (610_000, vec!["61".to_owned()]);
    };
    scene.desk.publish(&scene.gateway, scene.desk.record(1, shaanxi)).await?;
    let xian_node = Node::codes("chengma", XIAN).identity(&scene.desk.node(XIAN, "chengma")?);
    let xian_node = xian_node.gateways(&[scene.gateway.control]).start().await?;
    scene.gateway.sees("chengma", xian_node.address).await?;
    let [city, xian] = [GUANGZHOU, XIAN].map(|number| Code::new(number).expect("a code"));
    let own = Own::open(None, &[xian], &Clock::System)?;
    let keys = |regions: Vec<u32>| -> Vec<VerifyingKey> {
        let keys = own.verifying();
        keys.iter().map(|key| VerifyingKey { regions: regions.clone(), ..VerifyingKey::from(key) }).collect()
    };
    let apps = CodeServiceClient::new(client::channel(scene.gateway.data).await?);
    let judged = async |region: Code| {
        let request_id = Bytes::copy_from_slice(&rand::random::<[u8; 16]>());
        let (region, code) = (region.get(), signed(&own, region)?);
        let asked = VerifyCodeRequest { region, code, request_id, max_staleness_s: None };
        let answer = apps.clone().verify_code(asked).await?.into_inner();
        anyhow::Ok(answer.result.context("a result")?.reasons().collect::<Vec<_>>())
    };
    // Said to be Guangzhou's by Xi'an's own certificate, put into etcd by its owner.
    declare(&scene, keys(vec![GUANGZHOU])).await?;
    eventually("the keys are refused", async || {
        let bad = scene.gateway.nodes().await?.table.context("a table")?.quarantined;
        ensure!(bad.iter().any(|bad| bad.key == XIAN_KEYS), "{bad:?}");
        Ok(())
    })
    .await?;
    assert_eq!(judged(city).await?, [VerdictReason::KeyUnknown]);
    // For its own region it counts, as soon as the nodes have heard of it.
    declare(&scene, keys(vec![XIAN])).await?;
    eventually("the key counts for Xi'an", async || {
        let reasons = judged(xian).await?;
        ensure!(reasons != [VerdictReason::KeyUnknown], "it is not known");
        ensure!(!reasons.contains(&VerdictReason::SignatureInvalid), "{reasons:?}");
        Ok(())
    })
    .await?;
    assert_eq!(judged(city).await?, [VerdictReason::KeyUnknown]);
    Ok(())
}
