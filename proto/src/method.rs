//! How is a method treated: its class, who may call it, may it be replayed, does it stream?
//!
//! The answer stands in the method's descriptor: protobuf's own `idempotency_level` and our two
//! options `suiyue.v1.class` and `suiyue.v1.access`. A method without our options is not listed,
//! and what is not listed is not forwarded.

use crate::v1;
use prost_reflect::{DescriptorPool, MethodDescriptor, Value};
use std::fmt;

/// Priority class, highest first: the order is the order of shedding, from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A checkpoint verifies a code.
    Scan,
    /// A holder opens the code.
    Show,
    /// Details and history.
    Query,
    /// Uploads, replication, export.
    Sync,
}

impl Class {
    /// All classes, highest first.
    pub const ALL: [Self; 4] = [Self::Scan, Self::Show, Self::Query, Self::Sync];

    /// The word used in configuration, metrics and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Show => "show",
            Self::Query => "query",
            Self::Sync => "sync",
        }
    }

    /// Position in [`Class::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The class a protobuf value stands for; `None` for unspecified or unknown.
    #[must_use]
    pub fn from_proto(value: i32) -> Option<Self> {
        match v1::Class::try_from(value) {
            Ok(v1::Class::Scan) => Some(Self::Scan),
            Ok(v1::Class::Show) => Some(Self::Show),
            Ok(v1::Class::Query) => Some(Self::Query),
            Ok(v1::Class::Sync) => Some(Self::Sync),
            Ok(v1::Class::Unspecified) | Err(_) => None,
        }
    }

    /// The protobuf value.
    #[must_use]
    pub const fn to_proto(self) -> v1::Class {
        match self {
            Self::Scan => v1::Class::Scan,
            Self::Show => v1::Class::Show,
            Self::Query => v1::Class::Query,
            Self::Sync => v1::Class::Sync,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Class {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|class| class.as_str() == word)
            .ok_or_else(|| format!("{word:?} is no class; use scan, show, query or sync"))
    }
}

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Apps; any tier may answer.
    Public,
    /// Nodes among themselves; never forwarded.
    Federation,
    /// Forwarded to tier 0 only.
    Authority,
    /// Served by the gateway itself; never forwarded.
    Control,
}

/// What a repetition of a call would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Idempotency {
    /// Possibly harm: never replayed once it may have been sent.
    Unknown,
    /// Nothing: it only reads.
    NoSideEffects,
    /// Nothing more than the first time.
    Idempotent,
}

impl Idempotency {
    /// A call may be sent again although it may have been executed.
    #[must_use]
    pub const fn replayable(self) -> bool {
        !matches!(self, Self::Unknown)
    }
}

/// Which sides stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One message each way.
    Unary,
    /// Many messages from the caller, one back.
    ClientStream,
    /// One message from the caller, many back.
    ServerStream,
    /// Many messages each way.
    Bidi,
}

/// How one method is treated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// `/package.Service/Method`.
    pub path: String,
    /// Priority class.
    pub class: Class,
    /// Who may call it.
    pub access: Access,
    /// May it be replayed?
    pub idempotency: Idempotency,
    /// Which sides stream.
    pub shape: Shape,
}

/// A descriptor set that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadDescriptors {
    /// The bytes are no complete descriptor set.
    #[error("the descriptor set cannot be read (imports must be included): {0}")]
    Undecodable(String),
    /// The set is larger than [`MAX_DESCRIPTOR_SET`].
    #[error("the descriptor set has {0} bytes; at most {MAX_DESCRIPTOR_SET} are taken")]
    TooLarge(usize),
}

/// Bytes of a descriptor set that are taken at most; etcd takes 1.5 MiB a request.
pub const MAX_DESCRIPTOR_SET: usize = 1 << 20;

/// The methods that a descriptor set lists with both of our options.
///
/// # Errors
/// [`BadDescriptors`] when the set is too large, malformed, or lacks an import.
pub fn methods_of(descriptor_set: &[u8]) -> Result<Vec<Method>, BadDescriptors> {
    if descriptor_set.len() > MAX_DESCRIPTOR_SET {
        return Err(BadDescriptors::TooLarge(descriptor_set.len()));
    }
    let pool =
        DescriptorPool::decode(descriptor_set).map_err(|e| BadDescriptors::Undecodable(e.to_string()))?;
    Ok(pool
        .services()
        .flat_map(|s| s.methods().collect::<Vec<_>>())
        .filter_map(|m| read(&pool, &m))
        .collect())
}

/// The methods of `suiyue.v1` itself.
#[must_use]
pub fn own() -> Vec<Method> {
    methods_of(crate::DESCRIPTOR_SET).expect("the embedded descriptor set was made by the build script")
}

fn read(pool: &DescriptorPool, method: &MethodDescriptor) -> Option<Method> {
    let options = method.options();
    let number = |name: &str| -> Option<i32> {
        let extension = pool.get_extension_by_name(name)?;
        match *options.get_extension(&extension) {
            Value::EnumNumber(n) => Some(n),
            _ => None,
        }
    };
    let access = match v1::Access::try_from(number("suiyue.v1.access")?).ok()? {
        v1::Access::Public => Access::Public,
        v1::Access::Federation => Access::Federation,
        v1::Access::Authority => Access::Authority,
        v1::Access::Control => Access::Control,
        v1::Access::Unspecified => return None,
    };
    let idempotency = match options.get_field_by_name("idempotency_level").as_deref() {
        Some(Value::EnumNumber(1)) => Idempotency::NoSideEffects,
        Some(Value::EnumNumber(2)) => Idempotency::Idempotent,
        _ => Idempotency::Unknown,
    };
    let shape = match (method.is_client_streaming(), method.is_server_streaming()) {
        (false, false) => Shape::Unary,
        (true, false) => Shape::ClientStream,
        (false, true) => Shape::ServerStream,
        (true, true) => Shape::Bidi,
    };
    Some(Method {
        path: format!("/{}/{}", method.parent_service().full_name(), method.name()),
        class: Class::from_proto(number("suiyue.v1.class")?)?,
        access,
        idempotency,
        shape,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_own_method_says_how_it_is_treated() {
        let pool = DescriptorPool::decode(crate::DESCRIPTOR_SET).unwrap();
        let declared = pool.services().map(|s| s.methods().count()).sum::<usize>();
        assert_eq!(own().len(), declared);
        assert!(declared >= 12);
    }

    #[test]
    fn options_are_read_from_the_descriptor() {
        let of = |path: &str| own().into_iter().find(|m| m.path == path).unwrap();
        let verify = of("/suiyue.v1.CodeService/VerifyCode");
        assert_eq!((verify.class, verify.access), (Class::Scan, Access::Public));
        assert_eq!((verify.idempotency, verify.shape), (Idempotency::Idempotent, Shape::Unary));
        let commit = of("/suiyue.v1.StatusService/CommitStatus");
        assert_eq!((commit.access, commit.idempotency), (Access::Authority, Idempotency::Unknown));
        assert_eq!(of("/suiyue.v1.CodeService/RecordScans").shape, Shape::Bidi);
        assert_eq!(of("/suiyue.v1.StatusService/WatchStatus").shape, Shape::ServerStream);
    }

    #[test]
    fn bad_descriptor_sets_are_refused() {
        assert!(matches!(methods_of(b"\xff\xff"), Err(BadDescriptors::Undecodable(_))));
        assert!(matches!(methods_of(&vec![0; MAX_DESCRIPTOR_SET + 1]), Err(BadDescriptors::TooLarge(_))));
        assert_eq!(methods_of(b"").unwrap(), []);
    }
}
