//! What a mapping says, and how a wrong one is named.

use super::*;
use serde_json::json;

const GOOD: &str = include_str!("../../../../deploy/examples/mapping-guangzhou.toml");

fn good() -> Mapping {
    Mapping::parse("mapping.toml", GOOD).unwrap()
}

/// The example with one text for another is refused, on the line where that stands, with these words.
#[track_caller]
fn check(from: &str, to: &str, words: &str) {
    assert!(GOOD.contains(from), "{from} does not stand in the example");
    let text = GOOD.replacen(from, to, 1);
    let line = GOOD[..GOOD.find(from).unwrap()].matches('\n').count() + 1;
    let error = Mapping::parse("mapping.toml", &text).unwrap_err();
    let Error::Line { file, line: named, problem } = &error else { panic!("{error}") };
    assert_eq!(file, "mapping.toml");
    // What a whole table lacks is named where the table begins.
    let near = line.saturating_sub(3)..=line + to.lines().count();
    assert!(near.contains(named), "line {named}, not about {line}: {error}");
    assert!(problem.contains(words), "{error}");
}

#[test]
fn the_example_holds() {
    let mapping = good();
    let guangzhou = Code::new(440_100).unwrap();
    assert_eq!((mapping.division(guangzhou), mapping.show.ttl_s), (Some("广州市"), 120));
    assert!(mapping.is_its_code("GZ2020:1") && !mapping.is_its_code("SY1:440100:1"));
    let vars = Vars { subject: "00ff", division: "广州市", ..Vars::default() };
    let ask = mapping.status.ask(&vars);
    assert_eq!(
        (ask.verb, ask.path.as_str()),
        (Verb::Get, "/api/v2/person?city=%E5%B9%BF%E5%B7%9E%E5%B8%82&uid=00ff")
    );
}

#[test]
fn each_mistake_is_named_with_line_and_field() {
    check("\"绿码\" = \"green\"", "\"绿码\" = \"blue\"", "levels.绿码: \"blue\" is no level");
    check("\"红码\" = \"red\"", "\"红码\" = \"yellow\"", "no word stands for red");
    check("40401 = \"holder_not_found\"", "40401 = \"gone\"", "errors.40401: use holder_not_found");
    check(
        "\"已注销\" = \"subject_unknown\"",
        "\"已注销\" = \"level_red\"",
        "reasons.已注销: use signature_invalid",
    );
    check("440100 = \"广州市\"", "440106 = \"天河区\"", "it belongs to 440100");
    check("440100 = \"广州市\"", "999999 = \"x\"", "divisions.999999");
    check("440100 = \"广州市\"", "canton = \"x\"", "six digits");
    check("440100 = \"广州市\"", "440100 = \"x\"\n440300 = \"x\"", "no other region has");
    check("code_prefixes = [\"GZ2020:\"]", "code_prefixes = [\"SY1:\"]", "prefix of our own codes");
    check("code_prefixes = [\"GZ2020:\"]", "code_prefixes = []", "1 to 16 are wanted");
    check("code_prefixes = [\"GZ2020:\"]", "code_prefixes = [\"穗\"]", "visible ASCII");
    check("ttl_s = 120", "ttl_s = 5", "show.ttl_s: 10 to 86400");
    check("refresh_after_s = 60", "refresh_after_s = 200", "show.refresh_after_s: 1 to 120");
    check(
        "uid = \"{subject}\", city = \"{division}\" }\ncode",
        "city = \"{division}\" }\ncode",
        "{subject} stands in no field",
    );
    check("qr = \"{code}\"", "qr = \"{text}\"", "{text} is not known");
    check("qr = \"{code}\"", "qr = \"{code}{subject}\"", "there is no {subject} in verify");
    check("method = \"GET\"", "method = \"PUT\"", "status.method: use");
    check("path = \"/api/v2/scan\"", "path = \"api\"", "verify.path: a path that begins with /");
    check("level = \"/data/color\"", "level = \"data.color\"", "show.level: a JSON pointer");
    check("time_unit = \"ms\"", "time_unit = \"min\"", "show.time_unit: use");
    check("ok = [\"0\"]", "ok = []", "result.ok: name the words");
    check("ok = [\"UP\"]\n", "", "field and ok belong together");
    check("issued = \"/data/ts\"", "isued = \"/data/ts\"", "unknown field `isued`");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Mapping::load(Path::new("/nowhere/mapping.toml")).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/mapping.toml: "), "{error}");
}

#[test]
fn answers_are_judged_by_status_and_word() {
    let mapping = good();
    let check = |http: u16, code: Value, expected: Result<(), Failure>| {
        let judged = mapping.judge(http, &json!({ "errcode": code }));
        assert_eq!(judged.map_err(|(failure, _)| failure), expected, "{http} {code}");
    };
    check(200, json!(0), Ok(()));
    check(200, json!("0"), Ok(()));
    check(200, json!(40401), Err(Failure::HolderNotFound));
    check(200, json!("50002"), Err(Failure::Code(VerdictReason::CodeExpired)));
    check(200, json!(90001), Err(Failure::Overloaded));
    check(200, json!(12345), Err(Failure::Unmapped));
    check(200, Value::Null, Err(Failure::Unmapped));
    check(404, json!(40401), Err(Failure::HolderNotFound));
    check(404, Value::Null, Err(Failure::Unmapped));
    check(429, Value::Null, Err(Failure::Overloaded));
    check(500, json!(0), Err(Failure::Unavailable));
    check(503, Value::Null, Err(Failure::Unavailable));
    let word = mapping.judge(200, &json!({ "errcode": 12345 })).unwrap_err().1;
    assert_eq!(word.as_deref(), Some("12345"));
}

#[test]
fn words_are_known_missing_or_unmapped() {
    let mapping = good();
    let answer =
        json!({ "data": { "color": "黄码", "city": "深圳市", "ts": "1700000000000", "none": null } });
    assert_eq!(mapping.level(&answer, "/data/color"), Word::Known(Level::Yellow));
    assert_eq!(mapping.level(&answer, "/data/none"), Word::Missing);
    assert_eq!(mapping.level(&answer, "/data/city"), Word::Unmapped("深圳市".to_owned()));
    assert_eq!(mapping.region(&answer, "/data/city"), Word::Unmapped("深圳市".to_owned()));
    assert_eq!(mapping.show.issued.as_ref().unwrap().of(&answer), Some(1_700_000_000_000));
}

#[test]
fn it_is_well_when_it_says_so() {
    let mapping = good();
    let check = |http, said: &str, expected| {
        assert_eq!(mapping.is_well(http, &json!({ "status": said })), expected, "{http} {said}");
    };
    check(200, "UP", true);
    check(200, "DOWN", false);
    check(503, "UP", false);
    assert!(!mapping.is_well(200, &Value::Null));
}
