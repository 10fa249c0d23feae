"""A comparison as text, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import io
import json
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from rich.console import Console
from rich.table import Column, Table

from nacre.report.comparison import Comparison, Improvement, Row
from nacre.report.picture import steps_text
from nacre.report.short_names import short_names
from nacre.report.statistics import Estimate
from nacre.runs import tables

WIDTH, HEAD_WIDTH, NAME_WIDTH = 80, 11, 13
"""Characters of a line of text, of the head of a column of numbers at most, of a column of names at least."""
SIGNS = {"": "", "at most": "<= ", "more than": "> "}
MOST_PAIRS = 15
"""Of a family whose pairs are all shown."""
NOTE = (
    "IQM: interquartile mean of the return of the scored episode over seeds and test tasks, in the last evaluation. "
    "Interval: 95 %, from seeds drawn anew."
)


class Section(NamedTuple):
    """A table of any format."""

    title: str
    head: list[str]
    rows: list[list[str]]
    num_names: int = 1  # columns in front that hold names; the others hold numbers


def sections(comparison: Comparison, overview: bool) -> list[Section]:
    """A table for each family, and one of its pairs; before them, `overview` puts methods x families, if several."""
    names = _names(comparison)
    families = list(dict.fromkeys(row.family for row in comparison.rows))
    found = [_overview(comparison, families, names)] if overview and len(families) > 1 else []
    for family in families:
        found.append(_scores(family, [row for row in comparison.rows if row.family == family], names))
        pairs, which = _shown_pairs(comparison, family)
        if pairs:
            head = ["method", "over", "probability", "95 % interval"]
            rows = [[names[family, one.method], names[family, one.over], *_share(one.probability)] for one in pairs]
            found.append(Section(f"{family}: probability of improvement{which}", head, rows, 2))
    return found


def notes(comparison: Comparison) -> list[str]:
    """What the numbers are, and which runs the names in the tables stand for."""
    told: dict[str, dict[str, list[str]]] = {}  # name -> label -> families
    for (family, label), name in _names(comparison).items():
        told.setdefault(name, {}).setdefault(label, []).append(family)
    meant = []
    for name, labels in told.items():
        for label, families in labels.items():
            where = f" on {', '.join(families)}" if len(labels) > 1 else ""
            if label != name:
                meant.append(f"{name}{where}: {label}")
    return [NOTE, *meant]


def _names(comparison: Comparison) -> dict[tuple[str, str], str]:
    return short_names([(row.family, row.method) for row in comparison.rows])


def as_text(comparison: Comparison) -> str:
    """Lines of 80 characters."""
    out = io.StringIO()
    console = Console(file=out, width=WIDTH, highlight=False)
    for table in text_tables(comparison):
        console.print(table)
    return "\n".join(line.rstrip() for line in [*out.getvalue().splitlines(), "", *note_lines(comparison)]) + "\n"


def note_lines(comparison: Comparison) -> list[str]:
    """The notes in lines of 80 characters."""
    wrapped = (textwrap.wrap(note, WIDTH, subsequent_indent="  ", break_on_hyphens=False) for note in notes(comparison))
    return [line for lines in wrapped for line in lines]


def text_tables(comparison: Comparison) -> list[Table]:
    """Rich's tables of it; what is too long for a line is folded."""
    found = []
    for section in sections(comparison, overview=False):
        names = [Column(name, overflow="fold", min_width=NAME_WIDTH) for name in section.head[: section.num_names]]
        heads = (textwrap.fill(name, HEAD_WIDTH) for name in section.head[section.num_names :])
        numbers = [Column(name, justify="right", no_wrap="interval" not in name) for name in heads]
        table = Table(
            *names, *numbers, title=section.title, title_justify="left", title_style="bold", box=None, pad_edge=False
        )
        for row in section.rows:
            table.add_row(*row)
        found.append(table)
    return found


def as_markdown(comparison: Comparison) -> str:
    """A heading and a table for each section; notices at the end."""
    parts = []
    for title, head, rows, num_names in sections(comparison, overview=True):
        rule = ["---"] * num_names + ["---:"] * (len(head) - num_names)
        lines = [_line([cell.replace("|", "\\|") for cell in row]) for row in [head, rule, *rows]]
        parts += [f"## {title}", "\n".join(lines)]
    return "\n\n".join([*parts, *notes(comparison), *comparison.notices]) + "\n"


def as_latex(comparison: Comparison) -> str:
    """A tabular for each section, with the rules of the package booktabs."""
    parts = ["% \\usepackage{booktabs}"]
    for title, head, rows, num_names in sections(comparison, overview=True):
        body = [" & ".join(map(_tex, row)) + r" \\" for row in rows]
        columns = "l" * num_names + "r" * (len(head) - num_names)
        first = " & ".join(map(_tex, head)) + r" \\"
        lines = [f"\\begin{{tabular}}{{{columns}}}", r"\toprule", first, r"\midrule", *body, r"\bottomrule"]
        parts += [f"% {title}", "\n".join([*lines, r"\end{tabular}"])]
    return "\n\n".join([*parts, *(f"% {line}" for line in [*notes(comparison), *comparison.notices])]) + "\n"


def as_csv(comparison: Comparison) -> str:
    """A line for each row, numbers to the last bit, '' for what is not known."""
    records = [record | {"seeds": " ".join(map(str, record["seeds"]))} for record in comparison.records()]
    return tables.as_text([list(records[0]), *(list(record.values()) for record in records)])


def as_json(comparison: Comparison) -> str:
    """One object: rows, improvements and notices."""
    improvements = comparison.improvement_records()
    told = {"rows": comparison.records(), "improvements": improvements, "notices": comparison.notices}
    return json.dumps(told) + "\n"


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "text": as_text, "markdown": as_markdown, "latex": as_latex, "csv": as_csv, "json": as_json,
}  # fmt: skip
SUFFIXES = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json"}
"""The format of a file whose name ends so."""


# ----------------------------------------------------------------------------------------------------------------------
# Cells


def _shown_pairs(comparison: Comparison, family: str) -> tuple[list[Improvement], str]:
    """All pairs of a family, or where these are many each method over the next; and which, in words."""
    pairs = [one for one in comparison.improvements if one.family == family]
    if len(pairs) <= MOST_PAIRS:
        return pairs, ""
    methods = [row.method for row in comparison.rows if row.family == family]
    next_to = set(pairwise(methods))
    return [one for one in pairs if (one.method, one.over) in next_to], " over the next one (JSON has all pairs)"


def _overview(comparison: Comparison, families: Sequence[str], names: Mapping[tuple[str, str], str]) -> Section:
    """Interquartile means and their intervals, methods x families."""
    cells = {(names[row.family, row.method], row.family): row for row in comparison.rows}
    methods = dict.fromkeys(name for name, _ in cells)

    def cell(row: Row | None) -> str:
        if row is None:
            return ""
        value, interval = _estimate(row.iqm)
        return f"{value} ({interval})" if interval else value

    rows = [[method, *(cell(cells.get((method, family))) for family in families)] for method in methods]
    return Section("Interquartile mean (95 % interval)", ["method", *families], rows)


def _scores(family: str, rows: Sequence[Row], names: Mapping[tuple[str, str], str]) -> Section:
    """All numbers of a family; columns that no row has are left out."""
    has_scale, thresholds = any(row.normalised_iqm for row in rows), {row.threshold for row in rows}
    head = ["method", "seeds", "steps", "min", "IQM", "95 % interval"] + ["normalised"] * has_scale
    threshold = thresholds.pop()
    if threshold is not None:
        head += [f"steps to {_number(threshold)}", "min to it"]
    lines = []
    for row in rows:
        line = [names[family, row.method], str(len(row.seeds)), _steps(row), _minutes(row.minutes), *_estimate(row.iqm)]
        line += [f"{row.normalised_iqm.value:.2f}" if row.normalised_iqm else ""] * has_scale
        if threshold is not None:
            line += _reached(row)
        lines.append(line)
    return Section(family, head, lines)


def _steps(row: Row) -> str:
    """Steps of the runs, where they differ from the fewest to the most; of offline methods gradient updates."""
    texts = list(dict.fromkeys(map(steps_text, row.steps)))
    return " to ".join(texts) + (" upd." if row.offline else "")


def _minutes(minutes: float) -> str:
    return f"{minutes:.0f}" if minutes >= 10 else f"{minutes:.1f}"


def _reached(row: Row) -> list[str]:
    """Steps and minutes to the threshold, with the sign of their bound."""
    if row.to_threshold is None or row.minutes_to_threshold is None:
        return ["", ""]
    sign = SIGNS[row.to_threshold.bound]
    return [sign + steps_text(row.to_threshold.steps), sign + _minutes(row.minutes_to_threshold)]


def _estimate(found: Estimate) -> tuple[str, str]:
    """The number, and its interval: '' of one seed."""
    return _number(found.value), "" if math.isnan(found.low) else f"{_number(found.low)} to {_number(found.high)}"


def _share(found: Estimate) -> tuple[str, str]:
    return f"{found.value:.2f}", "" if math.isnan(found.low) else f"{found.low:.2f} to {found.high:.2f}"


def _number(value: float) -> str:
    """A return in as many digits as mean something."""
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _tex(cell: str) -> str:
    """A cell with LaTeX's special characters escaped, and minus signs of numbers."""
    escaped = re.sub(r"([&%$#_{}])", r"\\\1", cell)
    return re.sub(r"(?<![\w.-])-(?=\d)", "$-$", escaped)
