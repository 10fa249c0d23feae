"""Published figures by name: the steps that each takes at a chosen scale, done one after another, and its picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from nacre.errors import unknown
from nacre.report.offline_figures import OFFLINE_FIGURES
from nacre.report.paper_figures import PAPER_FIGURES
from nacre.report.steps import Step


class PublishedFigure(Protocol):
    """A figure or table that somebody has published."""

    @property
    def title(self) -> str:
        """What it is about."""

    @property
    def finding(self) -> str:
        """What the publication says that it shows."""

    def steps(self, scale: str, seeds: Sequence[int], folder: Path) -> Sequence[Step]:
        """All steps, in the order in which they are done; what they make is below `folder`."""

    def draw(self, done: Sequence[Any], picture: Path) -> None:
        """Draws what these first of its steps have come to, if anything."""


FIGURES: dict[str, PublishedFigure] = {**PAPER_FIGURES, **OFFLINE_FIGURES}
SCALES = ("smoke", "short", "paper")


def planned(figure: str, scale: str, seeds: Sequence[int], out: Path) -> Sequence[Step]:
    """The steps of a figure."""
    if figure not in FIGURES:
        raise unknown("figure", figure, FIGURES)
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    return FIGURES[figure].steps(scale, seeds, out / figure / scale)


def run(figure: str, scale: str, seeds: Sequence[int], out: Path, time_limit: float | None = None) -> str | None:
    """Does what is left of a figure's steps, and draws it (`picture_of`) after each.

    `time_limit` in minutes, for everything. Returns None when all steps are done; else what stopped them: the same call
    goes on.
    """
    deadline = None if time_limit is None else time.monotonic() + 60 * time_limit
    steps = planned(figure, scale, seeds, out)
    for number, step in enumerate(steps, 1):
        was_done = step.is_done()
        if not was_done:
            stopped_by = step.work(deadline)
            if stopped_by is not None:
                return stopped_by
        if not was_done or number == len(steps):
            FIGURES[figure].draw(steps[:number], picture_of(figure, scale, out))
    return None


def picture_of(figure: str, scale: str, out: Path) -> Path:
    """Where the picture of a figure goes."""
    return out / figure / f"{scale}.png"
