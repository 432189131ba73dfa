//! What is this node told to be?
//!
//! `file` is the file as written, with unknown fields refused; [`Config`] is what holds after
//! defaults, [`Overrides`] and checks. An error names the file, the line, the field, and what to do.
//! Paths are relative to the working directory.

mod adapter;
mod file;

#[cfg(test)]
mod tests;

use crate::keys::Verifying;
use crate::scope::Role;
use file::File;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use suiyue_proto::identity::{Files, Identity, SpiffeId};
use suiyue_proto::region::{self, Code};
use suiyue_proto::sy1;
use toml::Spanned;

/// A configuration that holds.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's own region: it decides the statuses there.
    pub region: Code,
    /// Name in the federation.
    pub name: String,
    /// Name of this endpoint within the node.
    pub endpoint: String,
    /// City or province.
    pub role: Role,
    /// Regions it answers for, its own among them.
    pub scopes: Vec<Code>,
    /// Calls per second it declares; 0: none.
    pub rps_max: u32,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where gateways reach it; absent: the bound address.
    pub advertise: Option<String>,
    /// Durable log and keys; absent: in memory.
    pub data_dir: Option<PathBuf>,
    /// JSONL files of holders.
    pub holders: Vec<PathBuf>,
    /// Generated populations.
    pub populations: Vec<Population>,
    /// How it joins the federation; absent: it is used alone.
    pub join: Option<Join>,
    /// The node's certificate; absent: it serves in the clear and joins by a token.
    pub identity: Option<Identity>,
    /// Extra verifying keys.
    pub keys: Vec<Verifying>,
    /// Nodes that decide for other regions in scope.
    pub authorities: BTreeMap<Code, String>,
    /// What codes of other systems begin with: they are not judged here, and are no forgeries.
    pub foreign_code_prefixes: Vec<String>,
    /// The system that it stands in front of; absent: it is one itself.
    pub adapter: Option<crate::adapter::Config>,
}

/// A generated population.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Population {
    /// Home region.
    pub region: Code,
    /// How many.
    pub holders: u64,
    /// Which ones.
    pub seed: u64,
}

/// How the node joins the federation.
#[derive(Clone, PartialEq, Eq)]
pub struct Join {
    /// Control addresses of gateways.
    pub gateways: Vec<String>,
    /// The region's join token; empty: the certificate is enough.
    pub token: String,
}

impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Join").field("gateways", &self.gateways).finish_non_exhaustive()
    }
}

/// Values from the command line or the environment, which win over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `region`.
    pub region: Option<u32>,
    /// `name`.
    pub name: Option<String>,
    /// `endpoint`.
    pub endpoint: Option<String>,
    /// `listen`.
    pub listen: Option<String>,
    /// `advertise`.
    pub advertise: Option<String>,
    /// `data_dir`.
    pub data_dir: Option<PathBuf>,
    /// `rps_max`.
    pub rps_max: Option<u32>,
    /// `join.gateways`, if not empty.
    pub gateways: Vec<String>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something stands in the file that cannot be.
    #[error("{file}, line {line}: {problem}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The field, what is wrong, and what to do.
        problem: String,
    },
    /// A value from elsewhere, or a missing one.
    #[error("{place}: {problem}")]
    Value {
        /// The file, or "command line".
        place: String,
        /// The field, what is wrong, and what to do.
        problem: String,
    },
}

impl Config {
    /// Reads the file, if there is one, and applies the overrides.
    ///
    /// # Errors
    /// [`Error`].
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, Error> {
        let Some(path) = path else { return Self::parse("command line", "", overrides) };
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|source| Error::Read { file: name.clone(), source })?;
        Self::parse(&name, &text, overrides)
    }

    /// Like [`Config::load`], from a text.
    ///
    /// # Errors
    /// [`Error`].
    pub fn parse(name: &str, text: &str, overrides: &Overrides) -> Result<Self, Error> {
        let check = Check { name, text };
        let file: File = toml::from_str(text).map_err(|error| {
            let problem = error.message().trim_end().replace('\n', "; ");
            check.at(error.span().unwrap_or(0..0), problem)
        })?;
        check.config(&file, overrides)
    }
}

/// The file under check: what an error must name.
struct Check<'a> {
    name: &'a str,
    text: &'a str,
}

impl Check<'_> {
    fn at(&self, span: Range<usize>, problem: impl Into<String>) -> Error {
        let before = self.text.get(..span.start).unwrap_or("");
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        Error::Line { file: self.name.to_owned(), line, problem: problem.into() }
    }

    fn value(&self, problem: impl Into<String>) -> Error {
        Error::Value { place: self.name.to_owned(), problem: problem.into() }
    }

    fn config(&self, file: &File, overrides: &Overrides) -> Result<Config, Error> {
        let config = self.node(file, overrides)?;
        let adapter = adapter::config(self, file, &config)?;
        Ok(Config { adapter, ..config })
    }

    fn node(&self, file: &File, overrides: &Overrides) -> Result<Config, Error> {
        let region = match (overrides.region, &file.region) {
            (Some(code), _) => {
                routing(code).map_err(|why| self.value(format!("region (override): {why}")))?
            }
            (None, Some(code)) => self.region("region", code)?,
            (None, None) => return Err(self.value("region is missing: set the node's own region code")),
        };
        let name = match (&overrides.name, &file.name) {
            (Some(name), _) => self.overridden("name", name)?,
            (None, Some(name)) => self.label("name", name)?,
            (None, None) => return Err(self.value("name is missing: set the node's name")),
        };
        let endpoint = match (&overrides.endpoint, &file.endpoint) {
            (Some(name), _) => self.overridden("endpoint", name)?,
            (None, Some(name)) => self.label("endpoint", name)?,
            (None, None) => self.overridden("endpoint", &format!("{name}-1"))?,
        };
        let role = match &file.role {
            Some(role) => self.role(role)?,
            None if region::parent(region).is_none() => Role::Province,
            None => Role::City,
        };
        let scopes = self.scopes(file, region)?;
        let listen = match (&overrides.listen, &file.listen) {
            (Some(listen), _) => {
                listen.parse().map_err(|_| self.value(format!("listen (override): {ADDRESS}")))?
            }
            (None, Some(listen)) => self.parse(listen, "listen", ADDRESS)?,
            (None, None) => SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let holders = file.holders.iter().map(|holders| holders.file.clone()).collect();
        Ok(Config {
            region,
            endpoint,
            role,
            listen,
            rps_max: overrides.rps_max.or(file.rps_max).unwrap_or(0),
            advertise: overrides.advertise.clone().or(file.advertise.clone()),
            data_dir: overrides.data_dir.clone().or(file.data_dir.clone()),
            holders,
            populations: self.populations(file, &scopes)?,
            identity: self.identity(file, region, &name)?,
            join: self.join(file, overrides)?,
            keys: self.keys(file)?,
            authorities: self.authorities(file, &scopes)?,
            foreign_code_prefixes: self.foreign(file)?,
            adapter: None,
            name,
            scopes,
        })
    }

    fn scopes(&self, file: &File, own: Code) -> Result<Vec<Code>, Error> {
        let Some(scopes) = &file.scopes else { return Ok(vec![own]) };
        let mut read = Vec::new();
        for code in scopes.get_ref() {
            let region = self.region("scopes", code)?;
            if region != own && region::parent(region) != Some(own) {
                let problem = format!("scopes: {region} is neither {own} nor in it; leave it out");
                return Err(self.at(code.span(), problem));
            }
            if !read.contains(&region) {
                read.push(region);
            }
        }
        if !read.contains(&own) {
            return Err(self.at(scopes.span(), format!("scopes: add the node's own region {own}")));
        }
        Ok(read)
    }

    fn populations(&self, file: &File, scopes: &[Code]) -> Result<Vec<Population>, Error> {
        let one = |population: &file::Population| {
            let region = self.region("population.region", &population.region)?;
            self.in_scope("population.region", region, scopes, &population.region)?;
            Ok(Population { region, holders: population.holders, seed: population.seed })
        };
        file.population.iter().map(one).collect()
    }

    fn join(&self, file: &File, overrides: &Overrides) -> Result<Option<Join>, Error> {
        let Some(join) = &file.join else {
            return match overrides.gateways.is_empty() {
                true => Ok(None),
                false => {
                    Err(self.value("join.token is missing: a [join] with a token or token_file is needed"))
                }
            };
        };
        let mut gateways = join.get_ref().gateways.clone();
        if !overrides.gateways.is_empty() {
            gateways.clone_from(&overrides.gateways);
        }
        if gateways.is_empty() {
            return Err(self.at(join.span(), "join.gateways: name at least one control address, host:port"));
        }
        let token = match (&join.get_ref().token, &join.get_ref().token_file) {
            (Some(token), None) => token.clone(),
            (None, Some(path)) => {
                let read = fs::read_to_string(path.get_ref());
                let text = read.map_err(|why| {
                    self.at(path.span(), format!("join.token_file {}: {why}", path.get_ref().display()))
                })?;
                text.trim().to_owned()
            }
            (None, None) if file.identity.is_some() => {
                return Ok(Some(Join { gateways, token: String::new() }));
            }
            _ => return Err(self.at(join.span(), "join: set one of token and token_file")),
        };
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(self.at(join.span(), "join.token: visible ASCII characters are wanted"));
        }
        Ok(Some(Join { gateways, token }))
    }

    fn identity(&self, file: &File, region: Code, name: &str) -> Result<Option<Identity>, Error> {
        let Some(given) = &file.identity else { return Ok(None) };
        let file::Identity { cert, key, trust } = given.get_ref();
        let files = Files { cert: cert.clone(), key: key.clone(), trust: trust.clone() };
        let own = Identity::open(files).map_err(|e| self.at(given.span(), format!("identity: {e}")))?;
        let id = own.shown().leaf.id.clone();
        let wanted = SpiffeId::node(&id.federation, region, name);
        if id != wanted {
            let problem = format!("identity.cert: the certificate is of {id}, but this node is {wanted}");
            return Err(self.at(given.span(), problem));
        }
        Ok(Some(own))
    }

    fn keys(&self, file: &File) -> Result<Vec<Verifying>, Error> {
        let one = |key: &file::Key| {
            let mut regions = Vec::new();
            for region in &key.regions {
                regions.push(self.region("key.regions", region)?);
            }
            let (id, public) = (key.id.get_ref(), key.public_key.get_ref());
            Ok(Verifying {
                id: hex(id).ok_or_else(|| self.at(key.id.span(), "key.id: 8 hex digits are wanted"))?,
                public: hex(public).ok_or_else(|| {
                    self.at(key.public_key.span(), "key.public_key: 64 hex digits are wanted")
                })?,
                regions,
                not_before_unix_s: key.not_before_unix_s.unwrap_or(sy1::EPOCH_UNIX_S),
                not_after_unix_s: key.not_after_unix_s.unwrap_or(i64::MAX / 2),
            })
        };
        file.key.iter().map(one).collect()
    }

    fn foreign(&self, file: &File) -> Result<Vec<String>, Error> {
        let one = |prefix: &Spanned<String>| {
            let text = prefix.get_ref();
            if text.len() < 2 || text.starts_with("SY1:") || "SY1:".starts_with(text.as_str()) {
                let problem = "foreign_code_prefixes: at least 2 characters, and another prefix than SY1:";
                return Err(self.at(prefix.span(), problem));
            }
            Ok(text.clone())
        };
        file.foreign_code_prefixes.iter().map(one).collect()
    }

    fn authorities(&self, file: &File, scopes: &[Code]) -> Result<BTreeMap<Code, String>, Error> {
        let mut named = BTreeMap::new();
        for authority in &file.authority {
            let region = self.region("authority.region", &authority.region)?;
            self.in_scope("authority.region", region, scopes, &authority.region)?;
            named.insert(region, self.label("authority.node", &authority.node)?);
        }
        Ok(named)
    }

    fn in_scope(&self, field: &str, region: Code, scopes: &[Code], at: &Spanned<u32>) -> Result<(), Error> {
        match scopes.contains(&region) {
            true => Ok(()),
            false => Err(self.at(at.span(), format!("{field}: {region} is not in scopes; add it there"))),
        }
    }

    fn region(&self, field: &str, code: &Spanned<u32>) -> Result<Code, Error> {
        routing(*code.get_ref()).map_err(|why| self.at(code.span(), format!("{field}: {why}")))
    }

    fn role(&self, role: &Spanned<String>) -> Result<Role, Error> {
        match role.get_ref().as_str() {
            "city" => Ok(Role::City),
            "province" => Ok(Role::Province),
            _ => Err(self.at(role.span(), "role: use \"city\" or \"province\"")),
        }
    }

    fn parse<T: std::str::FromStr>(
        &self,
        value: &Spanned<String>,
        field: &str,
        wanted: &str,
    ) -> Result<T, Error> {
        value.get_ref().parse().map_err(|_| self.at(value.span(), format!("{field}: {wanted}")))
    }

    fn label(&self, field: &str, value: &Spanned<String>) -> Result<String, Error> {
        label(value.get_ref()).ok_or_else(|| self.at(value.span(), format!("{field}: {LABEL}")))
    }

    fn overridden(&self, field: &str, value: &str) -> Result<String, Error> {
        label(value).ok_or_else(|| self.value(format!("{field} (override): {LABEL}")))
    }
}

const LABEL: &str = "1 to 63 characters of a-z, 0-9 and '-' are wanted";
const ADDRESS: &str = "an address and a port are wanted, like \"127.0.0.1:9101\"";

fn label(text: &str) -> Option<String> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    ((1..=63).contains(&text.len()) && text.bytes().all(good)).then(|| text.to_owned())
}

fn routing(code: u32) -> Result<Code, String> {
    let routed = region::resolve(code).map_err(|why| why.to_string())?;
    match routed.get() == code {
        true => Ok(routed),
        false => Err(format!("{code} belongs to {routed}; use that")),
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(out)
}
