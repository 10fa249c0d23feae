"""Performance profiles (Agarwal et al. 2021): which share of runs and tasks is above a score, for every score."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from nacre.report import picture
from nacre.report.comparison import Comparison, Row
from nacre.report.short_names import short_names
from nacre.report.statistics import share_above

LEVELS = 201
ACROSS = 3
"""Panels beside each other."""
LABEL_WIDTH = 60


class _Line(NamedTuple):
    """A method in a panel."""

    name: str
    label: str
    families: list[np.ndarray]  # [seed, task] of each family


class _Panel(NamedTuple):
    """A family, or all of them."""

    title: str
    scored: str
    lines: list[_Line]


def draw(comparison: Comparison, out: Path) -> None:
    """Draws a panel for each family (.png, .svg or .pdf): the share of (seed, test task) whose score is above x.

    Scores are normalised where all methods of the family have a scale, else they are returns. Where all families are
    normalised, the first panel is the mean over them, of the methods that all have. Bands: 95 % bootstrap intervals
    over seeds, where there are several. Raises NacreError for another kind of file.
    """
    picture.check_path(out)
    panels = panels_of(comparison)
    names = dict.fromkeys(line.name for panel in panels for line in panel.lines)
    colours = {name: picture.COLOURS[number % len(picture.COLOURS)] for number, name in enumerate(names)}
    across, down = min(len(panels), ACROSS), -(-len(panels) // ACROSS)
    with picture.drawing(out, 5.6 * across, 3.9 * down) as figure:
        for number, panel in enumerate(panels, start=1):
            _draw(figure.add_subplot(down, across, number), panel, colours)


def panels_of(comparison: Comparison) -> list[_Panel]:
    """What is drawn."""
    rows = comparison.rows
    names = short_names([(row.family, row.method) for row in rows])
    families = {
        family: [row for row in rows if row.family == family] for family in dict.fromkeys(r.family for r in rows)
    }
    panels = [_of_family(family, group, names) for family, group in families.items()]
    if len(panels) == 1 or any(row.normalised_scores is None for row in rows):
        return panels
    common = set.intersection(*({line.name for line in panel.lines} for panel in panels))
    lines = [
        _Line(name, name, [line.families[0] for panel in panels for line in panel.lines if line.name == name])
        for name in dict.fromkeys(line.name for panel in panels for line in panel.lines)
        if name in common
    ]
    return [_Panel("all families", "normalised score", lines), *panels]


def _of_family(family: str, rows: Sequence[Row], names: Mapping[tuple[str, str], str]) -> _Panel:
    normalised = [row.normalised_scores for row in rows if row.normalised_scores is not None]
    on_scale = len(normalised) == len(rows)
    matrices = normalised if on_scale else [row.scores for row in rows]
    lines = [_Line(names[family, row.method], row.method, [scores]) for row, scores in zip(rows, matrices, strict=True)]
    return _Panel(family, "normalised score" if on_scale else "return of the scored episode", lines)


def _draw(axes: Axes, panel: _Panel, colours: Mapping[str, str]) -> None:
    every = [scores for line in panel.lines for scores in line.families]
    low, high = min(one.min() for one in every), max(one.max() for one in every)
    margin = 0.02 * (high - low) or 0.5
    levels = np.linspace(low - margin, high + margin, LEVELS)
    handles = []
    for name, label, families in panel.lines:
        share, below, above = share_above(families, levels)
        seeds = sorted({len(scores) for scores in families})
        several = f"{' to '.join(map(str, seeds))} seed{'s' * (seeds[-1] > 1)}"
        text = textwrap.fill(f"{label}, {several}", LABEL_WIDTH, break_on_hyphens=False)
        handles += axes.plot(levels, share, color=colours[name], lw=1.8, label=text)
        if np.isfinite(below).all():
            axes.fill_between(levels, below, above, color=colours[name], alpha=0.15, lw=0)
    picture.legend_above(axes, handles, title=panel.title)
    axes.set(ylim=(-0.02, 1.02), xlim=(levels[0], levels[-1]), ylabel="share of seeds and tasks above it")
    axes.set_xlabel(panel.scored)
