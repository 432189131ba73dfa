//! How many bytes may still pass?
//!
//! [`Credit`] is a window that the peer opens for us; [`Allowance`] one that we open for the peer, given
//! back lazily: a WINDOW_UPDATE goes out when half of the window has been consumed, not for every frame
//! (RFC 9113, section 5.2). Bytes consumed and bytes given back are counted apart, so that an unread byte
//! is never offered twice.

use super::frame::MAX_31;

/// What we may still send. Negative after the peer shrank its initial window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Credit(i64);

impl Credit {
    pub(super) const fn new(initial: u32) -> Self {
        Self(initial as i64)
    }

    /// Bytes that may be sent now.
    #[inline]
    pub(super) const fn available(self) -> usize {
        if self.0 > 0 { self.0 as usize } else { 0 }
    }

    #[inline]
    pub(super) const fn spend(&mut self, n: usize) {
        self.0 -= n as i64;
    }

    /// Opens the window; false: it would be larger than the protocol allows.
    #[must_use]
    pub(super) const fn open(&mut self, n: u32) -> bool {
        self.shift(n as i64)
    }

    /// The initial window changed by `delta`; false: too large.
    #[must_use]
    pub(super) const fn shift(&mut self, delta: i64) -> bool {
        self.0 += delta;
        self.0 <= MAX_31 as i64
    }
}

/// What the peer may still send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    /// Size of the window.
    size: u32,
    /// May still be received.
    left: i64,
    /// Consumed here and not yet given back.
    consumed: u32,
}

impl Allowance {
    pub(super) const fn new(size: u32) -> Self {
        Self { size, left: size as i64, consumed: 0 }
    }

    /// Counts received bytes; false: more than was allowed.
    #[inline]
    #[must_use]
    pub(super) const fn receive(&mut self, n: usize) -> bool {
        self.left -= n as i64;
        self.left >= 0
    }

    /// The size changed, as the peer knows now.
    pub(super) const fn resize(&mut self, size: u32) {
        self.left += size as i64 - self.size as i64;
        self.size = size;
    }

    /// Counts consumed bytes; the increment to announce once it is worth a frame.
    #[inline]
    pub(super) const fn consume(&mut self, n: usize) -> Option<u32> {
        self.consumed += n as u32;
        if self.consumed == 0 || self.consumed < self.size / 2 {
            return None;
        }
        let increment = self.consumed;
        self.consumed = 0;
        self.left += increment as i64;
        Some(increment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_may_go_below_zero_and_never_too_high() {
        let mut credit = Credit::new(100);
        credit.spend(100);
        assert_eq!(credit.available(), 0);
        assert!(credit.shift(-50) && credit.open(70));
        assert_eq!(credit.available(), 20);
        assert!(!credit.open(MAX_31));
    }

    #[test]
    fn half_a_window_is_given_back_at_a_time() {
        let mut window = Allowance::new(100);
        assert!(window.receive(100) && !window.receive(1));
        let mut window = Allowance::new(100);
        assert!(window.receive(60));
        assert_eq!(window.consume(49), None);
        assert_eq!(window.consume(11), Some(60));
        assert!(window.receive(100) && !window.receive(1));
    }

    #[test]
    fn a_window_of_nothing_gives_nothing_back_for_nothing() {
        assert_eq!(Allowance::new(0).consume(0), None);
        assert_eq!(Allowance::new(1).consume(1), Some(1));
    }
}
