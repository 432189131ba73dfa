//! What the command line takes and what it refuses.

use super::*;
use clap::CommandFactory as _;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_has_a_help_text_and_a_variable() {
    fn walk(command: &clap::Command) {
        for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
            let name = format!("{} --{}", command.get_name(), arg.get_id());
            if !["help", "version"].contains(&arg.get_id().as_str()) {
                assert!(arg.get_env().is_some(), "{name} has no variable");
            }
            assert!(arg.get_help().is_some(), "{name} has no help");
        }
        command.get_subcommands().for_each(walk);
    }
    walk(&Cli::command());
}

/// Verbs that change what gateways or the registry do.
const CHANGES: [&str; 23] = [
    "app add",
    "app revoke",
    "app rotate",
    "breakglass cancel",
    "breakglass drain",
    "breakglass shift",
    "breakglass undrain",
    "gateway drain",
    "node drain",
    "node promote",
    "node suspend",
    "node undrain",
    "region set",
    "registry accept",
    "registry freeze",
    "shift apply",
    "shift approve",
    "shift cancel",
    "shift extend",
    "shift hold",
    "shift resume",
    "shift rollback",
    "trust publish",
];

#[test]
fn what_changes_something_can_be_rehearsed_read_by_a_program_and_shows_an_example() {
    let cli = Cli::command();
    for words in CHANGES {
        let verb = words.split(' ').fold(&cli, |command, word| command.find_subcommand(word).unwrap());
        let takes = |name: &str| verb.get_arguments().any(|arg| arg.get_id() == name);
        assert!(takes("dry_run"), "{words} has no --dry-run");
        assert!(takes("output"), "{words} has no -o");
        let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains(&format!("suiyue {words}")), "{words}: {help}");
    }
    // A verb that takes a reason changes something: none is left out above. A plan only keeps it.
    for group in cli.get_subcommands() {
        for verb in group.get_subcommands() {
            let words = format!("{} {}", group.get_name(), verb.get_name());
            let reasoned = verb.get_arguments().any(|arg| arg.get_id() == "reason");
            let checked = CHANGES.contains(&words.as_str()) || words == "shift plan";
            assert!(!reasoned || checked, "{words} is not checked");
        }
    }
}

#[test]
fn every_verb_shows_an_example() {
    fn walk(command: &clap::Command, path: &str) {
        for verb in command.get_subcommands() {
            let path = format!("{path} {}", verb.get_name());
            if verb.has_subcommands() {
                walk(verb, &path);
            } else {
                let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("suiyue "), "{path} shows no example");
            }
        }
    }
    walk(&Cli::command(), "suiyue");
}

#[test]
fn node_without_a_subcommand_runs() {
    let cli = parse("suiyue node --config n.toml").unwrap();
    assert!(matches!(cli.command, Command::Node(Node { verb: None, run: NodeRun { config: Some(_), .. } })));
    let cli = parse("suiyue node run --config n.toml").unwrap();
    assert!(matches!(cli.command, Command::Node(Node { verb: Some(NodeVerb::Run(_)), .. })));
    assert!(parse("suiyue node --config n.toml list").is_err());
}

#[test]
fn several_gateways_are_taken() {
    let cli = parse("suiyue region list --gateway a:1,b:2 -o json").unwrap();
    let Command::Region(Region::List { ask, .. }) = cli.command else { panic!("{cli:?}") };
    assert_eq!((ask.gateways(), ask.output), (vec!["a:1".into(), "b:2".into()], Format::Json));
}

#[test]
fn a_policy_is_described_and_set() {
    let cli = parse("suiyue region describe 440100 -o toml --gateway a:1").unwrap();
    let Command::Region(Region::Describe(flags)) = cli.command else { panic!("{cli:?}") };
    assert_eq!((flags.region.get(), flags.output), (440_100, DescribeFormat::Toml));
    let cli = parse("suiyue region set 440100 -f p.toml --dry-run").unwrap();
    let Command::Region(Region::Set(flags)) = cli.command else { panic!("{cli:?}") };
    assert_eq!((flags.file, flags.dry_run, flags.allow_unregistered), ("p.toml".into(), true, false));
    assert!(parse("suiyue region set 440100").is_err());
    assert!(parse("suiyue region set 440100 -f p.toml -o toml").is_err());
}

#[test]
fn what_is_wanted_of_a_node_is_said() {
    let cli =
        parse("suiyue node promote xian --to canary-25 --region 610100 --dry-run --reason r --actor li")
            .unwrap();
    let Command::Node(Node { verb: Some(NodeVerb::Promote(flags)), .. }) = cli.command else {
        panic!("{cli:?}")
    };
    assert_eq!((flags.intend.node.as_str(), flags.to), ("xian", Some(To::Canary25)));
    let account = &flags.intend.account;
    assert_eq!((account.reason.as_deref(), account.actor.as_deref()), (Some("r"), Some("li")));
    assert_eq!(
        (flags.region.map(Code::get), flags.intend.dry_run, flags.intend.force),
        (Some(610_100), true, false)
    );
    let cli = parse("suiyue node drain xian --endpoint xian-1 --endpoint xian-2").unwrap();
    let Command::Node(Node { verb: Some(NodeVerb::Drain(flags)), .. }) = cli.command else {
        panic!("{cli:?}")
    };
    assert_eq!(flags.endpoints, ["xian-1", "xian-2"]);
    assert!(parse("suiyue node promote xian --to canary-10").is_err());
    assert!(parse("suiyue node promote").is_err());
}

#[test]
fn a_node_is_tried_with_named_holders() {
    let cli = parse("suiyue node verify a:1 --region 440100,610100 --load 500").unwrap();
    let Command::Node(Node { verb: Some(NodeVerb::Verify(flags)), .. }) = cli.command else {
        panic!("{cli:?}")
    };
    assert_eq!((flags.region.len(), flags.load, flags.scan_ms), (2, Some(500), 200));
    assert!(parse("suiyue node verify a:1").is_err());
    assert!(parse("suiyue node verify a:1 --region 440100 --holders f").is_err());
    assert!(parse("suiyue node verify a:1 --region 440100 --load 1000000").is_err());
}

#[test]
fn an_app_is_added_with_lists() {
    let line = "suiyue app add gate --method a.B/*,/a.B/C --method /d.E/F --class scan --region 440000,610100 --reason r";
    let cli = parse(line).unwrap();
    let Command::App(App::Add(flags)) = cli.command else { panic!("{cli:?}") };
    assert_eq!((flags.methods.len(), flags.regions.len(), flags.classes.len()), (3, 2, 1));
    assert_eq!((flags.account.reason.as_deref(), flags.account.actor, flags.rps), (Some("r"), None, None));
    assert!(parse("suiyue app add gate --region 440000").is_err());
    assert!(parse("suiyue app add gate --method a.B/*").is_err());
    assert!(parse("suiyue app rotate gate --keep-old-s 2592001").is_err());
}

#[test]
fn a_freeze_needs_a_reason_and_its_end_none() {
    let cli = parse("suiyue registry freeze --reason trial --dry-run").unwrap();
    let Command::Registry(Registry::Freeze { off, reason, dry_run, .. }) = cli.command else {
        panic!("{cli:?}")
    };
    assert_eq!((off, reason.as_deref(), dry_run), (false, Some("trial"), true));
    let cli = parse("suiyue registry freeze --off").unwrap();
    let Command::Registry(Registry::Freeze { off, reason, .. }) = cli.command else { panic!("{cli:?}") };
    assert_eq!((off, reason), (true, None));
}

#[test]
fn several_things_are_supposed() {
    let line =
        "suiyue route explain --region 440100 --what-if node-down=a --what-if drain=b --what-if s.toml";
    let cli = parse(line).unwrap();
    let Command::Route(Route::Explain { what_if, .. }) = cli.command else { panic!("{cli:?}") };
    let expected = [WhatIf::NodeDown("a".into()), WhatIf::Drain("b".into()), WhatIf::Shift("s.toml".into())];
    assert_eq!(what_if, expected);
}

#[test]
fn every_operator_verb_has_an_example() {
    let verbs = [
        ["region", "list"],
        ["region", "describe"],
        ["region", "set"],
        ["route", "explain"],
        ["app", "add"],
        ["app", "list"],
        ["app", "describe"],
        ["app", "rotate"],
        ["app", "revoke"],
        ["audit", "tail"],
        ["audit", "verify"],
    ];
    let nodes = ["describe", "verify", "promote", "suspend", "drain", "undrain"].map(|verb| ["node", verb]);
    let registry = ["status", "dump", "diff", "freeze", "accept"].map(|verb| ["registry", verb]);
    for verb in nodes.into_iter().chain(registry).chain(verbs) {
        let mut command = Cli::command();
        let verb = verb.iter().fold(&mut command, |c, name| c.find_subcommand_mut(name).unwrap());
        let help = verb.render_long_help().to_string();
        assert!(help.contains("Example"), "{help}");
    }
}

#[test]
fn wrong_values_are_refused_with_what_is_wanted() {
    let check = |line: &str, wanted: &str| {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(wanted), "{line}: {error}");
    };
    check("suiyue route explain --region 44", "six digits");
    check("suiyue route explain --region 440100 --class fast", "scan, show, query or sync");
    check("suiyue code show --region 440100 --subject 12", "32 hex digits");
    check("suiyue app add gate --method a.B/* --region 440000 --class fast", "scan, show, query or sync");
    check("suiyue audit tail --last 0", "1..=100000");
    check("suiyue node list --gateway nowhere", "host:port");
    check("suiyue route explain --region 440100 --what-if drain=", "drain=NAME");
    check("suiyue route explain --region 440100 --what-if undrain=a", "shift file");
    check("suiyue region describe Guangzhou", "six digits");
    check("suiyue region describe 440100 -o yaml", "toml");
    check("suiyue registry freeze", "--reason");
    check("suiyue load --mix show=0", "weight above 0");
    check("suiyue load --seconds 0", "seconds");
    check("suiyue demo --seconds 3", "10..=86400");
    check("suiyue demo --json --hold", "cannot be used with");
}
