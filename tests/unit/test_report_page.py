"""The page of a report: by itself, legible, and harmless whatever things are called."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise

import pytest

from tests.made_up_report import made_up_report
from turnmill.domain.analytics.report_data import Figures, Metric, ReportData, Section
from turnmill.domain.analytics.windows import Grain
from turnmill.show.report import reading
from turnmill.show.report.elements import LONGEST_NAME, shown_name
from turnmill.show.report.page import report_page

HOSTILE = (
    "</style></svg><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\u202egpt\u202c\u2066evil",
    "نموذج العربية",
    "x" * 10_000,
    "&lt;b&gt;",
    "javascript:alert(1)",
    "{{7*7}}${7*7}",
    "a\x00b\x1b[31mc\ud800",
    "Z" + "\u0335" * 500,
    "' onmouseover='alert(1)",
    "]]><!--",
)
_VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})
_ALLOWED_TO_POINT = re.compile(r"#[a-z-]+")


class Read(HTMLParser):
    """A page as a browser takes it apart: tags, attributes, and whether they close."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_page_needs_nothing_but_itself() -> None:
    text = report_page(made_up_report())
    read = Read(text)
    assert read.open == []
    assert {tag for tag, _ in read.tags} & {"script", "link", "img", "iframe", "object"} == set()
    for _, attributes in read.tags:
        assert not {name for name in attributes if name.startswith("on")}
        for name in ("src", "href", "action", "xlink:href"):
            assert _ALLOWED_TO_POINT.fullmatch(attributes.get(name, "#a"))
    assert "url(" not in text and "@import" not in text and "http" not in _visible(text)
    policies = [one for one in read.of("meta") if "http-equiv" in one]
    assert policies[0]["content"].startswith("default-src 'none'")


def _visible(text: str) -> str:
    return " ".join(Read(text).text)


@pytest.mark.parametrize("days", [1, 7, 31, 92])
def test_a_page_is_below_a_megabyte(days: int) -> None:
    assert len(report_page(made_up_report(days=days)).encode()) < 400_000


def test_what_things_are_called_stays_text_and_is_cut() -> None:
    plain = {tag for tag, _ in Read(report_page(made_up_report())).tags}
    text = report_page(made_up_report(names=HOSTILE))
    read = Read(text)
    assert read.open == []
    assert {tag for tag, _ in read.tags} == plain
    assert all(not name.startswith("on") for _, found in read.tags for name in found)
    assert "x" * LONGEST_NAME not in text
    assert not set("\u202e\u202c\u2066\x00\x1b\ud800") & set(text)
    assert "نموذج العربية" in text  # what is only foreign is left as it is
    assert "<bdi" in text
    text.encode()


def test_names_keep_their_letters_and_lose_what_turns_others_around() -> None:
    assert shown_name("\u202egpt\u202c") == "gpt"
    assert shown_name("a\n\tb  c") == "a b c"
    assert shown_name("می\u200cخواهم") == "می\u200cخواهم"
    assert shown_name("x" * 100) == "x" * (LONGEST_NAME - 1) + "…"
    assert len(shown_name("Z" + "\u0335" * 500)) == 5
    assert shown_name("\u200b" * 10_000) in ("", "…")


def test_every_figure_has_a_name_and_a_table_beside_it() -> None:
    read = Read(report_page(made_up_report()))
    ids = [found["id"] for _, found in read.tags if "id" in found]
    assert len(ids) == len(set(ids))
    charts = [one for one in read.of("svg") if one.get("role") == "img"]
    assert len(charts) == 5
    for one in charts:
        assert {one["aria-labelledby"], one["aria-describedby"]} <= set(ids)
    assert all(one.get("aria-hidden") == "true" for one in read.of("svg") if one not in charts)
    assert len(read.of("details")) == len(charts)
    assert len(read.of("caption")) == len(read.of("table")) > len(charts)
    assert all(one.get("scope") in ("row", "col") for one in read.of("th"))
    links = {one["href"].removeprefix("#") for one in read.of("a")}
    assert links <= set(ids)


def test_headings_go_down_one_step_at_a_time() -> None:
    levels = [
        int(tag[1])
        for tag, _ in Read(report_page(made_up_report())).tags
        if tag in ("h1", "h2", "h3")
    ]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_sections_say_what_their_figures_mean() -> None:
    text = _visible(report_page(made_up_report()))
    for words in (
        "$228.94",
        "The share of the input that the vendor read from its cache",
        "Half of the turns took no longer",
        "the period before",
        "out of the ordinary",
        "team=search",
        "Measured by a trial on 12 November.",
        "It is an estimate, and feedback always wins.",
        "94.0\u202f% of the replies say the same",
        "−$0.0194 to −$0.0166",
        "too little to say",
    ):
        assert words in text, words


def test_a_report_of_nothing_says_so() -> None:
    since = datetime(2026, 11, 16, tzinfo=UTC)
    data = ReportData(
        since=since,
        until=since + timedelta(days=7),
        zone="UTC",
        made_at=since + timedelta(days=7),
        whole_until=None,
        grain=Grain.DAY,
        now=Figures(),
        missing={Section.TOPICS: "The extra analytics is not installed."},
    )
    text = _visible(report_page(data))
    assert "No turn ended in this time." in text
    assert "No turn was added up yet" in text
    assert "The extra analytics is not installed." in text
    assert "There is nothing to look at: no turn ended" in text
    assert "went wrong" not in text


def test_what_has_no_price_is_unknown_and_no_nought() -> None:
    data = made_up_report()
    unpriced = replace(data.now, cost_usd=Decimal(0), unpriced_attempts=14)
    text = _visible(report_page(replace(data, now=unpriced)))
    assert "14 calls have no known price" in text
    assert "what they cost is unknown" in " ".join(text.split())
    some = replace(data.now, unpriced_attempts=14)
    assert "$228.94+" in _visible(report_page(replace(data, now=some)))
    assert unpriced.usd_per_turn is None


def test_spans_out_of_the_ordinary_are_marked_where_they_are() -> None:
    data = made_up_report()
    marks = [found for _, found in Read(report_page(data)).tags if found.get("class") == "mark"]
    assert [one["aria-label"] for one in marks] == [
        "Wed 18 Nov, 14:00: more than usual",
        "Thu 19 Nov, 09:00: more than usual",
    ]
    calm = replace(data, anomalies=[one for one in data.anomalies if one.metric is Metric.TURNS])
    assert not [found for _, found in Read(report_page(calm)).tags if found.get("class") == "mark"]


def test_nobody_is_named_on_a_page() -> None:
    """A page lies in folders and mails, where no erasure reaches it."""
    names = {name for one in (*made_up_report().dearest,) for name in one.__dataclass_fields__}
    assert not names & {"user_id", "key", "metadata"}


# Colours: as https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio has it.

_CSS = files("turnmill.show.report").joinpath("page.css").read_text("utf-8")
_VARIABLE = re.compile(r"--(\w+): (#[0-9a-f]{3,6})\b")


def _colours(dark: bool) -> dict[str, str]:
    light, dark_part = _CSS.split("prefers-color-scheme: dark", 1)
    return dict(_VARIABLE.findall(dark_part.split("\n}", 1)[0] if dark else light))


def _brightness(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(one * 2 for one in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_brightness(one), _brightness(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_told_from_what_they_stand_on(dark: bool) -> None:
    found = _colours(dark)
    for ground in ("ground", "sheet"):
        for words in ("ink", "soft", "faint", "accent", "good", "bad"):
            assert _contrast(found[words], found[ground]) >= 4.5, (words, ground)
        for shape in ("c1", "c2", "c3", "c4", "c5", "rest", "bad", "then"):
            assert _contrast(found[shape], found[ground]) >= 3, (shape, ground)
    steps = [_brightness(found[f"h{level}"]) for level in range(8)]
    assert steps == sorted(steps, reverse=not dark)


# How figures read.


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "unknown"),
        (Decimal(0), "$0"),
        (Decimal("0.00002"), "< $0.0001"),
        (Decimal("0.0031"), "$0.0031"),
        (Decimal("12.4"), "$12.40"),
        (Decimal("1204.4"), "$1,204"),
    ],
)
def test_money_reads(value: Decimal | None, said: str) -> None:
    assert reading.money(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "–"),
        (0.0, "0.0 %"),
        (0.0001, "< 0.1 %"),
        (0.018, "1.8 %"),
        (0.56, "56 %"),
        (0.996, "99.6 %"),
        (0.9996, "99.96 %"),
        (1.0, "100 %"),
    ],
)
def test_shares_read(value: float | None, said: str) -> None:
    assert reading.share(value).replace("\u202f", " ") == said


@pytest.mark.parametrize(
    ("now", "before", "said", "way"),
    [
        (1, None, "", "none"),
        (None, 1, "", "none"),
        (0, 0, "as before", "same"),
        (3, 0, "none before", "up"),
        (112, 100, "+12 %", "up"),
        (96, 100, "−4.0 %", "down"),
        (1400, 100, "×14", "up"),
        (100.2, 100, "as before", "same"),
    ],
)
def test_changes_read(now: float | None, before: float | None, said: str, way: str) -> None:
    found = reading.change(now, before)
    assert (found.text.replace("\u202f", " "), found.way) == (said, way)


def test_what_hardly_moved_is_neither_good_nor_bad() -> None:
    assert not reading.change(101, 100).much and reading.change(110, 100).much
    assert not reading.points(0.561, 0.560).much and reading.points(0.02, 0.01).much


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        ((0, 24), "16 November 2026"),
        ((0, 168), "16 – 22 November 2026"),
        ((0, 24 * 20), "16 November – 5 December 2026"),
        ((0, 24 * 60), "16 November 2026 – 14 January 2027"),
        ((9, 33), "16 Nov, 09:00 – 17 Nov 2026, 09:00"),
    ],
)
def test_dates_read(hours: tuple[int, int], said: str) -> None:
    start = datetime(2026, 11, 16, tzinfo=UTC)
    since, until = (start + timedelta(hours=one) for one in hours)
    assert reading.dates(since, until, "UTC") == said


def test_dates_of_a_long_window_name_both_years() -> None:
    since = datetime(2025, 11, 27, 13, 45, tzinfo=UTC)
    said = reading.dates(since, since + timedelta(days=365), "UTC")
    assert said == "27 Nov 2025, 13:45 – 27 Nov 2026, 13:45"
