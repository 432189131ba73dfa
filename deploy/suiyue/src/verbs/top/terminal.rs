//! How does the terminal become ours, and how does it get back what it was?
//!
//! Raw mode, the alternate screen and a hidden cursor, from [`Screen::enter`] until it is dropped, or until
//! anything panics: a panic's message is read on the screen where the person was before. Ctrl-C is a key
//! in raw mode; signals are the business of whoever holds the screen.

use super::{
    keys::{Key, Parser},
    view::{Line, Tone},
};
use crossterm::{
    cursor::{Hide, MoveTo, Show},
    execute, queue,
    style::{Attribute, Print, SetAttribute},
    terminal::{
        self, BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
        LeaveAlternateScreen,
    },
};
use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    sync::{
        Once,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};
use tokio::sync::mpsc;

/// The terminal is ours.
static OURS: AtomicBool = AtomicBool::new(false);

/// The terminal while it is ours; dropping it gives it back.
#[derive(Debug)]
pub struct Screen(());

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When it does not let itself be taken; it is as before then.
    pub fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        OURS.store(true, SeqCst);
        let screen = Self(());
        // Without keys Ctrl-C must stay the signal that it is.
        if io::stdin().is_terminal() {
            terminal::enable_raw_mode()?;
        }
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// Columns and rows.
    #[must_use]
    pub fn size(&self) -> (u16, u16) {
        // 0 is what a terminal says that does not know.
        terminal::size().ok().filter(|&(width, height)| width > 0 && height > 0).unwrap_or((80, 24))
    }

    /// Draws every line anew; nothing flickers, because nothing is cleared first.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn draw(&self, lines: &[Line]) -> io::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        queue!(out, BeginSynchronizedUpdate)?;
        for (row, line) in (0u16..).zip(lines) {
            queue!(out, MoveTo(0, row))?;
            match line.tone {
                Tone::Plain => queue!(out, Print(&line.text))?,
                Tone::Loud => styled(&mut out, Attribute::Bold, &line.text)?,
                Tone::Heading => styled(&mut out, Attribute::Reverse, &line.text)?,
            }
            queue!(out, Clear(ClearType::UntilNewLine))?;
        }
        queue!(out, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn styled(out: &mut impl io::Write, attribute: Attribute, text: &str) -> io::Result<()> {
    queue!(out, SetAttribute(attribute), Print(text), SetAttribute(Attribute::Reset))
}

/// Gives the terminal back, once.
fn give_back() {
    if OURS.swap(false, SeqCst) {
        // There is nobody left to tell if it does not work.
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = terminal::disable_raw_mode();
    }
}

/// The keys that are pressed. A thread waits for them, because there is no other way to read a terminal that
/// leaves it as it is; it ends with the process, or with the input.
#[must_use]
pub fn keys() -> mpsc::Receiver<Key> {
    let (sender, receiver) = mpsc::channel(64);
    if io::stdin().is_terminal() {
        std::thread::spawn(move || {
            let (mut parser, mut bytes) = (Parser::default(), [0; 256]);
            while let Ok(count @ 1..) = io::stdin().lock().read(&mut bytes) {
                for key in parser.feed(&bytes[..count]) {
                    if sender.blocking_send(key).is_err() {
                        return;
                    }
                }
            }
        });
    }
    receiver
}
