//! Which nodes, methods, tokens and certificates does the file name?

use super::{Error, File, Source, file, routing};
use crate::identity::{SpiffeId, Trust, public::Public};
use crate::registry::keys::is_name;
use crate::table::{CEILINGS, Endpoint, Intent, Node, Role, Table};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::sync::Arc;
use suiyue_proto::{
    method::{self, Access, Idempotency, Method, Shape},
    region::{self, Code},
};
use toml::Spanned;

/// Join tokens by region.
pub(super) fn join(source: &Source<'_>, file: &File) -> Result<Vec<(Code, String)>, Error> {
    file.join
        .iter()
        .map(|join| {
            let region = region(source, &join.region, "join.region")?;
            let token = match (&join.token, &join.token_file) {
                (Some(token), None) => token.clone(),
                (None, Some(path)) => read(source, path, "join.token_file")?.trim().to_owned(),
                _ => {
                    let problem = "give either token or token_file";
                    return Err(source.invalid(&join.region.span(), "join", problem));
                }
            };
            if token.len() < 8 {
                let problem = "a join token has at least 8 characters";
                return Err(source.invalid(&join.region.span(), "join.token", problem));
            }
            Ok((region, token))
        })
        .collect()
}

/// A region that has nodes. A district has none: naming it is a slip, and is not rolled up in silence.
fn region(source: &Source<'_>, given: &Spanned<u32>, field: &str) -> Result<Code, Error> {
    let code = *given.get_ref();
    let region = routing(source, &given.span(), field, code)?;
    if region.get() != code {
        let problem = format!("{code} belongs to {region}, whose nodes answer for it: write {region}");
        return Err(source.invalid(&given.span(), field, problem));
    }
    Ok(region)
}

/// The static part of the table.
pub(super) fn table(source: &Source<'_>, file: &File, trust: Option<&Trust>) -> Result<Table, Error> {
    let mut table = Table::default();
    for own in method::own() {
        table.methods.insert(own.path.as_str().into(), Arc::new(own));
    }
    for given in &file.method {
        let method = foreign_method(source, given)?;
        table.methods.insert(method.path.as_str().into(), Arc::new(method));
    }
    for given in &file.node {
        let node = node(source, given, trust)?;
        if table.nodes.insert(node.name.clone(), Arc::new(node)).is_some() {
            let problem =
                format!("{:?} stands twice: names are unique in the federation", given.name.get_ref());
            return Err(source.invalid(&given.name.span(), "node.name", problem));
        }
    }
    Ok(table)
}

fn node(source: &Source<'_>, given: &file::Node, trust: Option<&Trust>) -> Result<Node, Error> {
    let name = given.name.get_ref();
    if !is_name(name) {
        let problem = format!("{name:?} is no name: use 1 to 63 of a-z, 0-9 and '-'");
        return Err(source.invalid(&given.name.span(), "node.name", problem));
    }
    let region = region(source, &given.region, "node.region")?;
    let role = match given.role {
        Some(file::Role::City) => Role::City,
        Some(file::Role::Province) => Role::Province,
        None if region::parent(region).is_none() => Role::Province,
        None => Role::City,
    };
    let scopes = scopes(source, given, region, role)?;
    let addresses = given.addresses.get_ref();
    if addresses.is_empty() {
        let problem = "a node needs at least one address: [\"HOST:PORT\"]";
        return Err(source.invalid(&given.addresses.span(), "node.addresses", problem));
    }
    let identity = match (given.tls.as_ref().filter(|tls| *tls.get_ref()), trust) {
        (None, _) => None,
        (Some(_), Some(trust)) => Some(Arc::new(SpiffeId::node(&trust.federation(), region, name))),
        (Some(tls), None) => {
            let problem = "both sides show certificates: add [identity] with cert, key and trust";
            return Err(source.invalid(&tls.span(), "node.tls", problem));
        }
    };
    let endpoints = addresses.iter().enumerate().map(|(i, address)| {
        let valid = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
            && address.parse::<http::uri::Authority>().is_ok();
        if !valid {
            let problem = format!("{address:?} is no address: write HOST:PORT");
            return Err(source.invalid(&given.addresses.span(), "node.addresses", problem));
        }
        Ok(Endpoint {
            name: format!("{name}-{}", i + 1).into(),
            address: address.as_str().into(),
            incarnation: 0,
            ready: scopes.iter().map(|&code| (code, 0)).collect(),
            draining: false,
            check: given.health,
            identity: identity.clone(),
        })
    });
    Ok(Node {
        name: name.as_str().into(),
        region,
        role,
        rps_max: given.rps_max,
        ceilings: CEILINGS,
        intent: Intent::default(),
        is_static: true,
        endpoints: endpoints.collect::<Result<_, _>>()?,
        scopes,
    })
}

/// A city answers for itself, a province for itself and for cities of its own.
fn scopes(source: &Source<'_>, given: &file::Node, region: Code, role: Role) -> Result<Vec<Code>, Error> {
    let Some(listed) = &given.scopes else { return Ok(vec![region]) };
    let span = listed.span();
    listed
        .get_ref()
        .iter()
        .map(|&code| {
            let scope = routing(source, &span, "node.scopes", code)?;
            let own = scope == region || (role == Role::Province && region::parent(scope) == Some(region));
            if own {
                return Ok(scope);
            }
            let problem = format!(
                "{code} is not part of {region}: a city answers for itself, a province for its cities"
            );
            Err(source.invalid(&span, "node.scopes", problem))
        })
        .collect()
}

fn foreign_method(source: &Source<'_>, given: &file::Method) -> Result<Method, Error> {
    let path = given.path.get_ref();
    let segments: Vec<&str> = path.split('/').collect();
    if segments.len() != 3 || !segments[0].is_empty() || segments[1].is_empty() || segments[2].is_empty() {
        let problem = format!("{path:?} is no method: write /package.Service/Method");
        return Err(source.invalid(&given.path.span(), "method.path", problem));
    }
    if segments[1].starts_with("suiyue.v1.") || segments[1].starts_with("grpc.") {
        let problem = "methods of suiyue.v1 and grpc are built in and cannot be declared again";
        return Err(source.invalid(&given.path.span(), "method.path", problem));
    }
    let class = given.class.get_ref().parse();
    Ok(Method {
        path: path.clone(),
        class: class.map_err(|e: String| source.invalid(&given.class.span(), "method.class", e))?,
        access: match given.access {
            file::Access::Public => Access::Public,
            file::Access::Authority => Access::Authority,
        },
        idempotency: match given.idempotency {
            file::Idempotency::None => Idempotency::Unknown,
            file::Idempotency::Idempotent => Idempotency::Idempotent,
            file::Idempotency::NoSideEffects => Idempotency::NoSideEffects,
        },
        shape: match given.shape {
            file::Shape::Unary => Shape::Unary,
            file::Shape::ClientStream => Shape::ClientStream,
            file::Shape::ServerStream => Shape::ServerStream,
            file::Shape::Bidi => Shape::Bidi,
        },
    })
}

/// TLS of the data port: what is shown, and to whom.
#[derive(Clone)]
pub struct DataTls {
    /// For the listener.
    pub config: Arc<rustls::ServerConfig>,
    /// The certificate, to be followed.
    pub certificate: Arc<Public>,
}

/// TLS 1.3 and 1.2 towards apps, HTTP/2 only; client certificates where a CA is named.
pub(super) fn tls(source: &Source<'_>, file: &File) -> Result<Option<DataTls>, Error> {
    let Some(given) = &file.tls else { return Ok(None) };
    certificates(source, &given.cert, "tls.cert")?;
    let key = read(source, &given.key, "tls.key")?;
    PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|e| source.invalid(&given.key.span(), "tls.key", format!("no private key in PEM: {e}")))?;
    let certificate = Public::open(given.cert.get_ref().into(), given.key.get_ref().into());
    let certificate =
        Arc::new(certificate.map_err(|why| source.invalid(&given.cert.span(), "tls.cert", why))?);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| source.invalid(&given.cert.span(), "tls", e.to_string()))?;
    let builder = match &given.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = rustls::RootCertStore::empty();
            for cert in certificates(source, path, "tls.client_ca")? {
                roots.add(cert).map_err(|e| source.invalid(&path.span(), "tls.client_ca", e.to_string()))?;
            }
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .build()
                    .map_err(|e| source.invalid(&path.span(), "tls.client_ca", e.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(certificate.clone());
    config.alpn_protocols = vec![b"h2".to_vec()];
    if given.client_ca.is_some() {
        // A resumed session shows no certificate: one that has expired since would go on to count.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Some(DataTls { config: Arc::new(config), certificate }))
}

fn certificates(
    source: &Source<'_>,
    path: &Spanned<String>,
    field: &str,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(source, path, field)?;
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match certs {
        Ok(certs) if !certs.is_empty() => Ok(certs),
        Ok(_) => Err(source.invalid(&path.span(), field, "no certificate in this file: PEM is wanted")),
        Err(e) => Err(source.invalid(&path.span(), field, format!("no certificates in PEM: {e}"))),
    }
}

fn read(source: &Source<'_>, path: &Spanned<String>, field: &str) -> Result<String, Error> {
    std::fs::read_to_string(path.get_ref())
        .map_err(|e| source.invalid(&path.span(), field, format!("{}: {e}", path.get_ref())))
}
