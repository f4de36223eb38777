"""Reports as one self-contained HTML file: figures inside, no script, no link, readable on screen and on paper."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from ..core.files import new_file
from ..core.statistics import Interval

NOT_A_DEVICE = "Research software, not a medical device: nothing here may guide the care of a patient."
PHANTOM_NOTE = "Phantom data: every image here was computed from a digital phantom, not taken from a patient."


@dataclass(frozen=True, eq=False)
class Figure:
    """An image with its words.

    Args:
        png: PNG bytes.
        caption: What it shows and how to read it.
    """

    png: bytes
    caption: str


@dataclass(frozen=True)
class Table:
    """A table of text.

    Args:
        columns: Column heads; the first column names the row.
        rows: Cells, as many as columns in each row.
        caption: What it shows.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True, eq=False)
class Section:
    """A part of a report: words, then tables and figures.

    Args:
        title: Its heading.
        paragraphs: Plain text.
        tables: Shown after the text.
        figures: Shown after the tables.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True, eq=False)
class Report:
    """A whole report.

    Args:
        title: Its title.
        introduction: What was done, in a few sentences.
        notice: What the reader must know first, for example ``PHANTOM_NOTE``; ``NOT_A_DEVICE`` is always added.
        sections: Its parts.
        provenance: Version, seed, configuration and the like by name, for the foot of the page.
    """

    title: str
    introduction: str
    sections: tuple[Section, ...]
    notice: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)


def render(report: Report) -> str:
    """Return a report as one HTML page; all text is escaped."""
    notices = "".join(f"<p>{escape(text)}</p>" for text in (report.notice, NOT_A_DEVICE) if text)
    contents = "".join(
        f'<li><a href="#section-{number}">{escape(section.title)}</a></li>'
        for number, section in enumerate(report.sections)
    )
    sections = "".join(_section(section, number) for number, section in enumerate(report.sections))
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in report.provenance.items())
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{STYLE}</style></head><body><main>"
        f"<header><h1>{escape(report.title)}</h1>"
        f'<p class="introduction">{escape(report.introduction)}</p></header>'
        f'<aside class="notice" role="note">{notices}</aside>'
        f"<nav><ol>{contents}</ol></nav>{sections}"
        f"<footer><h2>How this was made</h2><dl>{facts}</dl></footer></main></body></html>\n"
    )


def write_report(report: Report, path: Path, *, force: bool = False) -> None:
    """Write a report: all of it or nothing.

    Args:
        report: What to write.
        path: The new HTML file.
        force: Replace an existing file.

    Raises:
        InputError: The file exists and ``force`` is not given, no permission, or the disk is full.
    """
    with new_file(path, force=force) as partial:
        partial.write_text(render(report), encoding="utf-8")


def interval_text(interval: Interval, digits: int = 3) -> str:
    """Return ``0.712 [0.650, 0.770]``; a dash where the mean is not defined, no limits where there are none."""
    if not math.isfinite(interval.mean):
        return "–"
    mean = f"{interval.mean:.{digits}f}"
    if not math.isfinite(interval.low):
        return mean
    return f"{mean} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def duration_text(seconds: float) -> str:
    """Return a time as people say it: ``8.4 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _section(section: Section, number: int) -> str:
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in section.paragraphs)
    tables = "".join(_table(table) for table in section.tables)
    figures = "".join(_figure(figure) for figure in section.figures)
    return f'<section id="section-{number}"><h2>{escape(section.title)}</h2>{paragraphs}{tables}{figures}</section>'


def _table(table: Table) -> str:
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in table.rows
    )
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return f'<div class="table"><table>{caption}<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def _figure(figure: Figure) -> str:
    data = base64.b64encode(figure.png).decode("ascii")
    caption = escape(figure.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c2126; --faint: #5b6670; --line: #d5dbe1; --card: #f4f6f8;
  --accent: #0f6a93; --warn: #8a4b00; --warn-paper: #fff3df; }
@media (prefers-color-scheme: dark) { :root { --paper: #0f1317; --ink: #e6e9ec; --faint: #9aa5af; --line: #2b333b;
  --card: #171c22; --accent: #6cc0ea; --warn: #ffce8a; --warn-paper: #33240d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 2.75rem 0 .5rem; padding-top: .9rem;
  border-top: 1px solid var(--line); }
p { margin: .5rem 0 .9rem; max-width: 76ch; }
.introduction { font-size: 1.08rem; color: var(--faint); }
.notice { background: var(--warn-paper); color: var(--warn); border-left: 5px solid currentColor; border-radius: 4px;
  padding: .5rem 1.1rem; margin: 1.25rem 0; font-weight: 600; }
.notice p { margin: .35rem 0; max-width: none; }
nav ol { list-style: none; display: flex; flex-wrap: wrap; gap: .35rem 1.25rem; margin: 0; padding: 0; }
nav a { color: var(--accent); text-decoration: none; }
nav a:hover, nav a:focus { text-decoration: underline; }
figure { margin: 1.25rem 0; }
img { display: block; max-width: 100%; height: auto; border-radius: 6px; background: #14181d; }
figcaption, caption { color: var(--faint); font-size: .9rem; line-height: 1.5; text-align: left; }
figcaption { margin-top: .5rem; max-width: 96ch; }
caption { padding-bottom: .5rem; }
.table { overflow-x: auto; margin: 1.25rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { padding: .42rem .8rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child { text-align: left; padding-left: .2rem; }
thead th { color: var(--faint); font-weight: 600; border-bottom: 2px solid var(--line); }
tbody th { font-weight: 600; }
footer { color: var(--faint); font-size: .88rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem; margin: 0; }
dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; }
@media print { :root { --paper: #fff; --ink: #000; --faint: #444; --line: #bbb; --accent: #000; --warn: #000;
  --warn-paper: #fff; } body { font-size: 10.5pt; } main { max-width: none; padding: 0; } nav { display: none; }
  figure, .table, .notice { break-inside: avoid; } h2 { break-after: avoid; }
  img { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
