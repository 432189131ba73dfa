//! How does a page call the operator API?
//!
//! In this process, through the very services that stand on the control port: audit, role, handler. The
//! actor is the session's, put where no connection can put anything
//! ([`crate::operator::access::Unproven::Inside`]).

use crate::audit::actor::Actor;
use suiyue_proto::{
    metadata,
    v1::{operator_service_client::OperatorServiceClient, shift_service_client::ShiftServiceClient},
};
use tonic::{Request, metadata::MetadataValue, service::Routes};

/// A full audit or dump is larger than tonic's 4 MiB.
const MAX_ANSWER: usize = 64 << 20;

/// The operator API.
#[derive(Clone)]
pub(super) struct Api(Routes);

impl Api {
    pub(super) const fn new(inside: Routes) -> Self {
        Self(inside)
    }

    /// A client of the operator service.
    pub(super) fn operator(&self) -> OperatorServiceClient<Routes> {
        OperatorServiceClient::new(self.0.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// A client of the shifts' service.
    pub(super) fn shifts(&self) -> ShiftServiceClient<Routes> {
        ShiftServiceClient::new(self.0.clone()).max_decoding_message_size(MAX_ANSWER)
    }
}

/// A request of this actor; `reason` is why something is changed.
pub(super) fn request<T>(actor: &Actor, reason: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(actor.clone());
    if !reason.is_empty() {
        let value = MetadataValue::from_bytes(reason.as_bytes());
        request.metadata_mut().insert_bin(metadata::CHANGE_REASON, value);
    }
    request
}
