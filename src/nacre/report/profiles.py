"""Performance profiles (Agarwal et al. 2021): which share of runs and tasks is above a score, for every score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from nacre.errors import NacreError
from nacre.report import picture
from nacre.report.comparison import Comparison, Row
from nacre.report.statistics import share_above

LEVELS = 201
ACROSS = 3
"""Panels beside each other."""


def draw(comparison: Comparison, out: Path) -> None:
    """Draws a panel for each family (.png, .svg or .pdf): the share of (seed, test task) whose score is above x.

    Scores are normalised where all methods of the family have a scale, else they are returns. Bands: 95 % bootstrap
    intervals over seeds, where there are several. Raises NacreError for another kind of file.
    """
    picture.check_path(out)
    families = list(dict.fromkeys(row.family for row in comparison.rows))
    if not families:
        raise NacreError("there is nothing to draw: no run was compared; name runs that were evaluated.")
    colours = colours_of([row.method for row in comparison.rows])
    across, down = min(len(families), ACROSS), -(-len(families) // ACROSS)
    with picture.drawing(out, 5.6 * across, 3.9 * down) as figure:
        panels = figure.subplots(down, across, squeeze=False).flatten()
        for axes, family in zip(panels, families, strict=False):
            _draw_family(axes, family, [row for row in comparison.rows if row.family == family], colours)
        for axes in panels[len(families) :]:
            axes.set_visible(False)


def colours_of(methods: Sequence[str]) -> dict[str, str]:
    """A colour for each method, the same in every panel."""
    return {
        method: picture.COLOURS[number % len(picture.COLOURS)] for number, method in enumerate(dict.fromkeys(methods))
    }


def _draw_family(axes: Axes, family: str, rows: Sequence[Row], colours: dict[str, str]) -> None:
    normalised = [row.normalised_scores for row in rows if row.normalised_scores is not None]
    on_scale = len(normalised) == len(rows)
    matrices = normalised if on_scale else [row.scores for row in rows]
    low, high = min(one.min() for one in matrices), max(one.max() for one in matrices)
    margin = 0.02 * (high - low) or 0.5
    levels = np.linspace(low - margin, high + margin, LEVELS)
    handles = []
    for row, scores in zip(rows, matrices, strict=True):
        share, below, above = share_above(scores, levels)
        label = f"{row.method}, {len(scores)} seed{'s' * (len(scores) > 1)}"
        handles += axes.plot(levels, share, color=colours[row.method], lw=1.8, label=label)
        if np.isfinite(below).all():
            axes.fill_between(levels, below, above, color=colours[row.method], alpha=0.15, lw=0)
    picture.legend_above(axes, handles, title=family)
    axes.set(ylim=(-0.02, 1.02), xlim=(levels[0], levels[-1]), ylabel="share of seeds and tasks above it")
    axes.set_xlabel("normalised score" if on_scale else "return of the scored episode")
