//! Does the peer ask for more work than it pays for?
//!
//! Frames that cost us work and the peer next to nothing are counted by kind in windows of a second. A
//! hundred of a kind are nobody's flood; above that the connection gets GOAWAY with ENHANCE_YOUR_CALM.
//! Pings and window updates answer what we send, so every frame of ours earns the peer one more. A
//! reset counts as rapid while its stream is young: callers whose deadline passes may hang up together.

use super::error::Reason;

/// Frames of one kind a second, besides those that were earned.
const LIMIT: u32 = 100;
/// Resets of streams that are no longer young, refused streams, and frames of ended streams, a second.
const WIDE_LIMIT: u32 = 1_000;
/// So many CONTINUATION frames of one header block are too many.
pub(super) const MAX_CONTINUATIONS: u32 = 64;
/// A stream is young for this long.
pub(super) const YOUNG_MS: u32 = 50;
const WINDOW_MS: u32 = 1_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// SETTINGS.
    Settings,
    /// PING that wants an answer.
    Ping,
    /// PRIORITY, and kinds that nobody knows.
    Idle,
    /// WINDOW_UPDATE.
    Window,
    /// DATA without data that ends nothing.
    Empty,
    /// RST_STREAM for a young stream.
    RapidReset,
    /// RST_STREAM for another stream.
    Reset,
    /// A reset that the peer provoked by breaking the protocol.
    Provoked,
    /// A stream beyond the limit.
    Refused,
    /// A frame of a stream that has ended.
    Late,
}

const KINDS: usize = Frame::Late as usize + 1;

/// Counters of one connection.
#[derive(Debug, Default)]
pub(super) struct Guard {
    counts: [u32; KINDS],
    earned: u32,
    /// Earned in the window before: the peer's answers may come in this one.
    earned_before: u32,
    /// Begin of the window, in the connection's milliseconds.
    since: u32,
    trusted: bool,
}

impl Guard {
    /// Counts for a peer that may flood us.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Counts nothing: nodes may send late frames of cancelled streams as they like, and are no strangers.
    pub(super) fn trusting() -> Self {
        Self { trusted: true, ..Self::default() }
    }

    /// We sent a frame that the peer may answer.
    #[inline]
    pub(super) fn earn(&mut self) {
        self.earned = self.earned.saturating_add(1);
    }

    /// Counts a frame at a time of the connection.
    ///
    /// # Errors
    /// ENHANCE_YOUR_CALM: it was one too many.
    pub(super) fn count(&mut self, frame: Frame, now_ms: u32) -> Result<(), Reason> {
        if self.trusted {
            return Ok(());
        }
        if now_ms.wrapping_sub(self.since) >= WINDOW_MS {
            *self = Self { since: now_ms, earned_before: self.earned, ..Self::default() };
        }
        let count = &mut self.counts[frame as usize];
        *count += 1;
        let limit = match frame {
            Frame::Window | Frame::Ping => {
                let earned = self.earned.saturating_add(self.earned_before);
                LIMIT.saturating_add(earned.saturating_mul(2))
            }
            Frame::Reset | Frame::Refused | Frame::Late => WIDE_LIMIT,
            _ => LIMIT,
        };
        if *count > limit { Err(Reason::ENHANCE_YOUR_CALM) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_a_second_are_let_pass() {
        for (frame, limit) in [
            (Frame::Settings, 100),
            (Frame::Ping, 100),
            (Frame::Idle, 100),
            (Frame::Empty, 100),
            (Frame::RapidReset, 100),
            (Frame::Provoked, 100),
            (Frame::Reset, 1000),
        ] {
            let mut guard = Guard::new();
            for _ in 0..limit {
                guard.count(frame, 5).unwrap();
            }
            assert_eq!(guard.count(frame, 999), Err(Reason::ENHANCE_YOUR_CALM), "{frame:?}");
            guard.count(frame, 1000).unwrap();
        }
    }

    #[test]
    fn kinds_are_counted_apart_and_answers_are_earned() {
        let mut guard = Guard::new();
        (0..50).for_each(|_| guard.earn());
        for _ in 0..200 {
            guard.count(Frame::Window, 0).unwrap();
        }
        guard.count(Frame::Settings, 0).unwrap();
        assert!(guard.count(Frame::Window, 0).is_err());
    }

    #[test]
    fn what_was_earned_lasts_for_the_next_window() {
        let mut guard = Guard::new();
        guard.count(Frame::Window, 0).unwrap();
        (0..50).for_each(|_| guard.earn());
        for _ in 0..200 {
            guard.count(Frame::Window, 1000).unwrap();
        }
        assert!(guard.count(Frame::Window, 1999).is_err());
        for _ in 0..100 {
            guard.count(Frame::Window, 2000).unwrap();
        }
        assert!(guard.count(Frame::Window, 2000).is_err());
    }

    #[test]
    fn nodes_are_not_counted() {
        let mut guard = Guard::trusting();
        for _ in 0..100_000 {
            guard.count(Frame::Late, 0).unwrap();
        }
    }
}
