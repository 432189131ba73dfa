//! Who is this gateway, and whom does it believe?

use super::{Error, File, Source};
use crate::identity::{Subject, Trust, trust::Root};
use suiyue_proto::identity::{Files, Identity, is_federation};

/// The identity of the gateway and the federation's anchor; `None`: there are no certificates.
pub(super) fn trust(source: &Source<'_>, file: &File) -> Result<Option<Trust>, Error> {
    let Some(given) = &file.identity else {
        return match &file.trust {
            None => Ok(None),
            Some(trust) => {
                let problem =
                    "nodes must be able to tell who calls them: add [identity] with cert, key and trust";
                Err(source.invalid(&trust.anchor.span(), "trust", problem))
            }
        };
    };
    let span = given.cert.span();
    let files = Files {
        cert: given.cert.get_ref().clone(),
        key: given.key.get_ref().clone(),
        trust: given.trust.get_ref().clone(),
    };
    let own = Identity::open(files).map_err(|e| source.invalid(&span, "identity", e.to_string()))?;
    let id = own.shown().leaf.id.clone();
    if !matches!(id.subject, Subject::Gateway(_)) {
        let problem = format!("the certificate is of {id}, which is no gateway: suiyue trust issue gateway");
        return Err(source.invalid(&span, "identity.cert", problem));
    }
    let root = match &file.trust {
        None => None,
        Some(given) => {
            let federation = given.federation.get_ref();
            if !is_federation(federation) || *federation != id.federation {
                let problem = format!("the certificate is of the federation {:?}: write that", id.federation);
                return Err(source.invalid(&given.federation.span(), "trust.federation", problem));
            }
            let anchor = given.anchor.get_ref().parse();
            let anchor = anchor.map_err(|e: suiyue_proto::identity::signed::NoAnchor| {
                source.invalid(&given.anchor.span(), "trust.anchor", e.to_string())
            })?;
            Some(Root { federation: federation.clone(), anchor })
        }
    };
    Ok(Some(Trust::new(own, root)))
}

/// The name in the certificate is the gateway's.
pub(super) fn name(trust: Option<&Trust>) -> Option<String> {
    match &trust?.own().shown().leaf.id.subject {
        Subject::Gateway(id) => Some(id.clone()),
        _ => None,
    }
}
