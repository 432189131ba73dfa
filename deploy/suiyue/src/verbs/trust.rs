//! How does a federation get its certificates?
//!
//! `init` makes anchor and authorities, `issue` certificates, `revoke` the next record: all of it offline,
//! in a directory (`shelf`). `publish` alone talks to a gateway.

mod shelf;

use super::{
    operator::{Operator, TableDocument, footer},
    output::{self, Format},
};
use crate::{
    cli::trust::{Init, Issue, Kind, Publish, Revoke, Show},
    exit::{Guarded, Usage},
};
use anyhow::{Context as _, anyhow};
use prost::Message as _;
use shelf::{Replace, Shelf};
use std::path::Path;
use suiyue_proto::{
    identity::{
        Leaf, Role, SpiffeId, Subject, Usage as For,
        certificate::chain_from_pem,
        files::now,
        is_federation, is_name,
        issue::{AnchorKey, Authority, Order},
        signed::{self, Anchor},
    },
    reason::Reason,
    region::{self, Code},
    v1,
};

const DAY_S: i64 = 24 * 3600;
/// Clocks differ: a certificate is valid from a little earlier on.
const EARLIER_S: i64 = 300;

fn usage(problem: impl Into<String>) -> anyhow::Error {
    anyhow!(Usage(problem.into()))
}

/// A province, exactly.
fn province(code: Code) -> anyhow::Result<Code> {
    let is_one = region::find(code.get()).is_some_and(|division| division.province == code);
    if is_one {
        Ok(code)
    } else {
        Err(usage(format!("{code} is no province: write its six-digit code, such as 440000")))
    }
}

/// The province that a region lies in.
fn province_of(region: Code) -> anyhow::Result<Code> {
    let routed = region::resolve(region.get()).map_err(|e| usage(e.to_string()))?;
    if routed != region {
        return Err(usage(format!("{region} belongs to {routed}, whose node answers for it: write that")));
    }
    region.province().ok_or_else(|| usage(format!("{region} lies in no province")))
}

/// `suiyue trust init`.
///
/// # Errors
/// A wrong name, or files that are there already.
pub fn init(flags: &Init) -> anyhow::Result<()> {
    if !is_federation(&flags.federation) {
        return Err(usage(format!(
            "--federation {:?}: use 1 to 253 of a-z, 0-9, '-' and '.'",
            flags.federation
        )));
    }
    let code = province(flags.province)?;
    let shelf = Shelf::make(&flags.place.dir)?;
    let replace = Replace::when(flags.place.force);
    shelf
        .must_be_free(&[&shelf.authority_key(code), &shelf.authority(code), &shelf.record(code)], replace)?;
    let digits = (code.get() / 10_000).to_string();
    let prefixes = if flags.code_prefixes.is_empty() { vec![digits] } else { flags.code_prefixes.clone() };
    let anchor = shelf.anchor_or_new()?;
    let name = format!("{} authority {code}", flags.federation);
    let end = now() + i64::from(flags.days) * DAY_S;
    let (authority, key) = Authority::new(&name, now() - EARLIER_S, end)?;
    // With --force the next serial, so that gateways that know the old record take the new one; and who is
    // revoked stays revoked.
    let before = shelf.own_record(code, &anchor)?.unwrap_or_default();
    let trust = v1::ProvinceTrust {
        federation: flags.federation.clone(),
        province: code.get(),
        serial: before.serial + 1,
        authorities: vec![authority.der().to_vec().into()],
        code_prefixes: prefixes,
        signed_unix_s: now(),
        revoked_ids: before.revoked_ids,
        revoked_serials: before.revoked_serials,
    };
    let record = sign(&anchor, &trust)?;
    shelf.write_secret(&shelf.authority_key(code), key.as_bytes(), replace)?;
    shelf.write(&shelf.authority(code), authority.cert().as_bytes(), replace)?;
    shelf.write(&shelf.record(code), &record, replace)?;
    output::line(&format!(
        "# {}: keep anchor.key and ca-{}.key offline. Every gateway's configuration says:\n\
         [trust]\nfederation = \"{}\"\nanchor = \"{}\"",
        flags.place.dir.display(),
        code.get() / 10_000,
        flags.federation,
        anchor.public()
    ))
}

/// The record, checked as gateways will check it.
fn sign(anchor: &AnchorKey, trust: &v1::ProvinceTrust) -> anyhow::Result<Vec<u8>> {
    let payload = trust.encode_to_vec();
    let signature = anchor.sign(signed::Kind::Trust, &payload);
    let record = v1::SignedRecord { payload: payload.into(), signature: signature.into(), chain: Vec::new() };
    let record = record.encode_to_vec();
    let code = Code::new(trust.province).ok_or_else(|| usage("no province"))?;
    suiyue_gateway::identity::trust::Province::read(&anchor.public(), &trust.federation, code, &record)
        .map_err(usage)?;
    Ok(record)
}

/// `suiyue trust issue`.
///
/// # Errors
/// A wrong name or region, no authority, or files that are there already.
pub fn issue(flags: &Issue) -> anyhow::Result<()> {
    if !is_name(&flags.name) {
        return Err(usage(format!("--name {:?}: use 1 to 63 of a-z, 0-9 and '-'", flags.name)));
    }
    if let Some(host) = flags.host.iter().find(|host| host.contains('*')) {
        return Err(usage(format!("--host {host:?}: wildcards are refused everywhere here")));
    }
    let code = match (flags.province, flags.region) {
        (_, Some(region)) => province_of(region)?,
        (Some(code), None) => province(code)?,
        (None, None) => return Err(usage("--province says whose authority issues it")),
    };
    if flags.province.is_some_and(|given| given != code) {
        return Err(usage(format!("the region lies in {code}: leave --province out")));
    }
    let shelf = Shelf::open(&flags.place.dir)?;
    let out = Shelf::make(flags.out.as_deref().unwrap_or(&flags.place.dir))?;
    let replace = Replace::when(flags.place.force);
    let (cert, key) = (out.path(&format!("{}.pem", flags.name)), out.path(&format!("{}.key", flags.name)));
    out.must_be_free(&[&cert, &key], replace)?;
    let trust = shelf.read_record(code)?;
    let id = SpiffeId { federation: trust.federation, subject: subject(flags)? };
    let uses = match flags.kind {
        Kind::Node | Kind::Gateway => vec![For::Client, For::Server],
        Kind::Operator | Kind::App => vec![For::Client],
    };
    let order = Order {
        uris: vec![id.to_string()],
        hosts: flags.host.clone(),
        uses,
        not_before_unix_s: now() - EARLIER_S,
        not_after_unix_s: now() + i64::from(flags.days) * DAY_S,
    };
    let issued = shelf.read_authority(code)?.issue(&order)?;
    // The key first: a certificate without its key would be of no use.
    out.write_secret(&key, issued.key.as_bytes(), replace)?;
    out.write(&cert, issued.cert.as_bytes(), replace)?;
    let leaf = leaf(&issued.cert)?;
    output::line(&format!("{id}\nserial {}\n{}\n{}", leaf.serial, cert.display(), key.display()))
}

fn subject(flags: &Issue) -> anyhow::Result<Subject> {
    let name = flags.name.clone();
    Ok(match flags.kind {
        Kind::Node => {
            let region = flags.region.ok_or_else(|| usage("a node needs --region"))?;
            Subject::Node { region, node: name }
        }
        Kind::Gateway => Subject::Gateway(name),
        Kind::Operator => Subject::Operator { role: Role::from(flags.role), name },
        Kind::App => Subject::App(name),
    })
}

fn leaf(pem: &str) -> anyhow::Result<Leaf> {
    let chain = chain_from_pem(pem.as_bytes())?;
    Ok(Leaf::parse(chain.first().map(AsRef::as_ref).unwrap_or_default())?)
}

/// `suiyue trust revoke`.
///
/// # Errors
/// No record, or no anchor.
pub fn revoke(flags: &Revoke) -> anyhow::Result<()> {
    let code = province(flags.province)?;
    let shelf = Shelf::open(&flags.dir)?;
    let anchor = shelf.read_anchor()?;
    let mut trust = match shelf.own_record(code, &anchor)? {
        Some(trust) => trust,
        None => shelf.read_record(code)?,
    };
    for id in &flags.id {
        if id.federation != trust.federation {
            return Err(usage(format!("{id} is of another federation than {:?}", trust.federation)));
        }
        add(&mut trust.revoked_ids, id.to_string());
    }
    for serial in &flags.serial {
        let serial = serial.to_ascii_lowercase().replace(':', "");
        if serial.is_empty() || !serial.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(usage(format!(
                "--serial {serial:?}: hexadecimal digits are wanted, as `trust show` prints"
            )));
        }
        add(&mut trust.revoked_serials, serial);
    }
    trust.revoked_ids.retain(|id| !flags.restore.iter().any(|restored| restored.to_string() == *id));
    trust.serial += 1;
    trust.signed_unix_s = now();
    let record = sign(&anchor, &trust)?;
    let path = shelf.record(code);
    shelf.write(&path, &record, Replace::Allowed)?;
    output::line(&format!(
        "{} has serial {} now; it counts once it is published: suiyue trust publish {}",
        path.display(),
        trust.serial,
        path.display()
    ))
}

fn add(list: &mut Vec<String>, new: String) {
    if !list.contains(&new) {
        list.push(new);
    }
}

/// `suiyue trust show`.
///
/// # Errors
/// A file that is neither a certificate nor a record.
pub fn show(flags: &Show) -> anyhow::Result<()> {
    let anchor = flags.anchor.as_deref().map(str::parse::<Anchor>).transpose();
    let anchor = anchor.map_err(|e| usage(format!("--anchor: {e}")))?;
    for file in &flags.files {
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => certificate(text, file)?,
            _ => record(&bytes, file, anchor.as_ref())?,
        };
        output::line(&format!("{}\n{text}", file.display()))?;
    }
    Ok(())
}

fn left(end: i64) -> String {
    let days = (end - now()) / DAY_S;
    if end <= now() { "has EXPIRED".to_owned() } else { format!("ends in {days} days") }
}

fn certificate(pem: &str, file: &Path) -> anyhow::Result<String> {
    match leaf(pem) {
        Ok(leaf) => Ok(format!("  {}\n  serial {}\n  {}", leaf.id, leaf.serial, left(leaf.not_after_unix_s))),
        Err(refused) => {
            let authorities = suiyue_proto::identity::Authorities::from_pem(pem.as_bytes());
            let authorities = authorities.map_err(|_| usage(format!("{}: {refused}", file.display())))?;
            Ok(format!("  an authority\n  {}", left(authorities.first_end())))
        }
    }
}

fn record(bytes: &[u8], file: &Path, anchor: Option<&Anchor>) -> anyhow::Result<String> {
    let bad = |what: String| usage(format!("{}: {what}", file.display()));
    let trust = shelf::decode(bytes).map_err(|e| bad(e.to_string()))?;
    let code = Code::new(trust.province).ok_or_else(|| bad("it is of no province".to_owned()))?;
    let signature = match anchor {
        None => "not checked: give --anchor".to_owned(),
        Some(anchor) => {
            let read =
                suiyue_gateway::identity::trust::Province::read(anchor, &trust.federation, code, bytes);
            read.map_or_else(|why| format!("DOES NOT HOLD: {why}"), |_| "holds".to_owned())
        }
    };
    let revoked = [trust.revoked_ids, trust.revoked_serials].concat();
    Ok(format!(
        "  trust of {code} in {}, serial {}\n  codes beginning with {}\n  authorities {}\n  revoked {}\n  signature {signature}",
        trust.federation,
        trust.serial,
        trust.code_prefixes.join(", "),
        trust.authorities.len(),
        if revoked.is_empty() { "nobody".to_owned() } else { revoked.join(", ") },
    ))
}

#[derive(serde::Serialize)]
struct Published {
    table: Option<TableDocument>,
    province: u32,
    serial: u64,
    revision: i64,
    written: bool,
}

/// `suiyue trust publish`.
///
/// # Errors
/// No gateway can be reached, or it refuses the record.
pub async fn publish(flags: &Publish) -> anyhow::Result<()> {
    let record = std::fs::read(&flags.record).with_context(|| flags.record.display().to_string())?;
    shelf::decode(&record).map_err(|e| usage(format!("{}: {e}", flags.record.display())))?;
    let mut operator = Operator::connect(&flags.ask.gateways()).await?;
    operator.on_account(&flags.account)?;
    let answer = operator.publish_trust(record).await.map_err(|status| {
        let line = operator.refused("PublishTrust", &status);
        match Reason::of(&status) {
            Some(
                Reason::TrustOlder
                | Reason::TrustInvalid
                | Reason::TrustNone
                | Reason::RegistryNone
                | Reason::ReasonRequired
                | Reason::RoleInsufficient
                | Reason::AuditBroken,
            ) => anyhow!(Guarded(line)),
            _ => anyhow!(line),
        }
    })?;
    if flags.ask.output == Format::Json {
        return output::json(&Published {
            table: answer.table.as_ref().map(TableDocument::from),
            province: answer.province,
            serial: answer.serial,
            revision: answer.revision,
            written: answer.written,
        });
    }
    let what = if answer.written { "published" } else { "stood there already" };
    output::line(&format!(
        "trust of {} {what}: serial {}, revision {}\n{}",
        answer.province,
        answer.serial,
        answer.revision,
        footer(answer.table.as_ref())
    ))
}

#[cfg(test)]
mod tests;
