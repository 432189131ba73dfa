use super::*;
use crate::verbs::survey::tests::heard;
use std::time::Duration;

fn row(region: u32, node: &str, change: impl FnOnce(&mut Row)) -> Row {
    let mut row = Row {
        region,
        name: "Guangzhou".into(),
        name_zh: "广州市",
        node: node.into(),
        tier: Some(0),
        state: "ok".into(),
        level: Level::Fine,
        reason: "primary".into(),
        share: Some(1.0),
        rps: 10.0,
        utilization: None,
        p99_ms: None,
        errors: None,
    };
    change(&mut row);
    row
}

fn rows() -> Vec<Row> {
    vec![
        row(610_100, "xian", |r| (r.rps, r.p99_ms, r.errors) = (5.0, Some(9.0), Some(0.5))),
        row(440_100, "yuekang", |r| {
            (r.tier, r.share, r.rps, r.state) = (Some(1), Some(0.0), 0.0, "standby".into());
        }),
        row(440_100, "suikang", |r| {
            (r.utilization, r.p99_ms, r.level, r.state) =
                (Some(0.7), Some(2.0), Level::Bad, "no endpoint".into());
        }),
    ]
}

#[track_caller]
fn nodes(view: &View) -> Vec<String> {
    view.chosen(rows()).into_iter().map(|row| row.node).collect()
}

fn pressed(keys: &str) -> View {
    let mut view = View::default();
    keys.chars().for_each(|c| assert_eq!(view.key(Key::Char(c)), Then::Draw));
    view
}

#[test]
fn keys_sort_and_turn_round() {
    let check = |keys: &str, expected: [&str; 3]| assert_eq!(nodes(&pressed(keys)), expected, "{keys}");
    check("", ["suikang", "yuekang", "xian"]);
    check("rr", ["suikang", "yuekang", "xian"]);
    check("r", ["xian", "yuekang", "suikang"]);
    check("n", ["suikang", "xian", "yuekang"]);
    check("c", ["suikang", "xian", "yuekang"]);
    check("cc", ["yuekang", "xian", "suikang"]);
    check("s", ["suikang", "xian", "yuekang"]);
    check("u", ["suikang", "yuekang", "xian"]);
    check("p", ["xian", "suikang", "yuekang"]);
    check("e", ["xian", "suikang", "yuekang"]);
    check("w", ["suikang", "yuekang", "xian"]);
}

#[test]
fn a_filter_wants_all_words_in_any_column_and_either_language() {
    let check = |filter: &str, expected: &[&str]| {
        let view = View { filter: filter.into(), ..View::default() };
        assert_eq!(nodes(&view), expected, "{filter}");
    };
    check("4401", &["suikang", "yuekang"]);
    check("GUANGZHOU standby", &["yuekang"]);
    check("广州 xian", &["xian"]);
    check("no endpoint", &["suikang"]);
    check("nothing-like-it", &[]);
    assert_eq!(nodes(&pressed("i")), ["suikang", "xian"]);
}

#[test]
fn the_filter_is_typed_corrected_kept_and_forgotten() {
    let mut view = pressed("/xiq");
    assert_eq!((view.filter.as_str(), view.typing), ("xiq", true), "q is a letter while one types");
    view.key(Key::Backspace);
    view.key(Key::Enter);
    assert_eq!((nodes(&view), view.typing), (vec!["xian".to_owned()], false));
    view.key(Key::Escape);
    assert_eq!(view.filter, "");
    assert_eq!(view.key(Key::Char('q')), Then::Leave);
    assert_eq!(view.key(Key::Interrupt), Then::Interrupted);
    assert!(pressed(" ").paused && !pressed("  ").paused);
}

/// A gateway with so many nodes, and nobody behind the second address.
fn picture(nodes: usize) -> (Picture, Instant) {
    let mut picture = Picture::new(&["a:1".to_owned(), "b:1".to_owned()]);
    let start = Instant::now();
    for second in [0, 1] {
        let now = start + Duration::from_secs(second);
        let mut said = heard(now, 1, 100 * second, 0);
        let one = said.traffic.regions[0].nodes[0].clone();
        said.traffic.regions[0].nodes = (0..nodes)
            .map(|n| {
                let mut node = one.clone();
                node.node = format!("node-{n:02}");
                node
            })
            .collect();
        picture.take(0, Ok(said), now);
    }
    picture.take(1, Err("Connection refused".into()), start);
    (picture, start + Duration::from_secs(3))
}

#[test]
fn a_frame_fills_the_terminal_and_no_more() {
    let (picture, now) = picture(50);
    for size in [(80, 24), (40, 10), (20, 6), (200, 100), (1, 1)] {
        let lines = View::default().frame(&picture, now, size);
        assert_eq!(lines.len(), usize::from(size.1), "{size:?}");
        assert!(lines.iter().all(|line| line.text.chars().count() <= size.0.into()), "{size:?}");
        assert!(lines.iter().all(|line| !line.text.contains('\u{1b}')), "{size:?}");
    }
    let lines = View::default().frame(&picture, now, (100, 24));
    assert!(lines[0].text.starts_with("suiyue top   5000 calls/s   0.0 % failed"), "{}", lines[0].text);
    assert_eq!(lines[1].text, "! b:1: no answer for 3 s: Connection refused");
    assert_eq!(lines[1].tone, Tone::Loud);
    assert!(lines[2].tone == Tone::Heading && lines[2].text.starts_with("region*"), "{:?}", lines[2]);
    for word in ["440100 Guangzhou", "node-00", "ok", "100.0 %", "100", "0.0 %"] {
        assert!(lines[3].text.contains(word), "{word} is not in {}", lines[3].text);
    }
    assert!(lines[23].text.contains("q leave"));
}

#[test]
fn scrolling_ends_where_the_rows_end() {
    let (picture, now) = picture(50);
    let mut view = View::default();
    let first = |view: &mut View| {
        let lines = view.frame(&picture, now, (80, 24));
        lines.iter().find(|line| line.text.contains("node-")).map(|line| line.text.clone()).unwrap()
    };
    assert!(first(&mut view).contains("node-00"));
    view.key(Key::PageDown);
    view.key(Key::Down);
    assert!(first(&mut view).contains("node-11"));
    for _ in 0..20 {
        view.key(Key::PageDown);
    }
    // Twenty rows are shown: two lines of gateways and sum, headings and help stand around them.
    assert!(first(&mut view).contains("node-30"));
    view.key(Key::PageUp);
    assert!(first(&mut view).contains("node-20"));
}

#[test]
fn one_look_is_a_plain_table_with_everything_that_is_known() {
    let (picture, now) = picture(2);
    let text = once(&picture, &View::default(), now);
    for part in ["200 calls/s", "node-01", " util ", "b:1: no answer", "Guangzhou"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'));
}
