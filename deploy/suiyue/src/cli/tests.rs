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
    let registry = ["status", "dump", "diff", "freeze", "accept"].map(|verb| ["registry", verb]);
    let others = [["region", "list"], ["region", "describe"], ["region", "set"], ["route", "explain"]];
    for verb in registry.into_iter().chain(others) {
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
