//! What does a form order?
//!
//! Fields become the very request that `suiyue shift plan` makes. Here they are only read; whether the order
//! can be carried out is the operator API's to say, for everybody alike. The way back fills the form in
//! again from an order.

use super::super::{Fields, fault::Fault};
use prost::Message as _;
use std::{fmt::Write as _, str::FromStr};
use suiyue_proto::{
    method::Class,
    v1::{ApplyShiftRequest, OnBreach, PlanShiftRequest, PlanShiftResponse, ShiftOrder, ShiftTarget},
};

/// Somebody has begun to fill the form in: there is something to plan.
pub(super) fn is_asked(fields: &Fields) -> bool {
    !fields.get("from").is_empty() && fields.all("to").next().is_some()
}

/// The plan that is asked for.
pub(super) fn asked(fields: &Fields) -> Result<PlanShiftRequest, Fault> {
    let region = fields
        .get("region")
        .parse()
        .map_err(|_| Fault::field("region", "区划代码应是六位数字", "a region is a code of six digits"))?;
    let classes = fields.all("class").map(class).collect::<Result<Vec<_>, Fault>>()?;
    let on_breach = match fields.get("on_breach") {
        "" | "hold" => OnBreach::Hold,
        "rollback" => OnBreach::Rollback,
        _ => return Err(Fault::field("on_breach", "应是 hold 或 rollback", "hold or rollback")),
    };
    let order = ShiftOrder {
        region,
        // All of them is what no class means, also for classes to come.
        classes: if classes.len() == Class::ALL.len() { Vec::new() } else { classes },
        from: fields.get("from").to_owned(),
        to: fields.all("to").map(|node| target(fields, node)).collect::<Result<_, Fault>>()?,
        percent: optional(fields, "percent")?.unwrap_or(f64::NAN),
        step: optional(fields, "step")?,
        every_s: optional(fields, "every_s")?,
        ttl_s: minutes(fields)?,
        max_utilization: optional::<f64>(fields, "max_utilization")?.map(|percent| percent / 100.0),
        error_delta: optional(fields, "error_delta")?,
        p99_factor: optional(fields, "p99_factor")?,
        on_breach: on_breach.into(),
        reason: fields.get("reason").to_owned(),
        incident: fields.get("incident").to_owned(),
    };
    let without = fields.get("without").split([',', ' ', '，']).filter(|id| !id.is_empty());
    Ok(PlanShiftRequest {
        order: Some(order),
        at_rps: optional(fields, "at_rps")?.unwrap_or(0.0),
        without: without.map(str::to_owned).collect(),
    })
}

fn class(word: &str) -> Result<i32, Fault> {
    let class = Class::ALL.into_iter().find(|class| class.as_str() == word);
    class.map(|class| class.to_proto().into()).ok_or_else(|| {
        let (zh, en) = ("请求类别应是 scan、show、query 或 sync", "a class is scan, show, query or sync");
        Fault::field("class", zh, en)
    })
}

fn target(fields: &Fields, node: &str) -> Result<ShiftTarget, Fault> {
    let weight = optional(fields, &format!("weight-{node}"))?.unwrap_or(1.0);
    Ok(ShiftTarget { target: node.to_owned(), weight })
}

/// Seconds from a field in minutes.
fn minutes(fields: &Fields) -> Result<Option<u32>, Fault> {
    let minutes: Option<u32> = optional(fields, "minutes")?;
    let seconds = |minutes: u32| minutes.checked_mul(60).ok_or_else(|| no_number("minutes"));
    minutes.map(seconds).transpose()
}

fn optional<T: FromStr>(fields: &Fields, name: &str) -> Result<Option<T>, Fault> {
    match fields.get(name) {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| no_number(name)),
    }
}

fn no_number(field: &str) -> Fault {
    Fault::field(field, "这一栏应是允许范围内的数字，或留空", "a number that is allowed there, or nothing")
}

/// Seconds of a field in minutes that a change of a running shift needs.
pub(super) fn ttl_s(fields: &Fields) -> Result<u32, Fault> {
    minutes(fields)?.ok_or_else(|| no_number("minutes"))
}

/// The fields that order this.
pub(super) fn fields(order: &ShiftOrder, without: &[String]) -> Fields {
    let mut fields = vec![
        ("region", order.region.to_string()),
        ("from", order.from.clone()),
        ("percent", order.percent.to_string()),
        ("reason", order.reason.clone()),
        ("incident", order.incident.clone()),
        ("without", without.join(",")),
    ];
    let classes = order.classes.iter().filter_map(|class| Class::from_proto(*class));
    fields.extend(classes.map(|class| ("class", class.as_str().to_owned())));
    fields.extend(order.to.iter().map(|to| ("to", to.target.clone())));
    let mut set = |name, value: Option<String>| fields.extend(value.map(|value| (name, value)));
    set("step", order.step.map(|step| step.to_string()));
    set("every_s", order.every_s.map(|s| s.to_string()));
    set("minutes", order.ttl_s.map(|s| s.div_ceil(60).to_string()));
    set("max_utilization", order.max_utilization.map(|part| (part * 100.0).to_string()));
    set("error_delta", order.error_delta.map(|points| points.to_string()));
    set("p99_factor", order.p99_factor.map(|factor| factor.to_string()));
    set("on_breach", (order.on_breach() == OnBreach::Rollback).then(|| "rollback".to_owned()));
    let weights = order.to.iter().map(|to| (format!("weight-{}", to.target), to.weight.to_string()));
    Fields(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(weights).collect())
}

/// A plan as text: what is applied is what was shown, also when somebody else opens it.
pub(super) fn told(plan: &PlanShiftResponse, without: &[String]) -> String {
    let plan = ApplyShiftRequest {
        order: plan.order.clone(),
        plan_hash: plan.plan_hash.clone(),
        read: plan.read.clone(),
        without: without.to_vec(),
        ..Default::default()
    };
    hex(&plan.encode_to_vec())
}

/// The text of a plan that was read from one.
pub(super) fn told_again(plan: &ApplyShiftRequest) -> String {
    hex(&plan.encode_to_vec())
}

/// A plan from its text.
pub(super) fn plan(text: &str) -> Result<ApplyShiftRequest, Fault> {
    let invalid = || Fault::field("plan", "这不是一个计划：请重新预览", "this is no plan: preview again");
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    let bytes = bytes.filter(|bytes| rest.is_empty() && !bytes.is_empty()).ok_or_else(invalid)?;
    let plan = ApplyShiftRequest::decode(&*bytes).map_err(|_| invalid())?;
    // Whether to force or to rehearse is said by a button, not by the plan.
    if plan.order.is_none() || plan.force || plan.dry_run { Err(invalid()) } else { Ok(plan) }
}

/// Bytes as digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: &[(&str, &str)]) -> Fields {
        Fields(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    const WHOLE: &[(&str, &str)] = &[
        ("region", "440100"),
        ("class", "scan"),
        ("from", "suikang"),
        ("to", "yuekang"),
        ("to", "foshan"),
        ("weight-foshan", "2"),
        ("percent", "30"),
        ("step", "5"),
        ("every_s", "0"),
        ("minutes", "90"),
        ("max_utilization", "75"),
        ("error_delta", "1"),
        ("p99_factor", "3"),
        ("on_breach", "rollback"),
        ("reason", "suikang is slow"),
        ("incident", "INC-7"),
        ("without", "gw-2, gw-3"),
    ];

    #[test]
    fn every_field_of_the_form_is_ordered_and_fills_the_form_in_again() {
        let asked = asked(&form(WHOLE)).unwrap();
        let order = asked.order.unwrap();
        assert_eq!((order.region, &*order.from, order.classes.len()), (440_100, "suikang", 1));
        let to: Vec<_> = order.to.iter().map(|to| (&*to.target, to.weight)).collect();
        assert_eq!(to, [("yuekang", 1.0), ("foshan", 2.0)]);
        assert_eq!((order.percent, order.step, order.every_s), (30.0, Some(5.0), Some(0)));
        assert_eq!((order.ttl_s, order.max_utilization), (Some(5_400), Some(0.75)));
        assert_eq!((order.error_delta, order.p99_factor), (Some(1.0), Some(3.0)));
        assert_eq!((order.on_breach(), &*order.incident), (OnBreach::Rollback, "INC-7"));
        assert_eq!(asked.without, ["gw-2", "gw-3"]);
        let again = super::asked(&fields(&order, &asked.without)).unwrap();
        assert_eq!((again.order.unwrap(), again.without), (order, asked.without));
    }

    #[test]
    fn all_classes_are_no_class() {
        let mut all: Vec<_> = WHOLE.iter().filter(|(name, _)| *name != "class").copied().collect();
        all.extend(Class::ALL.map(|class| ("class", class.as_str())));
        assert!(asked(&form(&all)).unwrap().order.unwrap().classes.is_empty());
    }

    #[test]
    fn a_field_that_cannot_be_read_is_named() {
        for (name, value) in [
            ("region", "guangzhou"),
            ("class", "vip"),
            ("percent", "many"),
            ("step", "-"),
            ("every_s", "-1"),
            ("minutes", "4294967295"),
            ("minutes", "1.5"),
            ("max_utilization", "x"),
            ("error_delta", "x"),
            ("p99_factor", "x"),
            ("on_breach", "panic"),
            ("at_rps", "x"),
            ("weight-foshan", "x"),
        ] {
            let mut fields: Vec<_> = WHOLE.iter().filter(|(known, _)| *known != name).copied().collect();
            fields.push((name, value));
            let fault = asked(&form(&fields)).unwrap_err();
            assert_eq!(fault.details.get("field").map(String::as_str), Some(name), "{value}");
            assert_eq!(fault.reason, "CONSOLE_FORM_INVALID");
        }
    }

    #[test]
    fn a_plan_travels_as_text_and_nothing_else_is_one() {
        let shown = PlanShiftResponse {
            order: asked(&form(WHOLE)).unwrap().order,
            plan_hash: vec![7; 32].into(),
            ..Default::default()
        };
        let text = told(&shown, &["gw-2".to_owned()]);
        let read = plan(&text).unwrap();
        assert_eq!((read.order, read.plan_hash), (shown.order.clone(), shown.plan_hash.clone()));
        assert_eq!((read.without, read.force), (vec!["gw-2".to_owned()], false));
        let forced = ApplyShiftRequest { order: shown.order, force: true, ..Default::default() };
        let forced = hex(&forced.encode_to_vec());
        for text in ["", "zz", "0", &text[1..], &hex(b"\xff\xff"), &forced] {
            assert_eq!(plan(text).unwrap_err().details["field"], "plan", "{text}");
        }
    }
}
