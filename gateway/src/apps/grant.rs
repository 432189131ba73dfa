//! What may an app ask for, and can this grant be used?
//!
//! One set of checks for both sides of the registry, as for policies: the operator API refuses what fails
//! them before it is written, the fold quarantines it whoever wrote it, and a quarantined app may call
//! nothing.

use super::token::Hash;
use foldhash::fast::RandomState;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};
use suiyue_proto::{
    identity::{SpiffeId, Subject},
    method::{Class, Method},
    region::{self, Code},
    v1,
};

/// Methods of one grant.
const MAX_METHODS: usize = 64;
/// Regions of one grant.
const MAX_REGIONS: usize = 512;
/// More than any federation carries.
const MAX_RPS: u32 = 10_000_000;
/// The same of calls in flight.
const MAX_IN_FLIGHT: u32 = 1_000_000;
const MAX_BURST_S: u32 = 60;
const MAX_NOTE: usize = 200;
/// Seconds' worth of calls that a quiet app may make at once.
const BURST_S: u32 = 2;

/// What one app may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Name of the app.
    pub app: Arc<str>,
    /// It may call nothing.
    pub disabled: bool,
    /// Hash of its token.
    pub token: Option<Hash>,
    /// Hash of the token before, and until when it is good, in milliseconds since 1970.
    pub previous: Option<(Hash, i64)>,
    /// What its certificate proves.
    pub certificate: Option<Arc<str>>,
    /// What it may call.
    pub methods: Methods,
    /// Which classes, by index.
    pub classes: [bool; 4],
    /// About which regions.
    pub regions: Regions,
    /// Calls a second over all gateways, and the burst.
    pub rate: Option<(u32, Duration)>,
    /// Calls in flight over all gateways.
    pub in_flight_max: Option<u32>,
}

/// Methods by path, and whole services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Methods {
    paths: HashSet<Box<str>, RandomState>,
    services: HashSet<Box<str>, RandomState>,
}

impl Methods {
    /// Reads a list of paths (`/package.Service/Method`) and services (`package.Service/*`).
    ///
    /// # Errors
    /// Position of the first one that is neither.
    pub fn parse<T: AsRef<str>>(list: &[T]) -> Result<Self, usize> {
        let mut methods = Self::default();
        for (at, text) in list.iter().enumerate() {
            let text = text.as_ref();
            let (service, method) = text.strip_prefix('/').unwrap_or(text).split_once('/').ok_or(at)?;
            let is_word = |word: &str| {
                !word.is_empty()
                    && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
            };
            match method {
                "*" if is_word(service) => drop(methods.services.insert(service.into())),
                _ if text.starts_with('/') && is_word(service) && is_word(method) => {
                    methods.paths.insert(text.into());
                }
                _ => return Err(at),
            }
        }
        Ok(methods)
    }

    /// The method of this path is among them.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        let service = || path.strip_prefix('/')?.split_once('/').map(|(service, _)| service);
        self.paths.contains(path)
            || !self.services.is_empty() && service().is_some_and(|service| self.services.contains(service))
    }

    /// Names nothing that any of these methods is.
    pub fn unknown<'a>(&'a self, known: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = &'a str> {
        self.paths.iter().map(|path| &**path).filter(move |path| !known(path))
    }
}

/// Routing regions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Regions {
    /// All of them.
    All,
    /// These, in order. A province stands for its cities, too.
    Some(Box<[Code]>),
}

impl Regions {
    /// The region is among them.
    #[must_use]
    pub fn has(&self, region: Code) -> bool {
        match self {
            Self::All => true,
            Self::Some(codes) => {
                let named = |code| codes.binary_search(&code).is_ok();
                named(region) || region::parent(region).is_some_and(named)
            }
        }
    }
}

/// The grants of all apps.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Grants {
    apps: BTreeMap<Arc<str>, Arc<Grant>>,
    tokens: HashMap<Hash, (Arc<Grant>, Option<i64>), RandomState>,
    certificates: HashMap<Arc<str>, Arc<Grant>, RandomState>,
}

impl Grants {
    /// Adds an app.
    ///
    /// # Errors
    /// The app that has the same token or certificate already.
    pub fn add(&mut self, grant: Grant) -> Result<(), Arc<str>> {
        let grant = Arc::new(grant);
        let hashes = grant.token.map(|hash| (hash, None)).into_iter();
        let hashes = hashes.chain(grant.previous.map(|(hash, until)| (hash, Some(until))));
        let taken = hashes.clone().find_map(|(hash, _)| self.tokens.get(&hash)).map(|(other, _)| other);
        let certificate = grant.certificate.as_ref();
        let taken = taken.or_else(|| certificate.and_then(|name| self.certificates.get(name)));
        if let Some(other) = taken {
            return Err(other.app.clone());
        }
        if !grant.disabled {
            self.tokens.extend(hashes.map(|(hash, until)| (hash, (grant.clone(), until))));
        }
        self.certificates.extend(certificate.map(|name| (name.clone(), grant.clone())));
        self.apps.insert(grant.app.clone(), grant);
        Ok(())
    }

    /// The app of a name.
    #[must_use]
    pub fn app(&self, name: &str) -> Option<&Arc<Grant>> {
        self.apps.get(name)
    }

    /// All apps, by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Grant>> {
        self.apps.values()
    }

    /// The app of a token, and until when the token is good, in milliseconds since 1970, where it ends.
    #[must_use]
    pub fn of_token(&self, hash: Hash) -> Option<&(Arc<Grant>, Option<i64>)> {
        self.tokens.get(&hash)
    }

    /// The app of a certificate, disabled or not: a revoked app is not nobody.
    #[must_use]
    pub fn of_certificate(&self, name: &str) -> Option<&Arc<Grant>> {
        self.certificates.get(name)
    }
}

/// What of a grant a call is outside of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// The method.
    Method,
    /// Its class.
    Class,
}

impl Grant {
    /// The app may call this method.
    ///
    /// # Errors
    /// What does not allow it.
    pub fn covers(&self, method: &Method) -> Result<(), Outside> {
        if !self.methods.has(&method.path) {
            return Err(Outside::Method);
        }
        if !self.classes[method.class.index()] {
            return Err(Outside::Class);
        }
        Ok(())
    }
}

/// Something in a grant that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}: expected {expected}")]
pub struct Invalid {
    /// Path of the field, as in `methods[1]`.
    pub field: String,
    /// What is wrong, for a program.
    pub problem: Problem,
    /// What would be right, for a person.
    pub expected: String,
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// There is neither a token nor a certificate.
    CredentialMissing,
    /// Another app has the token or certificate.
    CredentialTaken,
    /// A hash does not have 32 bytes.
    HashInvalid,
    /// A certificate's name is no app's.
    CertificateInvalid,
    /// A list is empty where something must stand, or longer than it may be.
    CountOutOfRange,
    /// It is no path and no service.
    MethodInvalid,
    /// There is no such class.
    ClassUnknown,
    /// It stands twice in the list.
    Twice,
    /// It is no region that calls are routed to.
    RegionInvalid,
    /// A number is out of its range.
    NumberOutOfRange,
    /// A text is too long, or has characters that nobody can see.
    TextInvalid,
}

impl Problem {
    /// The word in the details of a refusal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CredentialMissing => "credential_missing",
            Self::CredentialTaken => "credential_taken",
            Self::HashInvalid => "hash_invalid",
            Self::CertificateInvalid => "certificate_invalid",
            Self::CountOutOfRange => "count_out_of_range",
            Self::MethodInvalid => "method_invalid",
            Self::ClassUnknown => "class_unknown",
            Self::Twice => "twice",
            Self::RegionInvalid => "region_invalid",
            Self::NumberOutOfRange => "number_out_of_range",
            Self::TextInvalid => "text_invalid",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

pub(crate) fn invalid<T>(
    field: impl Into<String>,
    problem: Problem,
    expected: impl Into<String>,
) -> Result<T, Invalid> {
    Err(Invalid { field: field.into(), problem, expected: expected.into() })
}

/// Checks a grant by itself, and turns it into our own type.
///
/// # Errors
/// [`Invalid`] names the first field that cannot be used.
pub fn check(app: &str, grant: &v1::AppGrant) -> Result<Grant, Invalid> {
    let token = hash("token_sha256", &grant.token_sha256)?;
    let previous = hash("previous_token_sha256", &grant.previous_token_sha256)?;
    let certificate = certificate(&grant.certificate)?;
    if token.is_none() && certificate.is_none() && !grant.disabled {
        return invalid("token_sha256", Problem::CredentialMissing, "a token, a certificate, or both");
    }
    if grant.note.chars().count() > MAX_NOTE || grant.note.chars().any(char::is_control) {
        return invalid("note", Problem::TextInvalid, format!("one line of at most {MAX_NOTE} characters"));
    }
    let quota = grant.quota.unwrap_or_default();
    let rps = ranged("quota.rps", quota.rps, MAX_RPS)?;
    let burst = ranged("quota.burst_s", quota.burst_s, MAX_BURST_S)?.unwrap_or(BURST_S);
    Ok(Grant {
        app: app.into(),
        disabled: grant.disabled,
        token,
        previous: previous.map(|hash| (hash, grant.previous_until_unix_ms)),
        certificate,
        methods: methods(&grant.methods)?,
        classes: classes(&grant.classes)?,
        regions: regions(&grant.regions)?,
        rate: rps.map(|rps| (rps, Duration::from_secs(u64::from(burst)))),
        in_flight_max: ranged("quota.in_flight_max", quota.in_flight_max, MAX_IN_FLIGHT)?,
    })
}

fn hash(field: &str, bytes: &[u8]) -> Result<Option<Hash>, Invalid> {
    if bytes.is_empty() {
        return Ok(None);
    }
    match bytes.try_into() {
        Ok(hash) => Ok(Some(Hash(hash))),
        Err(_) => invalid(field, Problem::HashInvalid, "the 32 bytes of a SHA-256"),
    }
}

fn certificate(name: &str) -> Result<Option<Arc<str>>, Invalid> {
    if name.is_empty() {
        return Ok(None);
    }
    match name.parse::<SpiffeId>() {
        Ok(SpiffeId { subject: Subject::App(_), .. }) => Ok(Some(name.into())),
        _ => invalid("certificate", Problem::CertificateInvalid, "spiffe://FEDERATION/app/NAME"),
    }
}

fn ranged(field: &str, value: Option<u32>, most: u32) -> Result<Option<u32>, Invalid> {
    match value {
        Some(n) if !(1..=most).contains(&n) => {
            invalid(field, Problem::NumberOutOfRange, format!("1 to {most}"))
        }
        other => Ok(other),
    }
}

fn counted(field: &str, count: usize, most: usize) -> Result<(), Invalid> {
    if (1..=most).contains(&count) {
        return Ok(());
    }
    invalid(field, Problem::CountOutOfRange, format!("1 to {most} of them"))
}

fn methods(list: &[String]) -> Result<Methods, Invalid> {
    counted("methods", list.len(), MAX_METHODS)?;
    Methods::parse(list).or_else(|at| {
        invalid(
            format!("methods[{at}]"),
            Problem::MethodInvalid,
            "/package.Service/Method or package.Service/*",
        )
    })
}

fn classes(list: &[i32]) -> Result<[bool; 4], Invalid> {
    let mut classes = [list.is_empty(); 4];
    for (at, &number) in list.iter().enumerate() {
        let field = format!("classes[{at}]");
        let Some(class) = Class::from_proto(number) else {
            return invalid(field, Problem::ClassUnknown, "scan, show, query or sync");
        };
        if std::mem::replace(&mut classes[class.index()], true) {
            return invalid(field, Problem::Twice, "each class once");
        }
    }
    Ok(classes)
}

fn regions(list: &[String]) -> Result<Regions, Invalid> {
    counted("regions", list.len(), MAX_REGIONS)?;
    if list.iter().any(|text| text == "*") {
        return match list.len() {
            1 => Ok(Regions::All),
            _ => invalid("regions", Problem::Twice, "* alone, or codes"),
        };
    }
    let mut codes = Vec::with_capacity(list.len());
    for (at, text) in list.iter().enumerate() {
        let field = format!("regions[{at}]");
        let Ok(code) = text.parse::<Code>() else {
            return invalid(field, Problem::RegionInvalid, "a code of six digits, or *");
        };
        match region::resolve(code.get()) {
            Ok(routed) if routed == code => {}
            Ok(routed) => {
                return invalid(
                    field,
                    Problem::RegionInvalid,
                    format!("{routed}, which {code} is routed as"),
                );
            }
            Err(unroutable) => return invalid(field, Problem::RegionInvalid, unroutable.to_string()),
        }
        codes.push(code);
    }
    codes.sort_unstable();
    codes.dedup();
    Ok(Regions::Some(codes.into()))
}

#[cfg(test)]
mod tests;
