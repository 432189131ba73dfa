//! What does an error mean to the program that receives it?
//!
//! Every error of gateway and node carries one of these reasons in `google.rpc.ErrorInfo` (domain
//! `suiyue`), with the gRPC code and the fixed sentence of this table. The sentence never carries an
//! internal address or input of the caller.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain in `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "suiyue";

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $code:ident, $text:literal;)*) => {
        /// A machine-readable reason.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $(#[doc = $text] $(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason, for tables made ahead of time.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word in `ErrorInfo.reason`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The gRPC code that goes with it.
            #[must_use]
            pub const fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code,)* }
            }

            /// The fixed sentence for a person who reads the error.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    // Which region?
    RegionRequired = "REGION_REQUIRED", InvalidArgument, "no region: set the metadata suiyue-region or field 1 of the request";
    RegionMalformed = "REGION_MALFORMED", InvalidArgument, "the metadata suiyue-region must be one six-digit region code";
    RegionUnknown = "REGION_UNKNOWN", NotFound, "no such region in GB/T 2260";
    RegionRetired = "REGION_RETIRED", FailedPrecondition, "this region code is retired: use the successor named in the error details";
    RegionNotJoined = "REGION_NOT_JOINED", FailedPrecondition, "nobody serves this region in the federation";
    RegionMismatch = "REGION_MISMATCH", InvalidArgument, "the message names another region than the call was routed by";
    // Which method?
    MethodUnknown = "METHOD_UNKNOWN", Unimplemented, "no node of the federation lists this method";
    MethodNotPublic = "METHOD_NOT_PUBLIC", PermissionDenied, "this method is not for apps";
    // What message?
    MessageTooLarge = "MESSAGE_TOO_LARGE", ResourceExhausted, "the request message is larger than the method allows";
    MessageMalformed = "MESSAGE_MALFORMED", InvalidArgument, "the request message cannot be decoded";
    CompressedNeedsRegion = "COMPRESSED_NEEDS_REGION", InvalidArgument, "a compressed first message needs the metadata suiyue-region";
    FramingInvalid = "FRAMING_INVALID", Internal, "the request body is not one complete gRPC message";
    TimeoutMalformed = "TIMEOUT_MALFORMED", InvalidArgument, "the metadata grpc-timeout is malformed";
    RequestIncomplete = "REQUEST_INCOMPLETE", DeadlineExceeded, "the request message did not arrive in time";
    // Can anybody answer?
    FederationUnknown = "FEDERATION_UNKNOWN", Unavailable, "this gateway has not heard of the registry since it started: call another one, or again later";
    NoNodeAvailable = "NO_NODE_AVAILABLE", Unavailable, "no node of this region can answer at present";
    UpstreamLost = "UPSTREAM_LOST", Unavailable, "the node was lost before it answered; the call may have been executed";
    UpstreamProtocol = "UPSTREAM_PROTOCOL", Internal, "the node broke the protocol";
    DeadlineExceeded = "DEADLINE_EXCEEDED", DeadlineExceeded, "the deadline passed";
    GatewayDraining = "GATEWAY_DRAINING", Unavailable, "the gateway is finishing: call again on another connection";
    GatewayOverloaded = "GATEWAY_OVERLOADED", ResourceExhausted, "the gateway has as many calls in flight as it takes";
    RegionOverloaded = "REGION_OVERLOADED", ResourceExhausted, "as many calls of this region are in flight as the gateway takes";
    StreamIdle = "STREAM_IDLE", Unavailable, "nothing was sent on the stream for too long";
    ConnectionAge = "CONNECTION_AGE", Unavailable, "the connection reached its age: resume on a new one";
    // What does a node refuse?
    FieldInvalid = "FIELD_INVALID", InvalidArgument, "a field of the request has a value that is not allowed";
    HolderNotFound = "HOLDER_NOT_FOUND", NotFound, "no such holder, or not for you";
    RegionNotServed = "REGION_NOT_SERVED", FailedPrecondition, "this node does not answer for the region";
    NotReady = "NOT_READY", Unavailable, "the node has not loaded the holders of this region";
    TooStale = "TOO_STALE", Unavailable, "the data is older than max_staleness_s allows";
    NotAuthority = "NOT_AUTHORITY", FailedPrecondition, "this node does not decide for the region; the authority is named in the error details";
    NodeDraining = "NODE_DRAINING", Unavailable, "the node is finishing";
    StoreUnavailable = "STORE_UNAVAILABLE", Unavailable, "the store cannot make it durable; nothing was acknowledged";
    // What does an adapter refuse?
    SystemUnavailable = "SYSTEM_UNAVAILABLE", Unavailable, "the system behind this node does not answer at present";
    SystemOverloaded = "SYSTEM_OVERLOADED", ResourceExhausted, "the system behind this node takes no more calls at present";
    SystemAnswerUnknown = "SYSTEM_ANSWER_UNKNOWN", Internal, "the system behind this node gave an answer that has no mapping";
    SystemLacks = "SYSTEM_LACKS", Unimplemented, "the system behind this node cannot do this";
    // Who may join?
    JoinTokenInvalid = "JOIN_TOKEN_INVALID", Unauthenticated, "the join token is missing or wrong for this region";
    JoinScopeRefused = "JOIN_SCOPE_REFUSED", PermissionDenied, "the manifest claims a region that this node may not speak for";
    ManifestInvalid = "MANIFEST_INVALID", InvalidArgument, "the manifest cannot be used";
    NodeNameTaken = "NODE_NAME_TAKEN", AlreadyExists, "another region has a node of this name";
    Superseded = "SUPERSEDED", Aborted, "a newer registration of this endpoint took over";
    RegistryUnavailable = "REGISTRY_UNAVAILABLE", Unavailable, "the registry cannot be reached; try another gateway";
    // Whose certificate, and whose signature?
    IdentityRefused = "IDENTITY_REFUSED", PermissionDenied, "the certificate does not allow this";
    IdentityRevoked = "IDENTITY_REVOKED", PermissionDenied, "the certificate was revoked or has expired";
    SignatureInvalid = "SIGNATURE_INVALID", PermissionDenied, "a signature is missing or does not hold";
    TrustNone = "TRUST_NONE", FailedPrecondition, "this gateway's configuration names no anchor: it cannot tell whether the record is genuine";
    TrustInvalid = "TRUST_INVALID", InvalidArgument, "the record of trust cannot be used";
    TrustOlder = "TRUST_OLDER", FailedPrecondition, "a record of trust with this serial or a higher one stands in the registry";
    // What may an app call?
    AppRequired = "APP_REQUIRED", Unauthenticated, "calls of nobody are not taken here: send the app's token as authorization: Bearer TOKEN";
    AppUnknown = "APP_UNKNOWN", Unauthenticated, "the token or certificate is of no app that may call";
    AppMethodDenied = "APP_METHOD_DENIED", PermissionDenied, "the app's grant does not have this method";
    AppClassDenied = "APP_CLASS_DENIED", PermissionDenied, "the app's grant does not have the class of this method";
    AppRegionDenied = "APP_REGION_DENIED", PermissionDenied, "the app's grant does not have this region";
    QuotaExceeded = "QUOTA_EXCEEDED", ResourceExhausted, "the app calls more than its quota: come back later";
    // Who may operate?
    IdentityRequired = "IDENTITY_REQUIRED", Unauthenticated, "operators need a certificate here";
    ActorInvalid = "ACTOR_INVALID", InvalidArgument, "the actor or the reason of a change cannot be used: see the field in the error details";
    ReasonRequired = "REASON_REQUIRED", InvalidArgument, "a change needs a reason: it goes into the audit";
    RoleInsufficient = "ROLE_INSUFFICIENT", PermissionDenied, "this needs a role that the operator does not have";
    AuditBroken = "AUDIT_BROKEN", FailedPrecondition, "the head of the audit cannot be read: nothing is changed before a person has looked at it";
    // What may an operator change, and ask?
    AppInvalid = "APP_INVALID", InvalidArgument, "the app's grant cannot be used: see the field in the error details";
    AppChanged = "APP_CHANGED", Aborted, "the app was changed since it was read: read it again";
    AppExists = "APP_EXISTS", AlreadyExists, "an app of this name is registered";
    AppNotFound = "APP_NOT_FOUND", NotFound, "no app of this name is registered";
    AppRevoked = "APP_REVOKED", FailedPrecondition, "the app is revoked";
    RegionNotRouted = "REGION_NOT_ROUTED", InvalidArgument, "calls of this region are routed as those of the one in the error details: name that one";
    PolicyInvalid = "POLICY_INVALID", InvalidArgument, "the policy cannot be used: see the field in the error details";
    PolicyChanged = "POLICY_CHANGED", Aborted, "the policy was changed since it was read: read it again";
    RegistryUnread = "REGISTRY_UNREAD", Unavailable, "this gateway has not heard of the registry yet";
    RegistryFrozen = "REGISTRY_FROZEN", FailedPrecondition, "this gateway is frozen: end the freeze first";
    RegistryNone = "REGISTRY_NONE", FailedPrecondition, "this gateway has no registry: nothing can be changed through it";
    PlanNotKept = "PLAN_NOT_KEPT", NotFound, "this plan is not kept: a gateway keeps its last 64";
    WhatIfInvalid = "WHAT_IF_INVALID", InvalidArgument, "what is supposed cannot be: see the field in the error details";
    NodeUnknown = "NODE_UNKNOWN", NotFound, "no node of this name is registered";
    EndpointUnknown = "ENDPOINT_UNKNOWN", NotFound, "the node has no endpoint of this name";
    IntentInvalid = "INTENT_INVALID", InvalidArgument, "this cannot be wanted of a node: see the field in the error details";
    IntentChanged = "INTENT_CHANGED", Aborted, "what is wanted of the node was changed since it was read: read it again";
    StageSkipped = "STAGE_SKIPPED", FailedPrecondition, "a stage is skipped: the next one is named in the error details";
    NobodyLeft = "NOBODY_LEFT", FailedPrecondition, "nobody would be left who answers the calls named in the error details";
    ShiftInvalid = "SHIFT_INVALID", InvalidArgument, "the shift cannot be used: see the field in the error details";
    ShiftRefused = "SHIFT_REFUSED", FailedPrecondition, "a guard refuses the shift: see the error details";
    ShiftNotFound = "SHIFT_NOT_FOUND", NotFound, "no such shift runs";
    PlanStale = "PLAN_STALE", Aborted, "something that the plan was made from has changed: plan again";
    ApprovalNeeded = "APPROVAL_NEEDED", FailedPrecondition, "another person must approve this plan first";
    ApprovalOwn = "APPROVAL_OWN", PermissionDenied, "who approved a plan may not apply it";
    GatewaySilent = "GATEWAY_SILENT", FailedPrecondition, "a gateway does not tell its load: name it in without, or wait for it";
    WriteUnknown = "WRITE_UNKNOWN", Unknown, "the outcome of the write is unknown until the registry is read again";
}

impl Reason {
    /// A status with this reason, for tonic services.
    #[must_use]
    pub fn status(self) -> Status {
        self.with(&[])
    }

    /// A status with this reason and what exactly is wrong, as `ErrorInfo` metadata
    /// (e.g. `field` and `expected`).
    #[must_use]
    pub fn with(self, details: &[(&str, &str)]) -> Status {
        let metadata = details.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let info = ErrorDetails::with_error_info(
            self.as_str(),
            DOMAIN,
            metadata.collect::<std::collections::HashMap<_, _>>(),
        );
        Status::with_error_details(self.code(), self.text(), info)
    }

    /// The reason inside a status, if one of ours is there.
    #[must_use]
    pub fn of(status: &Status) -> Option<Self> {
        let info = status.get_details_error_info()?;
        if info.domain != DOMAIN {
            return None;
        }
        Self::ALL.iter().copied().find(|reason| reason.as_str() == info.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_survives_the_wire() {
        for &reason in Reason::ALL {
            let status = reason.with(&[("field", "subject")]);
            assert_eq!((status.code(), status.message()), (reason.code(), reason.text()));
            assert_eq!(Reason::of(&status), Some(reason));
        }
    }

    #[test]
    fn words_are_unique() {
        let words: std::collections::HashSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
    }
}
