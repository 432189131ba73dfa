//! Who is inside?
//!
//! ```text
//!   token ── minted by an operator's RPC, good once, for minutes ──► session ── ends ──► sign in again
//!   certificate of an operator ─────────────────────────────────────┘
//! ```
//! A session is known by a cookie. Tokens and cookies are kept hashed, in this gateway's memory only: a
//! token that were good at every gateway could be used again at each of them, and a restart ends all
//! sessions, which is what whoever restarts a gateway in doubt expects.

use crate::{audit::actor::Actor, identity::Peer};
use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Tokens that wait to be used; the oldest makes room.
const MAX_TOKENS: usize = 64;
/// Sessions at a time.
pub(super) const MAX_SESSIONS: usize = 64;
/// Bytes of randomness in a token.
const ENTROPY: usize = 32;

/// How long the console lets somebody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// A token that nobody has used is good for so long.
    pub token: Duration,
    /// A session ends after this time, whatever happens in it.
    pub session: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { token: Duration::from_secs(5 * 60), session: Duration::from_secs(3600) }
    }
}

type Hash = [u8; SHA256_OUTPUT_LEN];

/// Tokens and sessions of one gateway's console.
#[derive(Debug)]
pub struct Doors {
    settings: Settings,
    address: SocketAddr,
    tokens: Mutex<Vec<Token>>,
    sessions: Mutex<HashMap<Hash, Arc<Session>>>,
}

#[derive(Debug)]
struct Token {
    hash: Hash,
    guest: Guest,
    until: Instant,
}

/// Whoever is let in.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    /// Who.
    pub(crate) actor: Actor,
    /// The certificate that says so, if one does: when it ends, the session ends.
    pub(crate) peer: Option<Peer>,
}

impl Session {
    /// It may be one of the two persons that a change needs. Whoever signed in with a token that a
    /// certificate made may have found it: nobody can be both that person and another one.
    pub(super) const fn proves(&self) -> bool {
        self.certified || !self.actor.authenticated
    }
}

/// Somebody is inside.
#[derive(Debug)]
pub(super) struct Session {
    /// Who.
    pub(super) actor: Actor,
    /// It was opened with a certificate, and is of no use without it.
    certified: bool,
    /// What every form of the session carries.
    pub(super) csrf: String,
    /// When it ends by itself.
    pub(super) until: Instant,
    /// It has ended before: its streams close.
    pub(super) left: CancellationToken,
}

/// What lets somebody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// A token.
    Token,
    /// The connection's certificate.
    Certificate,
}

/// As many sessions as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Doors {
    /// Nobody is inside. `address` is what whoever holds a token is sent to.
    #[must_use]
    pub fn new(settings: Settings, address: SocketAddr) -> Self {
        Self { settings, address, tokens: Mutex::default(), sessions: Mutex::default() }
    }

    /// Where the console is; an address that stands for all of this machine's is told as loopback.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                std::net::Ipv4Addr::LOCALHOST.into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        address
    }

    /// How long tokens and sessions last.
    #[must_use]
    pub const fn settings(&self) -> Settings {
        self.settings
    }

    /// A token for one sign-in of this guest.
    pub(crate) fn mint(&self, guest: Guest) -> String {
        let (token, now) = (draw(), Instant::now());
        let mut tokens = lock(&self.tokens);
        tokens.retain(|token| token.until > now);
        if tokens.len() >= MAX_TOKENS {
            tokens.remove(0);
        }
        tokens.push(Token { hash: hash(b"token", &token), guest, until: now + self.settings.token });
        token
    }

    /// Whose token it is; it is of no use afterwards.
    pub(crate) fn redeem(&self, token: &str) -> Option<Guest> {
        let (wanted, now) = (hash(b"token", token), Instant::now());
        let mut tokens = lock(&self.tokens);
        let at = tokens.iter().position(|token| token.hash == wanted)?;
        let token = tokens.remove(at);
        (token.until > now).then_some(token.guest)
    }

    /// Lets somebody in; the cookie.
    pub(super) fn enter(&self, actor: Actor, by: By) -> Result<String, Full> {
        let (cookie, now) = (draw(), Instant::now());
        let mut sessions = lock(&self.sessions);
        sessions.retain(|_, session| session.until > now);
        if sessions.len() >= MAX_SESSIONS {
            return Err(Full);
        }
        let session = Session {
            actor,
            certified: by == By::Certificate,
            csrf: draw(),
            until: now + self.settings.session,
            left: CancellationToken::new(),
        };
        sessions.insert(hash(b"session", &cookie), Arc::new(session));
        Ok(cookie)
    }

    /// Who comes with this cookie; `peer` is the operator whose certificate the connection has.
    pub(super) fn inside(&self, cookie: &str, peer: Option<&Actor>) -> Option<Arc<Session>> {
        let session = lock(&self.sessions).get(&hash(b"session", cookie)).cloned()?;
        let same = !session.certified || peer == Some(&session.actor);
        (same && session.until > Instant::now()).then_some(session)
    }

    /// Name of the session's cookie. Browsers tell ports of a machine not apart, so that two gateways of
    /// one machine must not have the same.
    pub(super) fn cookie(&self) -> String {
        format!("suiyue_session_{}", self.address.port())
    }

    /// The session of this cookie ends.
    pub(super) fn leave(&self, cookie: &str) {
        if let Some(session) = lock(&self.sessions).remove(&hash(b"session", cookie)) {
            session.left.cancel();
        }
    }
}

impl Session {
    /// The form comes from a page of this session.
    pub(super) fn sent(&self, csrf: &str) -> bool {
        // Hashed first: how far the two agree says nothing about the secret.
        hash(b"csrf", csrf) == hash(b"csrf", &self.csrf)
    }

    /// Lasts until the session has ended.
    pub(super) async fn ended(&self) {
        tokio::select! {
            () = self.left.cancelled() => {}
            () = tokio::time::sleep_until(self.until.into()) => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hash(use_for: &[u8], secret: &str) -> Hash {
    let mut context = Context::new(&SHA256);
    [b"suiyue.console.v1\0", use_for, b"\0", secret.as_bytes()].iter().for_each(|part| context.update(part));
    let mut hash = [0; SHA256_OUTPUT_LEN];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn draw() -> String {
    let bytes: [u8; ENTROPY] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(name: &str) -> Guest {
        Guest { actor: Actor::local(name), peer: None }
    }

    fn doors(settings: Settings) -> Doors {
        Doors::new(settings, "0.0.0.0:8442".parse().unwrap())
    }

    #[test]
    fn a_token_opens_once_and_for_its_own_actor() {
        let doors = doors(Settings::default());
        let (wang, li) = (doors.mint(guest("wang")), doors.mint(guest("li")));
        assert!(wang.len() == 64 && wang != li);
        assert_eq!(doors.redeem(&li).unwrap().actor.name, "li");
        assert!(doors.redeem(&li).is_none());
        assert!(doors.redeem("").is_none());
        assert_eq!(doors.redeem(&wang).unwrap().actor.name, "wang");
    }

    #[test]
    fn tokens_and_sessions_grow_old() {
        let doors = doors(Settings { token: Duration::ZERO, session: Duration::ZERO });
        let token = doors.mint(guest("wang"));
        assert!(doors.redeem(&token).is_none());
        let cookie = doors.enter(Actor::local("wang"), By::Token).unwrap();
        assert!(doors.inside(&cookie, None).is_none());
    }

    #[test]
    fn a_session_is_known_by_its_cookie_until_it_is_left() {
        let doors = doors(Settings::default());
        let cookie = doors.enter(Actor::local("wang"), By::Token).unwrap();
        let session = doors.inside(&cookie, None).unwrap();
        assert!(session.sent(&session.csrf) && !session.sent("") && !session.sent(&cookie));
        assert!(doors.inside("", None).is_none());
        doors.leave(&cookie);
        assert!(doors.inside(&cookie, None).is_none() && session.left.is_cancelled());
    }

    #[test]
    fn a_session_of_a_certificate_is_of_no_use_without_it() {
        let doors = doors(Settings::default());
        let li = Actor { authenticated: true, ..Actor::local("li") };
        let cookie = doors.enter(li.clone(), By::Certificate).unwrap();
        assert!(doors.inside(&cookie, Some(&li)).is_some());
        assert!(doors.inside(&cookie, None).is_none());
        assert!(doors.inside(&cookie, Some(&Actor { name: "wang".to_owned(), ..li })).is_none());
    }

    #[test]
    fn whoever_comes_by_a_token_is_no_second_person_of_a_certificate() {
        let doors = doors(Settings::default());
        let li = Actor { authenticated: true, ..Actor::local("li") };
        let proves = |actor: &Actor, by| {
            let cookie = doors.enter(actor.clone(), by).unwrap();
            doors.inside(&cookie, Some(actor)).unwrap().proves()
        };
        assert!(proves(&li, By::Certificate) && !proves(&li, By::Token));
        assert!(
            proves(&Actor::local("wang"), By::Token),
            "on the gateway's machine everybody is taken at their word"
        );
    }

    #[test]
    fn rooms_are_bounded() {
        let doors = doors(Settings::default());
        let first = doors.mint(guest("first"));
        for _ in 0..MAX_TOKENS {
            let _ = doors.mint(guest("more"));
        }
        assert!(doors.redeem(&first).is_none(), "the oldest token makes room");
        for _ in 0..MAX_SESSIONS {
            doors.enter(Actor::local("wang"), By::Token).unwrap();
        }
        assert_eq!(doors.enter(Actor::local("wang"), By::Token), Err(Full));
        assert_eq!(doors.address().to_string(), "127.0.0.1:8442");
    }
}
