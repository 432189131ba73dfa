//! What is the gateway told, and is it sensible?
//!
//! [`File`] is the TOML as written; [`Config`] is checked and complete. Flags and environment
//! ([`Overrides`]) win over the file. Every error names the file, the line and the field, and says what
//! to write instead.

mod apps;
mod console;
mod file;
mod identity;
mod nodes;
mod shifts;
mod telemetry;

pub use file::{File, Kind};
pub use nodes::DataTls;

use crate::{
    admission::Limits,
    apps::Anonymous,
    identity::Trust,
    registry::keys::{Prefix, is_name},
    subject,
    table::{self, Table},
    trace,
};
use std::{
    fs,
    net::{SocketAddr, ToSocketAddrs as _},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use suiyue_proto::{
    identity::files::private_key,
    region::{self, Code},
};
use toml::Spanned;

/// A gateway's configuration, checked.
pub struct Config {
    /// Name of this gateway in the federation.
    pub id: String,
    /// Data port, for apps.
    pub listen: SocketAddr,
    /// Control port: registrar and operator API.
    pub control: SocketAddr,
    /// Admin port: metrics and readiness over HTTP.
    pub admin: SocketAddr,
    /// Worker threads.
    pub workers: usize,
    /// Region of calls that name none.
    pub default_region: Option<u32>,
    /// What subjects are hashed with.
    pub subjects: subject::Key,
    /// Where the gateway keeps what it must know at its next start; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// The registry.
    pub registry: Registry,
    /// Who may register: region and token.
    pub join: Vec<(Code, String)>,
    /// Static nodes and methods.
    pub table: Table,
    /// TLS of the data port.
    pub tls: Option<DataTls>,
    /// This gateway's certificate, and how those of others are judged; `None`: only the data port may have
    /// TLS, and the control port stays on loopback.
    pub trust: Option<Trust>,
    /// What is admitted.
    pub limits: Limits,
    /// A node that returns gets its share back within this time.
    pub ramp: Duration,
    /// Traces and access log.
    pub telemetry: trace::Settings,
    /// What happens to calls of nobody.
    pub anonymous: Arc<Anonymous>,
    /// How long the console lets somebody in.
    pub console: crate::console::door::Settings,
    /// Fraction of a region's calls above which a second person must approve that they move, where the region's
    /// policy says nothing.
    pub two_person_above: f64,
    /// A node stays on each step of its trial for this time.
    pub canary_step: Duration,
    /// Where the glass can be broken; `None`: nowhere.
    pub breakglass: Option<Breakglass>,
}

/// The socket for what is ordered past the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breakglass {
    /// Its path.
    pub socket: PathBuf,
    /// The directory of its journal.
    pub dir: PathBuf,
    /// Users that may, beside root and the gateway's own, by their numbers.
    pub users: Vec<u32>,
}

/// Where the registry is.
#[derive(Debug, Clone)]
pub struct Registry {
    /// Which registry.
    pub kind: Kind,
    /// etcd members.
    pub endpoints: Vec<String>,
    /// Prefix of all keys.
    pub prefix: Prefix,
    /// Control addresses of gateways that are asked for their table when there is neither etcd nor a copy.
    pub peers: Vec<String>,
    /// TLS towards etcd.
    pub tls: Option<EtcdTls>,
}

/// What is shown to etcd, and what etcd must show. PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// Who vouches for etcd.
    pub ca: String,
    /// This gateway's certificate for etcd, with its private key: its common name is the user.
    pub client: Option<(String, String)>,
    /// Where all of it stands.
    pub files: EtcdFiles,
}

/// Files of what is shown to etcd, and of what etcd must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdFiles {
    /// Who vouches for etcd.
    pub ca: PathBuf,
    /// This gateway's certificate for etcd, and its private key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl std::fmt::Debug for EtcdTls {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdTls").field("client", &self.client.is_some()).finish_non_exhaustive()
    }
}

/// What flags and environment say; each wins over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Name of the gateway.
    pub id: Option<String>,
    /// Data port.
    pub listen: Option<String>,
    /// Control port.
    pub control: Option<String>,
    /// Admin port.
    pub admin: Option<String>,
    /// Worker threads.
    pub workers: Option<usize>,
    /// State directory.
    pub state_dir: Option<PathBuf>,
    /// Region of calls that name none.
    pub default_region: Option<u32>,
    /// etcd members; not empty: the registry is etcd.
    pub etcd: Vec<String>,
    /// Prefix of all keys.
    pub prefix: Option<String>,
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML, or has a field that does not exist or has another type.
    #[error("{path}: {message}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, column, the text, and what was expected.
        message: String,
    },
    /// A value cannot be used.
    #[error("{place}: {field}: {problem}")]
    Invalid {
        /// File and line, or the flag.
        place: String,
        /// The field.
        field: String,
        /// What is wrong and what to write.
        problem: String,
    },
}

/// Turns spans into lines while checking.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn invalid(&self, span: &Range<usize>, field: &str, problem: impl Into<String>) -> Error {
        let line = self.text.get(..span.start).unwrap_or("").matches('\n').count() + 1;
        let place = format!("{}:{line}", self.path.display());
        Error::Invalid { place, field: field.to_owned(), problem: problem.into() }
    }
}

impl Config {
    /// Reads the file (or none), lets `overrides` win, and checks everything.
    ///
    /// # Errors
    /// [`Error`], for a person.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, Error> {
        let text = match path {
            None => String::new(),
            Some(path) => fs::read_to_string(path)
                .map_err(|source| Error::Unreadable { path: path.to_owned(), source })?,
        };
        let path = path.unwrap_or(Path::new("(no file)"));
        Self::parse(path, &text, overrides)
    }

    fn parse(path: &Path, text: &str, overrides: &Overrides) -> Result<Self, Error> {
        let file: File = toml::from_str(text).map_err(|e| Error::Malformed {
            path: path.to_owned(),
            message: e.to_string().trim_end().to_owned(),
        })?;
        let source = Source { path, text };
        let control = address(&source, "control", file.control.as_ref(), overrides.control.as_deref(), 8441)?;
        let trust = identity::trust(&source, &file)?;
        if trust.is_none() && !control.ip().is_loopback() {
            let problem = "without [identity] the control port has no TLS and must stay on loopback: \
                           use 127.0.0.1:PORT, or add [identity]";
            let span = file.control.as_ref().map_or(0..0, Spanned::span);
            return Err(source.invalid(&span, "control", problem));
        }
        let registry = registry(&source, &file, overrides)?;
        let known = registry.kind == Kind::None;
        let origin = if known { table::Source::Static } else { table::Source::Awaited };
        Ok(Self {
            anonymous: apps::anonymous(&source, &file.apps, registry.kind != Kind::None)?.into(),
            id: id(&source, &file, overrides, trust.as_ref())?,
            listen: address(&source, "listen", file.listen.as_ref(), overrides.listen.as_deref(), 8440)?,
            control,
            admin: address(&source, "admin", file.admin.as_ref(), overrides.admin.as_deref(), 8442)?,
            workers: workers(&source, &file, overrides)?,
            state_dir: overrides.state_dir.clone().or_else(|| file.state_dir.clone()),
            default_region: default_region(&source, &file, overrides)?,
            subjects: subjects(&source, &file)?,
            registry,
            join: nodes::join(&source, &file)?,
            table: Table { source: origin, ..nodes::table(&source, &file, trust.as_ref())? },
            tls: nodes::tls(&source, &file)?,
            trust,
            limits: limits(&source, &file)?,
            ramp: ramp(&source, &file)?,
            telemetry: telemetry::settings(&source, &file.telemetry)?,
            two_person_above: shifts::two_person_above(&source, &file)?,
            canary_step: shifts::canary_step(&source, &file)?,
            breakglass: shifts::breakglass(&source, &file, overrides)?,
            console: console::settings(&source, &file.console)?,
        })
    }
}

fn id(
    source: &Source<'_>,
    file: &File,
    overrides: &Overrides,
    trust: Option<&Trust>,
) -> Result<String, Error> {
    let certified = identity::name(trust);
    let (text, span) = match (&overrides.id, &file.id) {
        (Some(id), _) => (id.clone(), 0..0),
        (None, Some(id)) => (id.get_ref().clone(), id.span()),
        (None, None) => {
            let drawn = || format!("gw-{:08x}", rand::random::<u32>());
            (certified.clone().unwrap_or_else(drawn), 0..0)
        }
    };
    if let Some(certified) = certified.filter(|certified| *certified != text) {
        let problem = format!("the certificate is of the gateway {certified:?}: write that, or leave it out");
        return Err(source.invalid(&span, "id", problem));
    }
    if is_name(&text) {
        Ok(text)
    } else {
        Err(source.invalid(&span, "id", format!("{text:?} is no name: use 1 to 63 of a-z, 0-9 and '-'")))
    }
}

fn address(
    source: &Source<'_>,
    field: &str,
    in_file: Option<&Spanned<String>>,
    override_: Option<&str>,
    default_port: u16,
) -> Result<SocketAddr, Error> {
    let text = override_.or(in_file.map(|s| s.get_ref().as_str()));
    let Some(text) = text else { return Ok(SocketAddr::from(([127, 0, 0, 1], default_port))) };
    let found = text.to_socket_addrs().ok().and_then(|mut found| found.next());
    found.ok_or_else(|| {
        let span = if override_.is_some() { 0..0 } else { in_file.map_or(0..0, Spanned::span) };
        source.invalid(
            &span,
            field,
            format!("{text:?} is no address: write HOST:PORT, e.g. 127.0.0.1:{default_port}"),
        )
    })
}

fn workers(source: &Source<'_>, file: &File, overrides: &Overrides) -> Result<usize, Error> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let wanted = overrides.workers.or(file.workers.as_ref().map(|w| *w.get_ref())).unwrap_or(cores);
    if (1..=256).contains(&wanted) {
        return Ok(wanted);
    }
    let span = file.workers.as_ref().map_or(0..0, Spanned::span);
    Err(source.invalid(
        &span,
        "workers",
        format!("{wanted} worker threads: use 1 to 256, or leave it out for one a core"),
    ))
}

fn default_region(source: &Source<'_>, file: &File, overrides: &Overrides) -> Result<Option<u32>, Error> {
    let Some(code) = overrides.default_region.or(file.default_region.as_ref().map(|r| *r.get_ref())) else {
        return Ok(None);
    };
    let span = file.default_region.as_ref().map_or(0..0, Spanned::span);
    routing(source, &span, "default_region", code)?;
    Ok(Some(code))
}

fn subjects(source: &Source<'_>, file: &File) -> Result<subject::Key, Error> {
    let Some(path) = &file.subject_key_file else { return Ok(subject::Key::default()) };
    subject::Key::read(path.get_ref())
        .map_err(|error| source.invalid(&path.span(), "subject_key_file", error.to_string()))
}

/// The routing region of a code in the file.
fn routing(source: &Source<'_>, span: &Range<usize>, field: &str, code: u32) -> Result<Code, Error> {
    region::resolve(code).map_err(|e| source.invalid(span, field, e.to_string()))
}

fn registry(source: &Source<'_>, file: &File, overrides: &Overrides) -> Result<Registry, Error> {
    let kind = if overrides.etcd.is_empty() { file.registry.kind.unwrap_or(Kind::None) } else { Kind::Etcd };
    let endpoints = if overrides.etcd.is_empty() { &file.registry.endpoints } else { &overrides.etcd };
    let tls = etcd_tls(source, &file.registry)?;
    let scheme = if tls.is_some() { "https://" } else { "http://" };
    let endpoints: Vec<String> = endpoints
        .iter()
        .map(|e| if e.contains("://") { e.clone() } else { format!("{scheme}{e}") })
        .collect();
    if kind == Kind::Etcd && endpoints.is_empty() {
        let problem = "etcd needs addresses: endpoints = [\"http://127.0.0.1:2379\"]";
        return Err(source.invalid(&(0..0), "registry.endpoints", problem));
    }
    let in_file = file.registry.prefix.as_ref();
    let prefix =
        overrides.prefix.as_deref().or(in_file.map(|p| p.get_ref().as_str())).unwrap_or("/suiyue/v1");
    let prefix = prefix.parse::<Prefix>().map_err(|e| {
        source.invalid(&in_file.map_or(0..0, Spanned::span), "registry.prefix", e.to_string())
    })?;
    Ok(Registry { kind, endpoints, prefix, tls, peers: peers(source, file)? })
}

/// TLS towards etcd is wanted where its authority is named.
fn etcd_tls(source: &Source<'_>, given: &file::Registry) -> Result<Option<EtcdTls>, Error> {
    let read = |path: &Spanned<PathBuf>, field: &str| {
        let shown = path.get_ref().display();
        fs::read_to_string(path.get_ref())
            .map_err(|e| source.invalid(&path.span(), field, format!("{shown}: {e}")))
    };
    let Some(ca) = &given.ca else {
        return match given.cert.as_ref().or(given.key.as_ref()) {
            None => Ok(None),
            Some(path) => {
                Err(source.invalid(&path.span(), "registry", "cert and key need ca: who vouches for etcd"))
            }
        };
    };
    let client = match (&given.cert, &given.key) {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            private_key(key.get_ref())
                .map_err(|e| source.invalid(&key.span(), "registry.key", e.to_string()))?;
            Some((read(cert, "registry.cert")?, read(key, "registry.key")?))
        }
        (Some(one), None) | (None, Some(one)) => {
            return Err(source.invalid(&one.span(), "registry", "cert and key come together"));
        }
    };
    let paths = given.cert.as_ref().zip(given.key.as_ref());
    let paths = paths.map(|(cert, key)| (cert.get_ref().clone(), key.get_ref().clone()));
    let files = EtcdFiles { ca: ca.get_ref().clone(), client: paths };
    Ok(Some(EtcdTls { ca: read(ca, "registry.ca")?, client, files }))
}

/// Names are looked up when a peer is asked: it may have another address by then.
fn peers(source: &Source<'_>, file: &File) -> Result<Vec<String>, Error> {
    let peers = file.registry.peers.iter().map(|peer| {
        let text = peer.get_ref();
        let well = text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !text.contains("://") && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        let problem = format!("{text:?} is no control address of a gateway: write HOST:PORT");
        if well { Ok(text.clone()) } else { Err(source.invalid(&peer.span(), "registry.peers", problem)) }
    });
    peers.collect()
}

fn ramp(source: &Source<'_>, file: &File) -> Result<Duration, Error> {
    match &file.health.ramp_s {
        None => Ok(Duration::from_secs(60)),
        Some(value) if (0.0..=3600.0).contains(value.get_ref()) => {
            Ok(Duration::from_secs_f64(*value.get_ref()))
        }
        Some(value) => Err(source.invalid(&value.span(), "health.ramp_s", "use 0 to 3600 seconds")),
    }
}

fn limits(source: &Source<'_>, file: &File) -> Result<Limits, Error> {
    let default = Limits::default();
    let limit = |field: &str, value: &Option<Spanned<usize>>, default: usize, max: usize| match value {
        None => Ok(default),
        Some(value) if (1..=max).contains(value.get_ref()) => Ok(*value.get_ref()),
        Some(value) => Err(source.invalid(&value.span(), field, format!("use 1 to {max}"))),
    };
    let given = &file.limits;
    let streams = match &given.streams_per_connection {
        None => default.streams,
        Some(value) if (1..=10_000).contains(value.get_ref()) => *value.get_ref(),
        Some(value) => {
            return Err(source.invalid(&value.span(), "limits.streams_per_connection", "use 1 to 10000"));
        }
    };
    Ok(Limits {
        connections: limit("limits.connections", &given.connections, default.connections, 1_000_000)?,
        in_flight: limit(
            "limits.in_flight_per_worker",
            &given.in_flight_per_worker,
            default.in_flight,
            1_000_000,
        )?,
        streams,
        request_bytes: limit("limits.request_bytes", &given.request_bytes, default.request_bytes, 16 << 20)?,
    })
}

#[cfg(test)]
mod tests;
