//! How is a conformance run started and told? (`suiyue node verify`)

use super::output::{self, Format};
use crate::{
    cli,
    exit::{Exit, Usage},
    verify::{Load, Outcome, Point, Report, Trial, read_golden, verify},
};
use serde::Serialize;
use std::{fs::File, io::BufReader, path::Path, time::Duration};
use suiyue_node::population::{Holder, read_lines};

/// The document of `node verify -o json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The node's port.
    pub address: String,
    /// Points that passed.
    pub passed: usize,
    /// Points that failed.
    pub failed: usize,
    /// Points that could not be tried.
    pub skipped: usize,
    /// All of them, in the order they were tried.
    pub points: Vec<Point>,
}

/// Checks a node. [`Exit::Bad`] when a point failed.
///
/// # Errors
/// [`Usage`] for a file that cannot be used, another one when the node cannot be reached.
pub async fn run(flags: &cli::Verify) -> anyhow::Result<Exit> {
    let trial = trial(flags)?;
    let report = verify(&trial).await?;
    let exit = if report.failed().next().is_some() { Exit::Bad } else { Exit::Done };
    match flags.output {
        Format::Json => output::json(&document(report))?,
        Format::Table => output::line(&told(&report))?,
    }
    Ok(exit)
}

fn trial(flags: &cli::Verify) -> anyhow::Result<Trial> {
    let holders = match &flags.holders {
        Some(path) => holders(path)?,
        None => Trial::generated(&flags.region, flags.population, flags.seed),
    };
    let golden = match &flags.golden {
        Some(path) => read_golden(&path.display().to_string(), open(path)?).map_err(Usage)?,
        None => Vec::new(),
    };
    let step = Duration::from_secs(flags.load_step_s.into());
    Ok(Trial {
        address: flags.address.to_string(),
        own: super::operator::own().cloned(),
        holders,
        golden,
        scan: Duration::from_millis(flags.scan_ms.into()),
        calls: flags.calls,
        load: flags.load.map(|rps| Load { rps, step }),
    })
}

fn holders(path: &Path) -> anyhow::Result<Vec<Holder>> {
    let mut holders = Vec::new();
    let name = path.display().to_string();
    read_lines(&name, &mut open(path)?, |holder| holders.push(holder))
        .map_err(|error| Usage(error.to_string()))?;
    if holders.is_empty() {
        return Err(Usage(format!("{name}: no holder stands in it")).into());
    }
    Ok(holders)
}

fn open(path: &Path) -> Result<BufReader<File>, Usage> {
    let file = File::open(path).map_err(|error| Usage(format!("{}: {error}", path.display())))?;
    Ok(BufReader::new(file))
}

fn document(report: Report) -> Document {
    let count = |outcome| report.count(outcome);
    Document {
        passed: count(Outcome::Passed),
        failed: count(Outcome::Failed),
        skipped: count(Outcome::Skipped),
        address: report.address,
        points: report.points,
    }
}

/// The table, then each failed point with the request that shows it, then the sum.
fn told(report: &Report) -> String {
    let mut table = output::table(["point", "", "came"]);
    for point in &report.points {
        let outcome = match point.outcome {
            Outcome::Passed => "ok",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        };
        table.add_row([point.name.as_str(), outcome, point.came.as_str()]);
    }
    let mut text = format!("{table}\n");
    for point in report.failed() {
        let Point { name, asked, expected, came, request, .. } = point;
        text.push_str(&format!(
            "\nFAILED {name}\n  asked     {asked}\n  expected  {expected}\n  came      {came}\n"
        ));
        if !request.is_empty() {
            text.push_str(&format!("  request   {request}\n"));
        }
    }
    let count = |outcome| report.count(outcome);
    let (passed, failed) = (count(Outcome::Passed), count(Outcome::Failed));
    let skipped = count(Outcome::Skipped);
    let verdict = if failed == 0 { "keeps the contract" } else { "does not keep the contract" };
    text.push_str(&format!(
        "\n{} {verdict}: {passed} passed, {failed} failed, {skipped} skipped\n",
        report.address
    ));
    text
}
