//! Up to which priority are calls taken from now on?
//!
//! Too much: at once to what was really done, less a twentieth, however far that is; stepping down by a
//! twentieth at a time would take 45 windows for a tenfold surge. The window after that still sees the
//! queue of the one before, and is not judged. After three calm windows upwards, by a fiftieth, then by
//! twice as much with every calm window that follows: while there is too much somebody soon waits, and
//! that ends it; when the surge is over everybody is back within two seconds.
//!
//! Where a cut falls is read from the mix of the last windows: a single one has few calls of each priority.
//! Of those above the cursor hardly any come, because gateways need not even try; what was last known of
//! them counts on, or every cut after that would fall too low.

use super::window::Window;
use suiyue_proto::priority::{ALL, Cursor};

/// Calm windows before more is taken.
const CALM: u32 = 3;
/// Part of what is taken that is added by the first step.
const PART: u16 = 50;
/// Part of what was done that is taken after too much.
const BACK: f64 = 0.95;
/// Part of the mix that a window replaces.
const NEW: f64 = 0.25;

/// The cursor, and what it remembers.
#[derive(Debug)]
pub(super) struct Steps {
    cursor: Cursor,
    calm: u32,
    stride: u16,
    /// The last window was overloaded: this one has its queue.
    cut: bool,
    /// Calls of a window by priority, old windows fading.
    mix: Box<[f64; ALL as usize]>,
}

impl Default for Steps {
    fn default() -> Self {
        Self { cursor: Cursor::OPEN, calm: 0, stride: 1, cut: false, mix: Box::new([0.0; ALL as usize]) }
    }
}

impl Steps {
    /// Where it stands.
    pub(super) const fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// A window has ended.
    pub(super) fn step(&mut self, window: &Window) {
        let seen = self.mix.iter_mut().zip(window.came_by_priority()).take(self.cursor.get().into());
        for (mix, came) in seen {
            *mix += (f64::from(*came) - *mix) * NEW;
        }
        if std::mem::take(&mut self.cut) {
            return;
        }
        if window.is_overloaded() {
            (self.calm, self.stride, self.cut) = (0, 1, true);
            let came = f64::from(window.within(self.cursor)).max(1.0);
            self.cursor = self.cursor.min(self.keeping(f64::from(window.begun()) / came * BACK));
        } else if window.is_calm() {
            self.calm += 1;
            if self.calm > CALM && self.cursor < Cursor::OPEN {
                self.rise();
            }
        } else {
            (self.calm, self.stride) = (0, 1);
        }
    }

    fn rise(&mut self) {
        let taken = self.cursor.get();
        let step = (taken / PART).max(1).saturating_mul(self.stride);
        self.cursor = Cursor::new(taken.saturating_add(step));
        self.stride = self.stride.saturating_mul(2).min(ALL);
    }

    /// The cursor that takes this part of the calls that are taken now.
    fn keeping(&self, part: f64) -> Cursor {
        let taken: f64 = self.mix[..usize::from(self.cursor.get())].iter().sum();
        let mut sum = 0.0;
        let fits = self.mix.iter().take_while(|calls| {
            sum += **calls;
            sum <= taken * part.min(BACK)
        });
        Cursor::new(u16::try_from(fits.count()).unwrap_or(ALL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use suiyue_proto::{method::Class, priority::Priority};

    /// `came` calls, evenly over all levels of all classes, `begun` of which began after a wait.
    fn window(came: u32, begun: u32, waited: u64) -> Window {
        let mut window = Window::default();
        for n in 0..came {
            window.came(Priority::new(Class::ALL[n as usize % 4], (n / 4 % 128) as u8));
        }
        (0..begun).for_each(|_| window.began(Duration::from_millis(waited)));
        window
    }

    #[test]
    fn it_jumps_to_what_was_done_and_lets_the_queue_drain() {
        let mut steps = Steps::default();
        steps.step(&window(1024, 102, 80));
        // 95 % of 102 calls are 96, of two a priority 48.
        assert_eq!(steps.cursor().get(), 48);
        steps.step(&window(1024, 60, 80));
        assert_eq!(steps.cursor().get(), 48, "the queue of the window before");
        steps.step(&window(1024, 60, 80));
        assert_eq!(steps.cursor().get(), 28);
    }

    #[test]
    fn what_others_keep_away_is_no_reason_to_cut_less() {
        let mut steps = Steps::default();
        steps.step(&window(1024, 102, 80));
        let mut within = Window::default();
        (0..96).for_each(|n| within.came(Priority::new(Class::Scan, n / 2)));
        (0..48).for_each(|_| within.began(Duration::from_millis(80)));
        steps.step(&Window::default());
        steps.step(&within);
        assert_eq!(steps.cursor().get(), 22);
    }

    #[test]
    fn calm_brings_everybody_back_ever_faster() {
        let mut steps = Steps { cursor: Cursor::new(51), ..Steps::default() };
        let mut seen = Vec::new();
        while steps.cursor() < Cursor::OPEN {
            steps.step(&window(80, 80, 0));
            seen.push(steps.cursor().get());
        }
        assert_eq!(seen[..6], [51, 51, 51, 52, 54, 58]);
        assert!(seen.len() <= 13, "{seen:?}");
        steps.step(&window(80, 80, 0));
        assert_eq!(steps.cursor(), Cursor::OPEN);
    }

    #[test]
    fn whoever_waits_a_little_ends_the_way_up() {
        let mut steps = Steps { cursor: Cursor::new(51), calm: 9, stride: 8, ..Steps::default() };
        let mut waits = window(512, 40, 0);
        (0..40).for_each(|_| waits.began(Duration::from_millis(12)));
        steps.step(&waits);
        assert_eq!((steps.cursor().get(), steps.calm, steps.stride), (51, 0, 1));
    }

    #[test]
    fn somebody_always_gets_in() {
        let mut steps = Steps::default();
        let mut all_at_once = Window::default();
        (0..100).for_each(|_| all_at_once.came(Priority::new(Class::Scan, 0)));
        (0..20).for_each(|_| all_at_once.began(Duration::from_millis(80)));
        steps.step(&all_at_once);
        assert_eq!(steps.cursor(), Cursor::LEAST);
    }
}
