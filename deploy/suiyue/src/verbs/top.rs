//! How is the federation, this second? (`suiyue top`)
//!
//! Every gateway of the list is asked by a task of its own, so that one that hangs does not stop the others;
//! what they say becomes a [`picture`], the [`view`] makes lines of it, and the [`terminal`] shows them.
//! Without a terminal there is one look and one table.

pub mod keys;
pub mod picture;
pub mod terminal;
pub mod view;

use super::{
    output::{self, Format},
    survey::{Heard, Line},
};
use crate::{cli::Top, exit::Exit};
use anyhow::{Context as _, bail};
use picture::{Gateway, Numbers, Picture, Row};
use serde::Serialize;
use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};
use terminal::Screen;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::Instant,
};
use view::{Then, View};

/// The document of `top --once -o json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The gateways of the list.
    pub gateways: Vec<Gateway>,
    /// All calls together.
    pub total: Numbers,
    /// A row for each node of each region.
    pub rows: Vec<Row>,
}

/// Runs until the person leaves, or once.
///
/// # Errors
/// When no gateway answers the one look, or the terminal cannot be used.
pub async fn run(flags: &Top) -> anyhow::Result<Exit> {
    let addresses = flags.reach.gateways();
    let view = View { by: flags.sort, filter: flags.filter.clone(), ..View::default() };
    let every = Duration::from_millis(flags.interval_ms.into());
    if flags.once || flags.output == Format::Json || !io::stdout().is_terminal() {
        return once(&addresses, &view, every, flags.output).await;
    }
    live(&addresses, view, every).await
}

/// What a gateway of the list said.
type Said = (usize, Result<Heard, String>);

/// Tasks that ask; they end when this is dropped.
struct Asking {
    said: mpsc::Receiver<Said>,
    _tasks: JoinSet<()>,
}

impl Asking {
    fn start(addresses: &[String], every: Duration) -> Self {
        // A picture that is not looked at holds nothing up and piles nothing up: askers wait.
        let (sender, said) = mpsc::channel(addresses.len().max(1));
        let mut tasks = JoinSet::new();
        for (index, address) in addresses.iter().enumerate() {
            let (mut line, sender) = (Line::new(address.clone()), sender.clone());
            tasks.spawn(async move {
                let mut ticks = tokio::time::interval(every);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    let answer = line.ask().await;
                    if sender.send((index, answer)).await.is_err() {
                        return;
                    }
                }
            });
        }
        Self { said, _tasks: tasks }
    }

    /// Cancel safe.
    async fn next(&mut self) -> Said {
        self.said.recv().await.expect("askers end after their receiver")
    }
}

async fn once(addresses: &[String], view: &View, every: Duration, format: Format) -> anyhow::Result<Exit> {
    let mut asking = Asking::start(addresses, every);
    let mut picture = Picture::new(addresses);
    while !picture.complete() {
        let (index, answer) = asking.next().await;
        picture.take(index, answer, Instant::now());
    }
    if picture.answering().next().is_none() {
        bail!("no gateway answers: {}", picture.notes(Instant::now()).join("; "));
    }
    match format {
        Format::Json => output::json(&Document {
            gateways: picture.gateways(),
            total: picture.total(),
            rows: view.chosen(picture.rows()),
        })?,
        Format::Table => output::line(&view::once(&picture, view, Instant::now()))?,
    }
    Ok(Exit::Done)
}

/// Signals that end the view, and the one that tells of another size.
struct Signals([Signal; 4]);

impl Signals {
    fn watch() -> io::Result<Self> {
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
            SignalKind::window_change(),
        ];
        let [a, b, c, d] = kinds.map(signal);
        Ok(Self([a?, b?, c?, d?]))
    }

    /// Cancel safe.
    async fn next(&mut self) -> Then {
        let [interrupt, terminate, hangup, resized] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => Then::Interrupted,
            _ = terminate.recv() => Then::Interrupted,
            _ = hangup.recv() => Then::Interrupted,
            _ = resized.recv() => Then::Draw,
        }
    }
}

async fn live(addresses: &[String], mut view: View, every: Duration) -> anyhow::Result<Exit> {
    let mut signals = Signals::watch().context("signals cannot be watched")?;
    let mut asking = Asking::start(addresses, every);
    let mut picture = Picture::new(addresses);
    let screen = Screen::enter().context("the terminal cannot be used: `--once` needs none")?;
    let mut keys = terminal::keys();
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    // While the picture stands still its clock does, too.
    let mut at = Instant::now();
    loop {
        if !view.paused {
            at = Instant::now();
        }
        screen.draw(&view.frame(&picture, at, screen.size())).context("the terminal is gone")?;
        let then = tokio::select! {
            said = asking.next(), if !view.paused => {
                picture.take(said.0, said.1, Instant::now());
                Then::Draw
            }
            Some(key) = keys.recv() => view.key(key),
            then = signals.next() => then,
            _ = clock.tick() => Then::Draw,
        };
        match then {
            Then::Draw => {}
            Then::Leave => return Ok(Exit::Done),
            Then::Interrupted => return Ok(Exit::Interrupted),
        }
    }
}
