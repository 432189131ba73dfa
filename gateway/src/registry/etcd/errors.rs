//! What do the client's errors mean for us?
//!
//! | etcd says | a read | a write |
//! |---|---|---|
//! | the lease is not there | `LeaseGone` | `LeaseGone` |
//! | compacted | `Compacted` | – |
//! | no permission, bad argument, too large, no space | `Refused` | `Refused` |
//! | the connection was not made | `Unreachable` | `Unreachable` |
//! | anything else: no leader, cut off, too late | `Unreachable` | `Unknown` |
//!
//! A write counts as not sent only where that is certain; a `put` whose answer was lost has been seen
//! to land seconds later.

use crate::registry::Error;
use etcd_client::Error as Etcd;
use tonic::{Code, Status};

/// Classes the error of a call that may be made again.
pub(super) fn class_read(error: Etcd) -> Error {
    class(error, Error::Unreachable)
}

/// Classes the error of a write.
pub(super) fn class_write(error: Etcd) -> Error {
    class(error, Error::Unknown)
}

fn class(error: Etcd, doubtful: fn(String) -> Error) -> Error {
    let status = match error {
        Etcd::GRpcStatus(status) => status,
        // The client's own words for an answer with no time to live.
        Etcd::LeaseKeepAliveError(text) if text == "lease not found" => return Error::LeaseGone,
        Etcd::InvalidArgs(_) | Etcd::InvalidUri(_) => return Error::Refused(error.to_string()),
        other => return doubtful(other.to_string()),
    };
    let text = format!("{}: {}", status.code(), status.message());
    match status.code() {
        Code::NotFound => Error::LeaseGone,
        // The one code says either of two things.
        Code::OutOfRange if status.message().contains("compacted") => Error::Compacted,
        Code::ResourceExhausted if status.message().contains("too many requests") => Error::Unreachable(text),
        Code::OutOfRange
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::ResourceExhausted => Error::Refused(text),
        _ if never_sent(&status) => Error::Unreachable(text),
        _ => doubtful(text),
    }
}

/// The connection was refused or not made in time.
fn never_sent(status: &Status) -> bool {
    let causes = std::iter::successors(std::error::Error::source(status), |error| error.source());
    causes.into_iter().any(|error| error.is::<tonic::ConnectError>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: Code, text: &str, read: &str, write: &str) {
        let word = |error: Error| format!("{error:?}").split('(').next().unwrap_or_default().to_owned();
        let status = || Etcd::GRpcStatus(Status::new(code, text));
        assert_eq!(
            (word(class_read(status())).as_str(), word(class_write(status())).as_str()),
            (read, write)
        );
    }

    #[test]
    fn every_word_of_etcd_has_a_class() {
        check(Code::NotFound, "etcdserver: requested lease not found", "LeaseGone", "LeaseGone");
        check(
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
            "Compacted",
            "Compacted",
        );
        check(Code::OutOfRange, "decoded message length too large", "Refused", "Refused");
        check(Code::PermissionDenied, "etcdserver: permission denied", "Refused", "Refused");
        check(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", "Refused", "Refused");
        check(Code::ResourceExhausted, "etcdserver: too many requests", "Unreachable", "Unreachable");
        check(Code::Unavailable, "etcdserver: no leader", "Unreachable", "Unknown");
        check(Code::Unavailable, "etcdserver: request timed out", "Unreachable", "Unknown");
        check(Code::Unknown, "h2 protocol error", "Unreachable", "Unknown");
        check(Code::Cancelled, "", "Unreachable", "Unknown");
    }

    #[test]
    fn a_lease_without_time_to_live_is_gone() {
        let error = Etcd::LeaseKeepAliveError("lease not found".to_owned());
        assert!(matches!(class_read(error), Error::LeaseGone));
    }
}
