//! What is a region's policy, who may answer for it, and where do its calls go?
//! (`suiyue region describe`)

use super::file::{Class, Policy, Rule};
use crate::{
    cli::{Describe, DescribeFormat},
    verbs::{
        operator::{Operator, TableDocument, footer},
        output,
        route::{Candidate, percent},
    },
};
use serde::Serialize;
use suiyue_proto::v1::{ClassRoute, DescribeRegionResponse, RegionNode};

/// The document of `region describe -o json`; the fields are those of `DescribeRegionResponse`, and
/// `policy` is the file that `region set` takes.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The table behind the answer.
    pub table: Option<TableDocument>,
    /// The routing region after roll-up.
    pub region: u32,
    /// Chinese name.
    pub name_zh: String,
    /// English name.
    pub name_en: String,
    /// The policy in the registry; null: there is none.
    pub policy: Option<Policy>,
    /// Registry revision of the policy; 0: there is none.
    pub policy_revision: i64,
    /// The plan in `table` was made with it.
    pub policy_in_force: bool,
    /// Why it cannot be used; null: it can.
    pub policy_problem: Option<String>,
    /// Part of the region's calls above which a second person must approve that they move.
    pub two_person_above: f64,
    /// Rules in force and routes of every class, highest first.
    pub classes: Vec<ClassDocument>,
    /// Who may answer, by tier and name.
    pub nodes: Vec<Node>,
}

/// Rules and route of one class.
#[derive(Debug, Serialize)]
pub struct ClassDocument {
    /// The class.
    pub class: String,
    /// The rules in force, defaults filled in.
    pub rule: Option<Rule>,
    /// Every candidate; empty: nobody serves the region.
    pub candidates: Vec<Candidate>,
}

/// A node that may answer.
#[derive(Debug, Serialize)]
pub struct Node {
    /// Its name.
    pub node: String,
    /// 0 the region's own, 1 its province's, 2 peers.
    pub tier: u32,
    /// Its own region; null: it is not registered.
    pub region: Option<u32>,
    /// `city` or `province`; null: it is not registered.
    pub role: Option<String>,
    /// Classes it may answer.
    pub classes: Vec<String>,
    /// Its weight; null: the policy has no weights.
    pub weight: Option<f64>,
    /// Endpoints that are there.
    pub endpoints: u32,
}

impl From<&RegionNode> for Node {
    fn from(node: &RegionNode) -> Self {
        let registered = node.region > 0;
        Self {
            node: node.node.clone(),
            tier: node.tier,
            region: registered.then_some(node.region),
            role: registered.then(|| output::word(node.role().as_str_name(), "ROLE_")),
            classes: node.classes.iter().map(|&class| word(class)).collect(),
            weight: node.weight,
            endpoints: node.endpoints,
        }
    }
}

impl From<&DescribeRegionResponse> for Document {
    fn from(answer: &DescribeRegionResponse) -> Self {
        let classes = answer.rules.iter().map(|rule| ClassDocument {
            class: word(rule.class),
            rule: Some(Rule::of(rule)),
            candidates: candidates(&answer.routes, rule.class),
        });
        let policy = answer.policy.as_ref();
        Self {
            table: answer.table.as_ref().map(TableDocument::from),
            region: answer.region,
            name_zh: answer.name_zh.clone(),
            name_en: answer.name_en.clone(),
            policy: policy.map(|policy| Policy::of(answer.region, answer.policy_revision, policy)),
            policy_revision: answer.policy_revision,
            policy_in_force: answer.policy_in_force,
            policy_problem: (!answer.policy_problem.is_empty()).then(|| answer.policy_problem.clone()),
            two_person_above: answer.two_person_above,
            classes: classes.collect(),
            nodes: answer.nodes.iter().map(Node::from).collect(),
        }
    }
}

/// Candidates of one class.
pub(in crate::verbs) fn candidates(routes: &[ClassRoute], class: i32) -> Vec<Candidate> {
    let route = routes.iter().find(|route| route.class == class);
    route.into_iter().flat_map(|route| &route.candidates).map(Candidate::from).collect()
}

/// The word of a class.
pub(in crate::verbs) fn word(class: i32) -> String {
    Class::of(class).map_or_else(|| class.to_string(), |class| class.as_str().to_owned())
}

/// Describes a region.
///
/// # Errors
/// When no gateway can be reached, or it refuses.
pub async fn describe(flags: &Describe) -> anyhow::Result<()> {
    let answer = Operator::connect(&flags.reach.gateways()).await?.describe(flags.region.get()).await?;
    let document = Document::from(&answer);
    match flags.output {
        DescribeFormat::Json => output::json(&document),
        DescribeFormat::Toml => output::line(&toml(&document)),
        DescribeFormat::Table => {
            let (nodes, classes) = (nodes(&document), classes(&document));
            let footer = footer(answer.table.as_ref());
            output::line(&format!("{}\n{nodes}\n{classes}\n{footer}", heading(&document)))
        }
    }
}

/// The file, with a line that says what it is. Without a policy: the empty one that could be set.
fn toml(document: &Document) -> String {
    let none = Policy { region: Some(document.region), revision: Some(0), ..Policy::default() };
    let policy = document.policy.as_ref().unwrap_or(&none);
    format!("# Policy of {} {}.\n{}", document.name_zh, document.name_en, policy.toml())
}

fn heading(document: &Document) -> String {
    let Document { region, name_zh, name_en, policy, policy_revision, .. } = document;
    let state = match (policy, &document.policy_problem, document.policy_in_force) {
        (_, Some(problem), _) => {
            format!(
                "its policy of revision {policy_revision} cannot be used ({problem}): the defaults are in force"
            )
        }
        (None, None, _) => "no policy: the defaults are in force".to_owned(),
        (Some(_), None, true) => format!("policy of revision {policy_revision}, in force"),
        (Some(_), None, false) => format!("policy of revision {policy_revision}, not in force here yet"),
    };
    let policy = policy.clone().unwrap_or_default();
    let second = policy
        .two_person_above
        .map_or(format!("{} (default)", document.two_person_above), |part| part.to_string());
    let in_flight = policy.in_flight_max.map_or("not set".to_owned(), |max| max.to_string());
    format!("{region} {name_zh} {name_en}: {state}\ntwo_person_above {second}, in_flight_max {in_flight}")
}

fn nodes(document: &Document) -> comfy_table::Table {
    let mut table = output::table(["tier", "node", "own region", "role", "answers", "weight", "endpoints"]);
    for node in &document.nodes {
        table.add_row([
            node.tier.to_string(),
            node.node.clone(),
            node.region.map_or("not registered".to_owned(), |region| region.to_string()),
            node.role.clone().unwrap_or_else(|| "-".to_owned()),
            node.classes.join(" "),
            node.weight.map_or("-".to_owned(), |weight| weight.to_string()),
            node.endpoints.to_string(),
        ]);
    }
    table
}

fn classes(document: &Document) -> comfy_table::Table {
    let mut table = output::table(["class", "data at most", "nothing healthy", "calls go to"]);
    for class in &document.classes {
        let rule = class.rule.as_ref();
        let lag = rule.and_then(|rule| rule.max_lag_s).map(|seconds| format!("{seconds} s old"));
        let nothing = rule.and_then(|rule| rule.nothing_healthy);
        table.add_row([
            class.class.clone(),
            lag.unwrap_or_else(|| "any age".to_owned()),
            nothing.map_or("-".to_owned(), |nothing| nothing.as_str().to_owned()),
            goes_to(&class.candidates),
        ]);
    }
    table
}

/// `suikang 50.0 % (policy), yuekang 50.0 % (policy)`.
pub(in crate::verbs) fn goes_to(candidates: &[Candidate]) -> String {
    let open = candidates.iter().filter(|candidate| candidate.share > 0.0);
    let open = open.map(|c| format!("{} {} ({})", c.node, percent(c.share), c.reason)).collect::<Vec<_>>();
    if open.is_empty() { "nobody".to_owned() } else { open.join(", ") }
}
