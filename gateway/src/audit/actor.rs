//! Who changes something, in which role, and why?
//!
//! An [`Actor`] comes from the operator's certificate, or, where there is none, from a caller on the
//! gateway's own machine who is taken at their word; the audit says which. A [`Deed`] is one attempt of an
//! actor to change something.

pub use suiyue_proto::identity::Role;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Characters of a reason.
pub const MAX_REASON: usize = 500;
/// Characters of an actor's name.
const MAX_ACTOR: usize = 64;
/// Who calls from the gateway's own machine without giving a name.
pub const LOCAL: &str = "local";

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Name.
    pub name: String,
    /// Role.
    pub role: Role,
    /// A certificate proves it.
    pub authenticated: bool,
}

impl Actor {
    /// Somebody on the gateway's own machine.
    #[must_use]
    pub fn local(name: &str) -> Self {
        Self { name: name.to_owned(), role: Role::Operator, authenticated: false }
    }
}

/// One attempt to change something.
#[derive(Debug)]
pub struct Deed {
    /// Who.
    pub actor: Actor,
    /// Name of the method.
    pub method: &'static str,
    /// Why; empty: not said.
    pub reason: String,
    /// Nothing is to be written.
    rehearsed: AtomicBool,
}

impl Deed {
    /// An attempt.
    #[must_use]
    pub const fn new(actor: Actor, method: &'static str, reason: String) -> Self {
        Self { actor, method, reason, rehearsed: AtomicBool::new(false) }
    }

    /// An attempt of somebody on the gateway's own machine who says nothing.
    #[must_use]
    pub fn local(method: &'static str) -> Self {
        Self::new(Actor::local(LOCAL), method, String::new())
    }

    /// The same attempt for this reason, where it has none yet.
    #[must_use]
    pub fn because(&self, reason: &str) -> Self {
        let reason = if self.reason.trim().is_empty() { reason } else { &self.reason };
        Self {
            actor: self.actor.clone(),
            method: self.method,
            reason: reason.to_owned(),
            rehearsed: AtomicBool::new(self.is_rehearsed()),
        }
    }

    /// The attempt is a dry run: whatever becomes of it is not for the audit.
    pub fn rehearse(&self) {
        self.rehearsed.store(true, Relaxed);
    }

    /// It is a dry run.
    #[must_use]
    pub fn is_rehearsed(&self) -> bool {
        self.rehearsed.load(Relaxed)
    }
}

/// The text can stand in the audit as somebody's name.
#[must_use]
pub fn is_actor(text: &str) -> bool {
    (1..=MAX_ACTOR).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@'))
}

/// The text can stand in the audit as a reason: one line, and not too long.
#[must_use]
pub fn is_reason(text: &str) -> bool {
    text.chars().count() <= MAX_REASON && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_reasons_are_one_line() {
        assert!(is_actor("wang.li@gd") && !is_actor("") && !is_actor("a b") && !is_actor(&"a".repeat(65)));
        assert!(is_reason("穗康限流, incident 7") && is_reason(""));
        assert!(!is_reason("a\nb") && !is_reason("\u{1b}[2J") && !is_reason(&"长".repeat(501)));
    }
}
