//! Is every change in the audit, and is whoever touches it found?

use crate::cli::{run, suiyue};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use suiyue_gateway::{
    audit::{
        chain::{self, Head, Stored},
        ulid::Ulid,
    },
    registry::{Registry as _, Txn, etcd::Etcd},
};
use suiyue_proto::v1::{AuditEntry, RegionPolicy, RememberedAuditRequest, SetRegionPolicyRequest};
use suiyue_tests::{
    eventually::eventually, federation::Federation, gateway::Gateway, node::Node, region::GUANGZHOU,
};

const AUDIT: &str = "/suiyue/v1/audit/";

async fn federation() -> anyhow::Result<Federation> {
    Federation::builder().gateways(2).node(Node::echo("city", GUANGZHOU)).start().await
}

/// Sets the policy of a region that has none.
async fn change(gateway: &Gateway, region: u32) -> anyhow::Result<()> {
    let policy = Some(RegionPolicy { in_flight_max: Some(9), ..Default::default() });
    let asked = SetRegionPolicyRequest { region, policy, ..Default::default() };
    let answer = gateway.operator().await?.set_region_policy(asked).await?.into_inner();
    ensure!(answer.written, "{answer:?}");
    Ok(())
}

/// Routing regions of Guangdong.
fn regions() -> impl Iterator<Item = u32> {
    let guangdong = suiyue_proto::region::Code::new(440_000).expect("a code");
    suiyue_proto::region::children(guangdong).map(suiyue_proto::region::Code::get)
}

/// Waits until every gateway has seen so many entries.
async fn seen(federation: &Federation, entries: u64) -> anyhow::Result<()> {
    for gateway in &federation.gateways {
        eventually(&format!("{} has seen entry {entries}", gateway.id), async || {
            let mut operator = gateway.operator().await?;
            let known = operator.remembered_audit(RememberedAuditRequest {}).await?.into_inner();
            let sequence = known.head.as_ref().map_or(0, |head| head.sequence);
            ensure!(sequence == entries && known.on_disk, "{known:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn all(federation: &Federation) -> String {
    federation.control().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// What `audit verify` says: the document, and whether it is content.
async fn verify(federation: &Federation) -> anyhow::Result<(bool, serde_json::Value)> {
    let output = run(&["audit", "verify", "--gateway", &all(federation), "-o", "json"]).await?;
    let document: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((output.status.success(), document))
}

#[track_caller]
fn broken((content, document): &(bool, serde_json::Value), sequence: u64, fault: &str) {
    assert!(!content, "{document:#}");
    let bad = &document["bad"];
    assert_eq!(
        (bad["sequence"].as_u64(), bad["fault"].as_str()),
        (Some(sequence), Some(fault)),
        "{document:#}"
    );
}

#[tokio::test]
async fn racing_gateways_leave_one_whole_chain() -> anyhow::Result<()> {
    let federation = federation().await?;
    let [first, second] = &federation.gateways[..] else { anyhow::bail!("two gateways") };
    let regions: Vec<_> = regions().take(20).collect();
    let changes = regions.iter().enumerate().map(|(n, &region)| change([first, second][n % 2], region));
    try_join_all(changes).await?;
    seen(&federation, 20).await?;
    let (content, document) = verify(&federation).await?;
    ensure!(content && document["records"] == 20 && document["good"] == true, "{document:#}");
    let told = suiyue(&["audit", "tail", "--last", "50", "--gateway", &first.control.to_string()]).await?;
    for region in regions {
        ensure!(told.contains(&format!("SetRegionPolicy regions/{region}")), "{region}: {told}");
    }
    ensure!(told.contains("local (operator, unauthenticated)"), "{told}");
    // What a gateway is not to know of does not become its table's.
    let dump = first.dump().await?;
    ensure!(!dump.iter().any(|(key, _)| key.contains("/audit/")), "{dump:?}");
    Ok(())
}

#[tokio::test]
async fn who_and_why_stand_in_the_audit() -> anyhow::Result<()> {
    let federation = federation().await?;
    let control = federation.gateway().control.to_string();
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("p.toml");
    std::fs::write(&file, "in_flight_max = 7\n")?;
    let file = file.display().to_string();
    let set = ["region", "set", "440100", "-f", &file, "--gateway", &control];
    suiyue(&[&set[..], &["--dry-run"]].concat()).await?;
    suiyue(&[&set[..], &["--actor", "wang", "--reason", "穗康限流"]].concat()).await?;
    let line = suiyue(&["audit", "tail", "-o", "json", "--gateway", &control]).await?;
    let entry: serde_json::Value = serde_json::from_str(&line).with_context(|| line.clone())?;
    assert_eq!((entry["actor"].as_str(), entry["reason"].as_str()), (Some("wang"), Some("穗康限流")));
    assert_eq!((entry["authenticated"].as_bool(), entry["sequence"].as_u64()), (Some(false), Some(1)));
    ensure!(entry["after"].as_str().is_some_and(|text| text.contains("in_flight_max=7")), "{entry}");
    for (flag, value) in [("--actor", "a b"), ("--reason", "a\nb")] {
        let refused = run(&[&set[..], &[flag, value]].concat()).await?;
        assert_eq!(refused.status.code(), Some(2), "{flag}");
    }
    Ok(())
}

/// Values below the audit's prefix, as they stand in etcd.
struct Chain {
    etcd: Etcd,
}

impl Chain {
    async fn of(federation: &mut Federation) -> anyhow::Result<Self> {
        let endpoint = federation.etcd()?.endpoint();
        Ok(Self { etcd: Etcd::connect(&[endpoint]).await? })
    }

    async fn read(&self) -> anyhow::Result<(Vec<Stored>, Bytes)> {
        let (mut records, mut head) = (Vec::new(), Bytes::new());
        for entry in self.etcd.list(AUDIT).await?.entries {
            match entry.key.trim_start_matches(AUDIT) {
                "head" => head = entry.value,
                id => records.push(Stored { id: id.to_owned(), value: entry.value }),
            }
        }
        Ok((records, head))
    }

    /// Makes the audit these records and this head, as who owns etcd can.
    async fn write(&self, records: &[Stored], head: &Bytes) -> anyhow::Result<()> {
        let put = |id: &str, value: &Bytes| (format!("{AUDIT}{id}"), value.clone(), 0);
        let records = records.iter().map(|record| put(&record.id, &record.value));
        let puts = records.chain([put("head", head)]).collect();
        let mut txn = Txn { puts, ..Txn::default() };
        let stays = |key: &str| txn.puts.iter().any(|(kept, ..)| kept == key);
        let present = self.etcd.list(AUDIT).await?.entries;
        txn.deletes = present.into_iter().map(|entry| entry.key).filter(|key| !stays(key)).collect();
        self.etcd.commit(txn).await?;
        Ok(())
    }
}

/// The same chain with another reason in every entry: consistent in itself.
fn rewritten(records: &[Stored]) -> anyhow::Result<(Vec<Stored>, Bytes)> {
    let (mut other, mut last) = (Vec::new(), None::<Head>);
    for record in records {
        let link = chain::read(record).map_err(|fault| anyhow::anyhow!(fault.text()))?;
        let id: Ulid = link.entry.id.parse()?;
        let entry = AuditEntry { reason: "nothing to see here".to_owned(), ..link.entry };
        let (value, head) = chain::append(last.as_ref(), entry, id);
        other.push(Stored { id: id.to_string(), value });
        last = Some(head);
    }
    let head = last.context("an entry")?.message();
    Ok((other, prost::Message::encode_to_vec(&head).into()))
}

#[tokio::test]
async fn whoever_touches_the_audit_is_found() -> anyhow::Result<()> {
    let mut federation = federation().await?;
    for (n, region) in regions().take(4).enumerate() {
        change(&federation.gateways[n % 2], region).await?;
    }
    seen(&federation, 4).await?;
    let chain = Chain::of(&mut federation).await?;
    let (records, head) = chain.read().await?;
    ensure!(verify(&federation).await?.0 && records.len() == 4);
    // One byte of an entry.
    let mut changed = records.clone();
    let mut value = changed[1].value.to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 1;
    changed[1].value = value.into();
    chain.write(&changed, &head).await?;
    broken(&verify(&federation).await?, 2, "altered");
    // An entry is gone.
    let without = [&records[..1], &records[2..]].concat();
    chain.write(&without, &head).await?;
    broken(&verify(&federation).await?, 2, "unlinked");
    // Two entries change places.
    let mut swapped = records.clone();
    (swapped[1].value, swapped[2].value) = (records[2].value.clone(), records[1].value.clone());
    chain.write(&swapped, &head).await?;
    broken(&verify(&federation).await?, 2, "moved");
    // The last one is gone, and the head still knows it.
    chain.write(&records[..3], &head).await?;
    broken(&verify(&federation).await?, 4, "head_elsewhere");
    chain.write(&records, &head).await?;
    ensure!(verify(&federation).await?.0, "what was put back is whole");
    // From here on the gateways themselves see that the head is another one.
    for gateway in &mut federation.gateways {
        gateway.process.expect("the audit in the registry does not continue");
    }
    let shorter = chain::read(&records[2]).map_err(|fault| anyhow::anyhow!(fault.text()))?.head;
    chain.write(&records[..3], &prost::Message::encode_to_vec(&shorter.message()).into()).await?;
    broken(&verify(&federation).await?, 4, "forgotten");
    let (other, other_head) = rewritten(&records)?;
    chain.write(&other, &other_head).await?;
    let found = verify(&federation).await?;
    broken(&found, 4, "forgotten");
    ensure!(found.1["bad"]["gateway"] == "gw-1", "{:#}", found.1);
    // A gateway that was away while it happened remembers, too.
    eventually("the gateways complain", async || {
        for gateway in &federation.gateways {
            let page = crate::trace::metrics(gateway).await?;
            ensure!(page.contains("suiyue_audit_broken 1.0"), "{}", gateway.id);
        }
        Ok(())
    })
    .await?;
    chain.write(&records, &head).await?;
    eventually("all is well again", async || {
        let found = verify(&federation).await?;
        ensure!(found.0, "{:#}", found.1);
        Ok(())
    })
    .await
}
