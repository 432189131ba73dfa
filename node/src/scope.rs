//! May this node answer for the region now, and how fresh is its answer?
//!
//! The one place that reads a call's region, compares it with the routing metadata, checks scope,
//! readiness and the caller's limit on staleness, and makes the `Served` of the answer.

use crate::clock::Clock;
use crate::population::Subject;
use crate::readiness::Readiness;
use std::collections::BTreeMap;
use std::sync::Arc;
use suiyue_proto::reason::Reason;
use suiyue_proto::region::{self, Code, Unroutable};
use suiyue_proto::{metadata, v1};
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Role of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Code system of a city.
    City,
    /// Code system of a province.
    Province,
}

impl Role {
    /// The protobuf value.
    #[must_use]
    pub const fn to_proto(self) -> v1::Role {
        match self {
            Self::City => v1::Role::City,
            Self::Province => v1::Role::Province,
        }
    }
}

/// Who this node is and what it answers for.
#[derive(Debug)]
pub struct Scope {
    /// Its own region: the one whose statuses it decides.
    pub region: Code,
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Names of the nodes that decide for other regions in scope, where the configuration says.
    pub authorities: BTreeMap<Code, String>,
    /// What is loaded.
    pub readiness: Arc<Readiness>,
    /// The wall clock.
    pub clock: Clock,
}

impl Scope {
    /// The routing region of a call.
    ///
    /// # Errors
    /// The region is missing, unknown, retired, or differs from the metadata.
    pub fn region(&self, metadata: &MetadataMap, field: u32) -> Result<Code, Status> {
        let region = resolve(field)?;
        let Some(header) = metadata.get(metadata::REGION.as_str()) else { return Ok(region) };
        let routed = header
            .to_str()
            .ok()
            .and_then(|text| text.parse::<Code>().ok())
            .ok_or_else(|| Reason::RegionMalformed.status())?;
        if resolve(routed.get())? != region {
            let (routed, named) = (routed.to_string(), region.to_string());
            return Err(Reason::RegionMismatch.with(&[("metadata", &routed), ("message", &named)]));
        }
        Ok(region)
    }

    /// Admits a call that needs the region's holders.
    ///
    /// # Errors
    /// Not in scope, not ready, or older than the caller accepts.
    pub fn admit(
        &self,
        metadata: &MetadataMap,
        field: u32,
        max_staleness_s: Option<u32>,
    ) -> Result<(Code, v1::Served), Status> {
        let region = self.region(metadata, field)?;
        if !self.readiness.in_scope(region) {
            return Err(self.not_served(region));
        }
        let served = self.served(region).ok_or_else(|| not_ready(region))?;
        accept(&served, max_staleness_s)?;
        Ok((region, served))
    }

    /// This node decides the statuses of the region's holders.
    #[must_use]
    pub fn is_authority(&self, region: Code) -> bool {
        region == self.region
    }

    /// Refuses a decision for a region whose authority is elsewhere.
    #[must_use]
    pub fn not_authority(&self, region: Code) -> Status {
        let code = region.to_string();
        let named = self.authorities.get(&region).map_or("", String::as_str);
        Reason::NotAuthority.with(&[("authority_region", &code), ("authority", named)])
    }

    /// Refuses a region that this node does not answer for.
    #[must_use]
    pub fn not_served(&self, region: Code) -> Status {
        Reason::RegionNotServed.with(&[("region", &region.to_string()), ("node", &self.name)])
    }

    /// Who answers and how fresh; `None` while the region is not ready here.
    #[must_use]
    pub fn served(&self, region: Code) -> Option<v1::Served> {
        let loaded = self.readiness.as_of(region)?;
        let now = self.clock.unix_ms();
        let (as_of, freshness, degree) = if self.is_authority(region) {
            (now, v1::Freshness::Authoritative, v1::Degree::Full)
        } else {
            (loaded, v1::Freshness::Replica, v1::Degree::ReplicaOnly)
        };
        Some(self.label(region, as_of, freshness, degree))
    }

    /// The label of an answer that rests on what a code says about itself, not on a status.
    #[must_use]
    pub fn served_offline(&self, region: Code, issued_unix_s: i64) -> v1::Served {
        let as_of = self.served(region).map_or(i64::MAX, |served| served.as_of_unix_ms);
        let as_of = as_of.min(issued_unix_s.saturating_mul(1000));
        let freshness = match self.readiness.in_scope(region) {
            true => v1::Freshness::Replica,
            false => v1::Freshness::LastKnown,
        };
        self.label(region, as_of, freshness, v1::Degree::Offline)
    }

    /// A label with a chosen age.
    #[must_use]
    pub fn label(
        &self,
        region: Code,
        as_of_unix_ms: i64,
        freshness: v1::Freshness,
        degree: v1::Degree,
    ) -> v1::Served {
        let age_s = (self.clock.unix_ms() - as_of_unix_ms).max(0) / 1000;
        v1::Served {
            region: region.get(),
            node: self.name.clone(),
            role: self.role.to_proto().into(),
            as_of_unix_ms,
            staleness_s: u32::try_from(age_s).unwrap_or(u32::MAX),
            freshness: freshness.into(),
            degree: degree.into(),
        }
    }
}

/// Refuses an answer that is older than the caller accepts.
///
/// # Errors
/// [`Reason::TooStale`].
pub fn accept(served: &v1::Served, max_staleness_s: Option<u32>) -> Result<(), Status> {
    match max_staleness_s {
        Some(max) if served.staleness_s > max => {
            Err(Reason::TooStale.with(&[("staleness_s", &served.staleness_s.to_string())]))
        }
        _ => Ok(()),
    }
}

/// Refuses a call for a region whose holders are not loaded yet.
#[must_use]
pub fn not_ready(region: Code) -> Status {
    Reason::NotReady.with(&[("region", &region.to_string())])
}

/// Reads a subject.
///
/// # Errors
/// [`Reason::FieldInvalid`]: it is not 16 bytes.
pub fn subject(bytes: &[u8]) -> Result<Subject, Status> {
    bytes.try_into().map_err(|_| invalid("subject", "16 bytes"))
}

/// Reads a request id.
///
/// # Errors
/// [`Reason::FieldInvalid`]: it is not 16 bytes.
pub fn request_id(bytes: &[u8]) -> Result<[u8; 16], Status> {
    bytes.try_into().map_err(|_| invalid("request_id", "16 bytes"))
}

/// Refuses a field, and says what is wanted.
#[must_use]
pub fn invalid(field: &str, expected: &str) -> Status {
    Reason::FieldInvalid.with(&[("field", field), ("expected", expected)])
}

fn resolve(code: u32) -> Result<Code, Status> {
    if code == 0 {
        return Err(Reason::RegionRequired.status());
    }
    region::resolve(code).map_err(|why| match why {
        Unroutable::Unknown(_) => Reason::RegionUnknown.status(),
        Unroutable::Retired { successor, .. } => {
            Reason::RegionRetired.with(&[("successor", &successor.to_string())])
        }
    })
}
