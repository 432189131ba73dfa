//! What does a refused call tell the person at the terminal?
//!
//! The fixed sentence, the reason word that programs use, and the details of `ErrorInfo`:
//! `no such region in GB/T 2260 [NOT_FOUND REGION_UNKNOWN; region=999999]`.

use crate::load::record::code_word;
use suiyue_proto::reason::Reason;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A refused call in one line.
#[must_use]
pub fn describe(status: &Status) -> String {
    let mut marks = code_word(status.code()).to_owned();
    if let Some(info) = status.get_details_error_info() {
        marks.push(' ');
        marks.push_str(&info.reason);
        let mut details: Vec<_> = info.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
        details.sort();
        if !details.is_empty() {
            marks.push_str("; ");
            marks.push_str(&details.join(", "));
        }
    }
    let advice = Reason::of(status).and_then(advice).map(|advice| format!(": {advice}")).unwrap_or_default();
    format!("{} [{marks}]{advice}", status.message())
}

/// The status of a change: where the gateway did not answer, it may be written all the same.
#[must_use]
pub fn heard(status: Status) -> Status {
    use Code::{Cancelled, DeadlineExceeded, Internal, Unavailable, Unknown};
    let unheard = matches!(status.code(), Cancelled | DeadlineExceeded | Internal | Unavailable | Unknown);
    if unheard && Reason::of(&status).is_none() { Reason::WriteUnknown.status() } else { status }
}

/// A detail of a refusal, such as the field that it is about.
#[must_use]
pub fn detail(status: &Status, key: &str) -> Option<String> {
    status.get_details_error_info()?.metadata.get(key).cloned()
}

/// What to do about it, where that is not in the sentence.
const fn advice(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::RegionUnknown => Some("see `suiyue region list --all` for the codes"),
        Reason::RegionNotJoined => Some("see `suiyue region list` for the regions that are served"),
        Reason::NoNodeAvailable => Some("see `suiyue node list` for the health of its nodes"),
        Reason::HolderNotFound => Some("the subject comes from the region's own sign-in"),
        Reason::PolicyChanged => Some("`suiyue region describe CODE -o toml` prints the present one"),
        Reason::NodeUnknown => {
            Some("see `suiyue node list`; for one that is still to come name its --region")
        }
        Reason::EndpointUnknown => Some("`suiyue node describe NAME` lists them"),
        Reason::IntentChanged => Some("`suiyue node describe NAME` shows the present one"),
        Reason::StageSkipped => Some("promote it step by step, or --force"),
        Reason::ShiftRefused => Some("move less, or --force with another person's approval"),
        Reason::PlanStale => Some("`suiyue shift plan` again"),
        Reason::ApprovalNeeded => {
            Some("another person runs `suiyue shift approve FILE`, or the same verb with --approve")
        }
        Reason::ShiftNotFound => Some("`suiyue shift status` names those that run"),
        Reason::GatewaySilent => Some("--without GATEWAY, if its load can be left out"),
        Reason::NobodyLeft => Some("--force, if that is meant"),
        Reason::AppExists => Some("`suiyue app add --replace` changes what it may call"),
        Reason::AppNotFound => Some("`suiyue app list` names those that there are"),
        Reason::AppRevoked => Some("`suiyue app add --replace` gives it a new token"),
        Reason::AppRequired => Some("--token-file FILE"),
        Reason::ReasonRequired => Some("--reason TEXT"),
        Reason::RegistryNone => Some("ask a gateway with a [registry] in its configuration"),
        Reason::RegistryFrozen => Some("`suiyue registry freeze --off`"),
        Reason::WriteUnknown => Some(
            "`suiyue region describe CODE`, `node describe NAME`, `shift status` or `app describe APP` shows what \
             stands there",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_sentence_reason_details_and_advice() {
        let status = Reason::RegionUnknown.with(&[("region", "999999")]);
        let text = describe(&status);
        assert!(text.starts_with(Reason::RegionUnknown.text()), "{text}");
        assert!(text.contains("[NOT_FOUND REGION_UNKNOWN; region=999999]"), "{text}");
        assert!(text.contains("suiyue region list --all"), "{text}");
    }

    #[test]
    fn a_foreign_status_is_shown_as_it_is() {
        assert_eq!(describe(&Status::internal("boom")), "boom [INTERNAL]");
    }
}
