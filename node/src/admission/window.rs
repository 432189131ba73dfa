//! What did the last tenth of a second look like?
//!
//! A [`Window`] counts who came, by priority, who began, and how long those waited. It is closed after 100
//! ms, if enough happened to say something by then, and after a second in any case. The wait says whether a
//! node has too much to do: how long its work takes would blame it for others, and CPU time does not tell
//! busy from overloaded (after DAGOR, `SoCC` 2018).

use std::time::Duration;
use suiyue_proto::priority::{ALL, Cursor, Priority};

/// The shortest window.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(1);
/// Calls that say something.
const ENOUGH: u32 = 20;
/// A mean wait above this is overload.
const MEAN: Duration = Duration::from_millis(20);
/// Up to this mean wait nothing piles up.
const CALM: Duration = Duration::from_millis(5);
/// Everybody waited longer than this: there is a standing queue.
const LEAST: Duration = Duration::from_millis(5);

/// Counts of one window.
#[derive(Debug)]
pub(super) struct Window {
    came: Box<[u32; ALL as usize]>,
    begun: u32,
    waits: u32,
    waited: Duration,
    least: Duration,
}

impl Default for Window {
    fn default() -> Self {
        let came = Box::new([0; ALL as usize]);
        Self { came, begun: 0, waits: 0, waited: Duration::ZERO, least: Duration::MAX }
    }
}

impl Window {
    /// A call came.
    pub(super) fn came(&mut self, priority: Priority) {
        self.came[priority.index()] += 1;
    }

    /// A call began after it had waited so long.
    pub(super) fn began(&mut self, waited: Duration) {
        self.begun += 1;
        self.wait(waited);
    }

    /// A call was sent away after it had waited so long.
    pub(super) fn gave_up(&mut self, waited: Duration) {
        self.wait(waited);
    }

    fn wait(&mut self, waited: Duration) {
        self.waits += 1;
        self.waited += waited;
        self.least = self.least.min(waited);
    }

    /// It has lasted long enough.
    pub(super) fn is_over(&self, lasted: Duration) -> bool {
        lasted >= LONGEST || (lasted >= SHORTEST && self.waits >= ENOUGH)
    }

    /// There was more to do than was done.
    pub(super) fn is_overloaded(&self) -> bool {
        self.waits >= ENOUGH && (self.least > LEAST || self.waited > MEAN * self.waits)
    }

    /// Nobody had to wait, to speak of: more could be done.
    pub(super) fn is_calm(&self) -> bool {
        self.waited <= CALM * self.waits
    }

    /// Calls that began.
    pub(super) const fn begun(&self) -> u32 {
        self.begun
    }

    /// Calls that a cursor would have taken.
    pub(super) fn within(&self, cursor: Cursor) -> u32 {
        self.came[..usize::from(cursor.get())].iter().sum()
    }

    /// Calls by priority.
    pub(super) const fn came_by_priority(&self) -> &[u32; ALL as usize] {
        &self.came
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use suiyue_proto::method::Class;

    const MS: Duration = Duration::from_millis(1);

    fn waited(waits: &[(u32, u32)]) -> Window {
        let mut window = Window::default();
        for (calls, ms) in waits {
            (0..*calls).for_each(|_| window.began(*ms * MS));
        }
        window
    }

    #[test]
    fn a_standing_queue_or_a_long_wait_is_overload_and_few_calls_say_nothing() {
        assert!(waited(&[(20, 6)]).is_overloaded());
        assert!(!waited(&[(20, 5)]).is_overloaded());
        assert!(!waited(&[(1, 0), (20, 20)]).is_overloaded());
        assert!(waited(&[(1, 0), (20, 22)]).is_overloaded());
        assert!(!waited(&[(19, 90)]).is_overloaded());
        let mut gave_up = waited(&[(15, 0)]);
        (0..5).for_each(|_| gave_up.gave_up(100 * MS));
        assert!(gave_up.is_overloaded() && gave_up.begun() == 15);
    }

    #[test]
    fn a_window_lasts_until_it_says_something() {
        assert!(waited(&[(20, 0)]).is_over(100 * MS));
        assert!(!waited(&[(20, 0)]).is_over(99 * MS) && !waited(&[(19, 0)]).is_over(999 * MS));
        assert!(waited(&[]).is_over(1_000 * MS));
    }

    #[test]
    fn a_cursor_takes_what_stands_below_it() {
        let mut window = Window::default();
        for (class, level, calls) in [(Class::Scan, 3, 10), (Class::Scan, 5, 20), (Class::Show, 0, 30)] {
            (0..calls).for_each(|_| window.came(Priority::new(class, level)));
        }
        assert_eq!([3, 4, 128, 129].map(|taken| window.within(Cursor::new(taken))), [0, 10, 30, 60]);
    }
}
