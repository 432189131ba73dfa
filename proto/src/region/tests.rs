use std::collections::BTreeSet;

use super::*;

fn code(number: u32) -> Code {
    Code::new(number).expect("tests use numbers in range")
}

/// What a code resolves to, or else the successor that is named instead.
fn check(asked: u32, expected: Result<u32, Option<u32>>) {
    let answer = resolve(asked).map(Code::get).map_err(|why| match why {
        Unroutable::Unknown(_) => None,
        Unroutable::Retired { successor, .. } => Some(successor.get()),
    });
    assert_eq!(answer, expected, "for {asked}");
}

/// Code, first year without it, all successors and name of every retired code.
fn retired() -> impl Iterator<Item = (u32, u32, Vec<u32>, &'static str)> {
    include_str!("../../data/retired.tsv").lines().filter(|line| !line.starts_with('#')).map(|line| {
        let fields: Vec<&'static str> = line.split('\t').collect();
        let number = |text: &str| text.parse::<u32>().expect("a number");
        let successors = fields[2].split(',').map(number).collect();
        (number(fields[0]), number(fields[1]), successors, fields[3])
    })
}

#[test]
fn counts_are_those_of_the_edition() {
    let count = |level| all().filter(|division| division.level == level).count();
    assert_eq!(count(Level::Province), 34);
    // 333 prefectures and 9 collective codes.
    assert_eq!(count(Level::Prefecture), 333 + 9);
    assert_eq!(count(Level::County), 2845);
    assert_eq!(all().filter(|division| division.is_region()).count(), 34 + 333);
    assert!(retired().count() > 3000);
}

#[test]
fn provinces_and_prefectures_route_as_themselves() {
    for region in [440_000, 440_100, 610_100, 110_000, 441_900, 620_200, 710_000, 820_000] {
        check(region, Ok(region));
    }
}

#[test]
fn counties_roll_up() {
    check(440_106, Ok(440_100));
    check(340_181, Ok(340_100));
    check(653_228, Ok(653_200));
    check(540_481, Ok(540_400));
}

#[test]
fn counties_without_a_prefecture_roll_up_to_the_province() {
    for (county, province) in [
        (110_108, 110_000),
        (310_115, 310_000),
        (500_157, 500_000),
        (500_229, 500_000),
        (419_001, 410_000),
        (429_004, 420_000),
        (469_001, 460_000),
        (659_001, 650_000),
        (659_012, 650_000),
    ] {
        check(county, Ok(province));
    }
}

#[test]
fn collective_codes_route_as_the_province() {
    for (collective, province) in [
        (110_100, 110_000),
        (120_100, 120_000),
        (310_100, 310_000),
        (500_100, 500_000),
        (500_200, 500_000),
        (429_000, 420_000),
        (659_000, 650_000),
    ] {
        check(collective, Ok(province));
        assert_eq!(parent(code(collective)), None);
    }
}

#[test]
fn retired_codes_name_their_successor() {
    for (old, new) in [
        (371_200, 370_116),
        (371_203, 370_117),
        (341_400, 340_181),
        (341_402, 340_181),
        (440_183, 440_118),
        (440_184, 440_117),
        (310_230, 310_151),
        (330_104, 330_102),
        (500_105, 500_157),
        (510_202, 500_103),
    ] {
        check(old, Err(Some(new)));
    }
}

#[test]
fn codes_that_never_were_are_unknown() {
    for number in [0, 1, 99_999, 109_999, 440_999, 830_001, 999_999, 1_000_000, u32::MAX] {
        check(number, Err(None));
        assert_eq!(find(number), None);
    }
}

#[test]
fn errors_say_what_to_do() {
    let message = |number| resolve(number).map_err(|why| why.to_string());
    assert_eq!(message(440_183), Err("440183 is no longer in use; use 440118 instead".to_owned()));
    assert_eq!(
        message(7),
        Err("7 is not an administrative division; use a six-digit GB/T 2260 code, such as 440100".to_owned())
    );
}

#[test]
fn every_division_is_well_formed() {
    let mut seen = BTreeSet::new();
    for division in all() {
        assert!(seen.insert(division.code), "{} twice", division.code);
        assert_eq!(find(division.code.get()), Some(division));
        assert!(!division.name_zh.is_empty() && !division.name_en.is_empty());
        assert!(division.name_en.is_ascii(), "{}", division.name_en);
        let region = find(division.rolls_up_to.get()).expect("the region exists");
        assert!(region.is_region(), "{} does not end at a region", division.code);
        assert_eq!(region.province, division.province);
        let province = find(division.province.get()).expect("the province exists");
        assert_eq!(province.level, Level::Province);
        assert_eq!(division.code.province(), Some(province.code));
        if division.level == Level::County {
            assert!(!division.is_region());
        }
    }
    assert!(all().map(|division| division.code).is_sorted());
}

#[test]
fn every_retired_code_has_successors_that_resolve() {
    let mut seen = BTreeSet::new();
    for (old, year, successors, name) in retired() {
        assert!(seen.insert(old), "{old} twice");
        assert_eq!(find(old), None, "{old} is in use");
        assert!((1981..=2025).contains(&year), "{old} retired in {year}");
        assert!(!name.is_empty());
        for &successor in &successors {
            assert!(resolve(successor).is_ok(), "{old} became {successor}");
        }
        check(old, Err(successors.first().copied()));
    }
}

#[test]
fn regions_of_a_province_are_its_children() {
    let guangdong: Vec<_> = children(code(440_000)).collect();
    assert_eq!(guangdong.len(), 21);
    assert!(guangdong.contains(&code(440_100)));
    for city in guangdong {
        assert_eq!(parent(city), Some(code(440_000)));
    }
    assert_eq!(children(code(110_000)).count(), 0);
    assert_eq!(children(code(440_100)).count(), 0);
    let below: usize = all().map(|division| children(division.code).count()).sum();
    assert_eq!(below, 333);
}

#[test]
fn only_prefectures_have_a_parent() {
    assert_eq!(parent(code(610_100)), Some(code(610_000)));
    assert_eq!(parent(code(610_000)), None);
    assert_eq!(parent(code(440_106)), None);
    assert_eq!(parent(code(440_999)), None);
}

#[test]
fn names_are_the_conventional_ones() {
    for (number, zh, en) in [
        (440_100, "广州市", "Guangzhou"),
        (440_000, "广东省", "Guangdong"),
        (440_106, "天河区", "Tianhe District"),
        (610_100, "西安市", "Xi'an"),
        (610_000, "陕西省", "Shaanxi"),
        (140_000, "山西省", "Shanxi"),
        (150_000, "内蒙古自治区", "Inner Mongolia"),
        (150_100, "呼和浩特市", "Hohhot"),
        (230_100, "哈尔滨市", "Harbin"),
        (540_000, "西藏自治区", "Tibet (Xizang)"),
        (540_100, "拉萨市", "Lhasa"),
        (650_100, "乌鲁木齐市", "Urumqi"),
        (411_100, "漯河市", "Luohe"),
        (341_500, "六安市", "Lu'an"),
        (222_400, "延边朝鲜族自治州", "Yanbian Korean Autonomous Prefecture"),
        (429_004, "仙桃市", "Xiantao"),
    ] {
        let division = find(number).expect("the division exists");
        assert_eq!((division.name_zh, division.name_en), (zh, en));
    }
}

#[test]
fn codes_parse_from_six_digits_and_print_as_six_digits() {
    assert_eq!("440100".parse(), Ok(code(440_100)));
    assert_eq!(code(440_100).to_string(), "440100");
    assert_eq!(format!("{:>8}", code(440_100)), "  440100");
    for text in [
        "",
        "4401",
        "44010",
        "4401000",
        "+44010",
        "-44010",
        " 44010",
        "44010a",
        "４４０１００",
        "100000",
        "830000",
    ] {
        assert_eq!(text.parse::<Code>(), Err(Malformed), "for {text:?}");
    }
    assert_eq!(Code::new(109_999), None);
    assert_eq!(Code::new(830_000), None);
}
