"""Scores of offline methods as a picture: a panel for each family, a row for every method by every protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nacre.report import picture
from nacre.report.known import KnownScore
from nacre.report.scores import Row, published_of

BELOW = 0.4
"""How far below random actions a panel reaches at most, as a share of the way from them to single-task SAC."""
WIDTH, ROW_HEIGHT, PANEL_HEIGHT = 9.0, 0.26, 1.4
SEED, MEAN, PUBLISHED, DATA = picture.COLOURS[0], picture.INK, picture.COLOURS[1], "#d9d9d9"

Families = Mapping[str, Sequence[Row]]
Known = Mapping[str, Sequence[KnownScore]]


def draw(title: str, families: Families, known: Known, out: Path) -> None:
    """Every seed a dot and their mean a bar; what others earn as lines, what is published as hollow diamonds."""
    heights = [
        ROW_HEIGHT * (len(rows) + len(_others(known[family]))) + PANEL_HEIGHT for family, rows in families.items()
    ]
    with picture.drawing(out, WIDTH, sum(heights) + 0.8) as figure:
        figure.suptitle(title, x=0.01, ha="left", weight="bold")
        panels = figure.subplots(len(families), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (family, rows) in zip(panels, families.items(), strict=True):
            _draw_family(axes, rows, known[family])
            axes.set_title(family)
        figure.legend(handles=_legend(), loc="outside lower left", ncols=4)


def _draw_family(axes: Axes, rows: Sequence[Row], known: Sequence[KnownScore]) -> None:
    left = _left(rows)
    names = [f"{row.name}, {row.protocol}" for row in rows]
    for place, row in enumerate(rows):
        _draw_row(axes, place, row, left)
        for one in published_of(row, known):
            axes.plot(one.score, place, "D", mfc="none", mec=PUBLISHED, ms=6, zorder=4)
    for one in _others(known):
        axes.plot(one.score, len(names), "D", mfc="none", mec=PUBLISHED, ms=6)
        names.append(f"{one.method} (published), {one.protocol}")
    random, alone = _reference(rows, "random"), _reference(rows, "single-task SAC")
    for value, style in ((random, ":"), (alone, "--")):
        if value is not None:
            axes.axvline(value, color=picture.FAINT, ls=style, lw=1.2, zorder=1)
    if left is not None:
        axes.set_xlim(left=left)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("return of the scored episode")


def _draw_row(axes: Axes, place: int, row: Row, left: float | None) -> None:
    """The seeds, and in the background from the mean to the best of what was logged in these tasks."""
    lines = row.scores[0].lines
    if "data mean" in lines and "data best" in lines:
        axes.barh(place, lines["data best"] - lines["data mean"], left=lines["data mean"], height=0.7, color=DATA)
    for one in row.scores:
        at, shape = one.score, "o"
        if left is not None and (one.score < left or isnan(one.score)):
            at, shape = left, "<"
        axes.plot(at, place, shape, color=SEED, ms=5, alpha=0.8, clip_on=False, zorder=3)
    if left is None or row.mean >= left:
        axes.plot([row.mean] * 2, [place - 0.35, place + 0.35], color=MEAN, lw=2, zorder=3)


def _left(rows: Sequence[Row]) -> float | None:
    """Where a panel is cut, so that what has diverged leaves room for the rest; None where nothing lies beyond."""
    random, alone = _reference(rows, "random"), _reference(rows, "single-task SAC")
    if random is None or alone is None or alone <= random:
        return None
    left = random - BELOW * (alone - random)
    reached = [one.score for row in rows for one in row.scores]
    return left if any(isnan(score) or score < left for score in reached) else None


def _reference(rows: Sequence[Row], name: str) -> float | None:
    return next((one.lines[name] for row in rows for one in row.scores if name in one.lines), None)


def _others(known: Sequence[KnownScore]) -> list[KnownScore]:
    """Of methods that nacre does not have."""
    return [one for one in known if not one.line]


def _legend() -> list[Line2D]:
    return [
        Line2D([], [], color=SEED, ms=5, label="a seed (an arrow: further left, or diverged)", ls="", marker="o"),
        Line2D([], [], color=MEAN, lw=2, label="mean over seeds"),
        Line2D([], [], mec=PUBLISHED, mfc="none", ls="", marker="D", label="published, on other data"),
        Line2D([], [], color=DATA, lw=6, label="data: mean to best"),
        Line2D([], [], color=picture.FAINT, ls=":", label="random actions"),
        Line2D([], [], color=picture.FAINT, ls="--", label="single-task SAC, its best checkpoint"),
    ]
