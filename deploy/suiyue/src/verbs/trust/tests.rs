//! A federation's certificates, made in an empty directory.

use super::*;
use crate::cli::{Cli, Command, trust::Trust};
use clap::Parser as _;
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};
use suiyue_gateway::identity::trust::Province;

struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("trust").join(name)
    }

    /// Runs `suiyue trust …` in the directory; the error in one line.
    fn run(&self, line: &str) -> Result<(), String> {
        let line = format!("suiyue trust {line}");
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        words.extend(["--dir".to_owned(), self.0.path().join("trust").display().to_string()]);
        let cli = Cli::try_parse_from(words).map_err(|e| e.to_string())?;
        let Command::Trust(verb) = cli.command else { panic!("{line}") };
        match &verb {
            Trust::Init(flags) => init(flags),
            Trust::Issue(flags) => issue(flags),
            Trust::Revoke(flags) => revoke(flags),
            Trust::Show(_) | Trust::Publish(_) => panic!("{line}"),
        }
        .map_err(|e| format!("{e:#}"))
    }

    fn ok(&self, line: &str) {
        self.run(line).unwrap_or_else(|why| panic!("{line}: {why}"));
    }

    fn guangdong(&self) -> Province {
        let anchor = Shelf::open(&self.path("")).unwrap().read_anchor().unwrap().public();
        let record = fs::read(self.path("trust-44.record")).unwrap();
        Province::read(&anchor, "lingnan", Code::new(440_000).unwrap(), &record).unwrap()
    }

    fn leaf(&self, name: &str) -> Leaf {
        leaf(&fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }
}

const INIT: &str = "init --federation lingnan --province 440000";

#[test]
fn a_federation_begins_with_an_anchor_and_a_province() {
    let desk = Desk::new();
    desk.ok(INIT);
    let province = desk.guangdong();
    assert_eq!(province.serial, 1);
    assert!(province.covers(Code::new(440_100).unwrap()) && !province.covers(Code::new(610_100).unwrap()));
    for (name, mode) in [("anchor.key", 0o600), ("ca-44.key", 0o600), ("ca-44.pem", 0o644)] {
        assert_eq!(fs::metadata(desk.path(name)).unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
    // The second province has the same anchor.
    let anchor = fs::read(desk.path("anchor.key")).unwrap();
    desk.ok("init --federation lingnan --province 610000 --code-prefixes 6101,6100");
    assert_eq!(fs::read(desk.path("anchor.key")).unwrap(), anchor);
    assert!(desk.path("trust-61.record").exists());
}

#[test]
fn nothing_that_is_there_is_replaced_unless_it_is_asked_for() {
    let desk = Desk::new();
    desk.ok(INIT);
    desk.ok("issue node --region 440100 --name suikang");
    let before: Vec<_> = ["ca-44.key", "suikang.key"].map(|name| fs::read(desk.path(name)).unwrap()).into();
    for line in [INIT, "issue node --region 440100 --name suikang"] {
        let why = desk.run(line).unwrap_err();
        assert!(why.contains("is there already") && why.contains("--force"), "{why}");
    }
    let after: Vec<_> = ["ca-44.key", "suikang.key"].map(|name| fs::read(desk.path(name)).unwrap()).into();
    assert_eq!(after, before);
    let gone = "spiffe://lingnan/operator/approver/li";
    desk.ok(&format!("revoke --province 440000 --id {gone}"));
    desk.ok(&format!("{INIT} --force"));
    let renewed = desk.guangdong();
    assert_eq!(renewed.serial, 3, "gateways that know the old record take the new one");
    assert_eq!(renewed.said().revoked_ids, [gone], "who is revoked stays revoked");
    // Another anchor's record is nothing to build on.
    fs::remove_file(desk.path("anchor.key")).unwrap();
    let why = desk.run(&format!("{INIT} --force")).unwrap_err();
    assert!(why.contains("trust-44.record"), "{why}");
}

#[test]
fn certificates_say_who_it_is_and_what_for() {
    let desk = Desk::new();
    desk.ok(INIT);
    desk.ok("issue node --region 440100 --name suikang");
    desk.ok("issue gateway --province 440000 --name gw-1 --host gw-1.example.cn,10.0.0.1");
    desk.ok("issue operator --province 440000 --name li --role approver --days 1");
    desk.ok("issue app --province 440000 --name gate-7");
    let authorities =
        suiyue_proto::identity::Authorities::from_pem(&fs::read(desk.path("ca-44.pem")).unwrap());
    let authorities = authorities.unwrap();
    for (name, id, server) in [
        ("suikang", "spiffe://lingnan/region/440100/node/suikang", true),
        ("gw-1", "spiffe://lingnan/gateway/gw-1", true),
        ("li", "spiffe://lingnan/operator/approver/li", false),
        ("gate-7", "spiffe://lingnan/app/gate-7", false),
    ] {
        let leaf = desk.leaf(&format!("{name}.pem"));
        assert_eq!(leaf.id.to_string(), id);
        assert_eq!((leaf.made_for(For::Client).is_ok(), leaf.made_for(For::Server).is_ok()), (true, server));
        let chain = chain_from_pem(&fs::read(desk.path(&format!("{name}.pem"))).unwrap()).unwrap();
        let now = suiyue_proto::identity::certificate::unix_time(now());
        assert!(authorities.verify(&chain, For::Client, now).is_ok());
        let mode = fs::metadata(desk.path(&format!("{name}.key"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_revocation_is_the_next_record() {
    let desk = Desk::new();
    desk.ok(INIT);
    desk.ok("issue node --region 440100 --name suikang");
    let suikang = desk.leaf("suikang.pem");
    let is_out = || {
        let province = desk.guangdong();
        let serial = province.serial;
        let roll = suiyue_gateway::identity::Roll::new([(province.code, province.into())].into());
        (serial, roll.is_revoked(&suikang))
    };
    assert_eq!(is_out(), (1, false));
    desk.ok(&format!("revoke --province 440000 --id {}", suikang.id));
    assert_eq!(is_out(), (2, true));
    desk.ok(&format!("revoke --province 440000 --restore {}", suikang.id));
    assert_eq!(is_out(), (3, false));
    desk.ok(&format!("revoke --province 440000 --serial {}", suikang.serial.to_uppercase()));
    assert_eq!(is_out(), (4, true));
}

#[test]
fn each_wrong_word_is_named() {
    let desk = Desk::new();
    let refused = |line: &str, part: &str| {
        let why = desk.run(line).unwrap_err();
        assert!(why.contains(part), "{line}: {why}");
    };
    refused("issue node --region 440100 --name suikang", "trust init");
    refused("init --federation Lingnan --province 440000", "--federation");
    refused("init --federation lingnan --province 440100", "440100 is no province");
    refused("init --federation lingnan --province 440000 --code-prefixes 61", "\"61\" is no prefix");
    assert!(!desk.path("ca-44.key").exists(), "nothing is left half done");
    desk.ok(INIT);
    refused("issue node --region 440106 --name suikang", "440100");
    refused("issue node --region 440100 --name Suikang", "--name");
    refused("issue node --region 610100 --name chengma", "trust init --province 610000");
    refused("issue node --region 440100 --province 610000 --name suikang", "leave --province out");
    refused("issue node --name suikang --province 440000", "--region");
    refused("issue gateway --name gw-1", "--province");
    refused("issue gateway --name gw-1 --province 440000 --host *.example.cn", "wildcards");
    refused("revoke --province 440000", "--id");
    refused("revoke --province 440000 --id spiffe://other/app/a", "another federation");
    refused("revoke --province 440000 --id suikang", "spiffe://");
    refused("revoke --province 440000 --serial xyz", "hexadecimal");
    fs::set_permissions(desk.path("ca-44.key"), fs::Permissions::from_mode(0o644)).unwrap();
    refused("issue node --region 440100 --name suikang", "chmod 600");
}
