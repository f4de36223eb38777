"""A report is one file that needs nothing else, says what it is, and shows text as text."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.statistics import Interval
from Diff4MMLiTSLib.reporting.html import (
    NOT_A_DEVICE,
    PHANTOM_NOTE,
    Figure,
    Report,
    Section,
    Table,
    duration_text,
    interval_text,
    render,
    write_report,
)

EVIL = "<script>alert(\"x\")</script> & 'quoted'"
VOID = {"meta", "img", "br", "link"}


def a_report() -> Report:
    table = Table((EVIL, "DSC"), ((EVIL, "0.5"),), EVIL)
    section = Section(EVIL, (EVIL,), (table,), (Figure(b"\x89PNG bytes", EVIL),))
    return Report(EVIL, EVIL, (section,), PHANTOM_NOTE, {EVIL: EVIL})


class Balance(HTMLParser):
    """Fails when tags are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_all_text_is_escaped():
    page = render(a_report())
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 10


def test_every_tag_is_closed():
    parser = Balance()
    parser.feed(render(a_report()))
    assert parser.open == []


def test_the_page_needs_nothing_from_elsewhere():
    page = render(a_report())
    assert base64.b64encode(b"\x89PNG bytes").decode() in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert "url(" not in page


def test_every_report_says_that_it_is_no_medical_device():
    assert NOT_A_DEVICE in render(Report("t", "i", ()))
    assert PHANTOM_NOTE in render(a_report())


def test_a_report_is_not_overwritten_unless_forced(tmp_path):
    write_report(a_report(), tmp_path / "new folder" / "r.html")
    with pytest.raises(InputError, match="exists"):
        write_report(a_report(), tmp_path / "new folder" / "r.html")
    write_report(a_report(), tmp_path / "new folder" / "r.html", force=True)
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["r.html"]


def test_numbers_and_times_read_as_people_write_them():
    assert interval_text(Interval(0.7123, 0.65, 0.77, 9)) == "0.712 [0.650, 0.770]"
    assert interval_text(Interval(0.7123, float("nan"), float("nan"), 1)) == "0.712"
    assert interval_text(Interval(float("nan"), float("nan"), float("nan"), 0)) == "–"
    assert [duration_text(t) for t in (8.42, 200, 7500)] == ["8.4 s", "3 min 20 s", "2 h 05 min"]
