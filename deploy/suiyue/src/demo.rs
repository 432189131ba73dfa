//! What happens when a city's code system dies at the worst moment?
//!
//! The demo starts a federation as child processes of this binary: Suikang and Yuekang for Guangzhou,
//! Xi'an and Shaanxi for Xi'an, and a gateway. Apps show and scan codes through the gateway at a
//! steady rate while `script` kills and restarts nodes. `ledger` accounts for every call, and
//! `screen` shows what is going on.
//!
//! Children never outlive the demo: they are killed and reaped when `federation::Federation` is
//! dropped, and each exits by itself when its stdin ends, however the demo died.

mod child;
mod federation;
mod ledger;
mod report;
mod screen;
mod script;
mod watch;

use crate::{
    cli,
    exit::Exit,
    load::{Config, Driver},
    serve::signals,
};
use anyhow::Context as _;
use federation::{Federation, GUANGZHOU, NodeName, XIAN};
use ledger::Ledger;
use report::Report;
use screen::Screen;
use script::{Event, Step};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use watch::Watch;

/// A returning node must be in rotation this long after the play would have ended at the latest.
const PATIENCE: Duration = Duration::from_secs(20);

/// Plays the demo. Failed calls and wrong verdicts make it [`Exit::Bad`].
///
/// # Errors
/// When the federation does not come up: says which child, with its last log lines.
pub async fn run(flags: &cli::Demo) -> anyhow::Result<Exit> {
    let stop = CancellationToken::new();
    signals::cancel_on_signal(stop.clone(), || {}).context("signals cannot be watched")?;
    let screen = Arc::new(Screen::new(flags.json));
    let played = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(Exit::Interrupted),
        played = play(flags, &screen) => played,
    };
    screen.close();
    if stop.is_cancelled() {
        screen.event("stopped: all processes of the demo have ended");
        return Ok(Exit::Interrupted);
    }
    played
}

async fn play(flags: &cli::Demo, screen: &Arc<Screen>) -> anyhow::Result<Exit> {
    let steps = script::steps(Duration::from_secs(u64::from(flags.seconds)));
    for line in script::announce(&steps, flags.rate) {
        screen.event(&line);
    }
    let mut federation = Federation::start(flags, screen).await?;
    let watch = Watch::start(&federation.addresses, Arc::clone(screen)).await?;
    federation.all_up(&watch).await?;
    screen.event("all four nodes are in rotation; the apps begin");

    let ledger = Arc::new(Ledger::default());
    let driver = Driver::warm(load(flags, &federation), ledger.clone()).await?;
    let begun = Instant::now();
    ledger.begin(steps[0].name);
    screen.start_clock();
    let drawing = screen::Drawing::start(screen, &ledger, &watch);
    let driving = tokio::spawn(driver.run(CancellationToken::new()));
    let mut player = Player { federation: &mut federation, watch: &watch, ledger: &ledger, screen, begun };
    for step in &steps {
        player.play(step).await?;
    }
    let finished = driving.await.context("the load driver broke")?;
    federation.still_running()?;
    drop(drawing);
    let report = Report::new(finished, begun, &ledger);
    screen.close();
    screen.report(&report)?;
    if flags.hold {
        federation.invite(screen, flags).await?;
        std::future::pending::<()>().await;
    }
    Ok(if report.failed + report.wrong_verdict > 0 { Exit::Bad } else { Exit::Done })
}

fn load(flags: &cli::Demo, federation: &Federation) -> Config {
    Config {
        servers: vec![federation.addresses.data.to_string()],
        rate: flags.rate,
        length: Duration::from_secs(u64::from(flags.seconds)),
        mix: crate::load::mix::Mix::default(),
        connections: 4,
        regions: vec![GUANGZHOU, XIAN],
        holders: flags.holders,
        population_seed: federation::POPULATION_SEED,
        seed: rand::random(),
        in_flight: 10_000,
        timeout: None,
        authorization: None,
    }
}

/// Plays the script's steps on a federation.
struct Player<'a> {
    federation: &'a mut Federation,
    watch: &'a Watch,
    ledger: &'a Ledger,
    screen: &'a Screen,
    begun: Instant,
}

impl Player<'_> {
    async fn play(&mut self, step: &Step) -> anyhow::Result<()> {
        sleep_until(self.begun + step.at).await;
        self.federation.still_running()?;
        match step.event {
            Event::Normal => {
                self.ledger.settle();
                self.screen.event("normal: each region's own system answers");
            }
            Event::Kill { node, stays } => self.kill(step, node, stays).await?,
            Event::Return(node) => self.bring_back(step, node).await?,
        }
        Ok(())
    }

    /// Kills a node, but never while its partner is still coming back: one loss at a time is what the
    /// demo promises to survive.
    async fn kill(&mut self, step: &Step, node: NodeName, stays: NodeName) -> anyhow::Result<()> {
        self.federation.up(stays, self.watch, PATIENCE).await?;
        self.ledger.begin(step.name);
        self.federation.kill(node)?;
        self.ledger.settle();
        self.screen.event(&format!(
            "{} is killed (SIGKILL); {} carries Guangzhou",
            node.title(),
            stays.title()
        ));
        Ok(())
    }

    async fn bring_back(&mut self, step: &Step, node: NodeName) -> anyhow::Result<()> {
        self.ledger.begin(step.name);
        self.screen.event(&format!("{} returns", node.title()));
        self.federation.spawn(node).await?;
        self.ledger.settle();
        Ok(())
    }
}
