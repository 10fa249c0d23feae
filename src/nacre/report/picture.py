"""The look that nacre's pictures share, and how one gets to disk: whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MultipleLocator, NullFormatter

from nacre.errors import NacreError
from nacre.runs.experiment import Experiment
from nacre.runs.outputs import check_output

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288", "#882255")
"""For things of different kinds, told apart by colour-blind readers as well (after Okabe and Ito)."""
INK, FAINT = "#262626", "#8a8a8a"
"""Of text and of what stands in the background."""

_STYLE: dict[Any, Any] = {
    "font.size": 9.5, "text.color": INK, "axes.labelcolor": INK, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.edgecolor": "#bfbfbf", "xtick.color": "#bfbfbf", "ytick.color": "#bfbfbf", "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#ececec", "grid.linewidth": 0.8, "axes.titlesize": 10.5, "axes.titlelocation": "left",
    "legend.frameon": False, "legend.fontsize": 8.5, "lines.solid_capstyle": "round", "lines.linewidth": 1.5,
    "figure.dpi": 100, "savefig.dpi": 180, "figure.facecolor": "white", "svg.hashsalt": "nacre", "pdf.fonttype": 42,
}  # fmt: skip


def check_path(out: Path) -> None:
    """Raises NacreError unless `out` ends like a picture, and is no file of a run: to be asked before the work."""
    check_output(out)
    if out.suffix.lower() not in SUFFIXES:
        raise NacreError(f"{out} does not end like a picture; write a name that ends in {', '.join(SUFFIXES)}.")
    if out.is_dir():
        raise NacreError(f"{out} is a directory; write the name of the picture to make.")


@contextmanager
def drawing(out: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure (inches) to draw on in nacre's look; on leaving, it is saved at `out`, replacing a file of that name.

    Parent directories are made. Where anything fails, nothing is left at `out` that was not there before.
    """
    check_path(out)
    with figure(width, height) as drawn:
        yield drawn
        _save(drawn, out)


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """A figure (inches) to draw on in nacre's look, as long as the block lasts."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        drawn = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
        FigureCanvasAgg(drawn)
        yield drawn


def _save(figure: Figure, out: Path) -> None:
    # Without a date in it, the same numbers give the same file.
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(out.suffix.lower())
    with written_whole(out) as draft:
        figure.savefig(draft, metadata=undated)


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A draft to write, of the same suffix, which takes the place of `out` when the block ends without an error.

    Parent directories are made. Raises NacreError where the file cannot be written, or is one of a run's own.
    """
    check_output(out)
    draft = out.with_name(f".{out.stem}-{os.getpid()}{out.suffix}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        os.replace(draft, out)
    except OSError as error:
        raise NacreError(f"cannot write {out} ({error.strerror or error}); choose another place.") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def write_title(figure: Figure, experiment: Experiment, shown: str) -> None:
    """A title over all panels: the run, and what is shown of it."""
    run = f"{experiment.family.name}, {experiment.algorithm_name} ({experiment.preset}), seed {experiment.options.seed}"
    figure.suptitle(run + shown, x=0.01, ha="left", fontsize=11.5, fontweight="bold")


def legend_above(axes: Axes, handles: Sequence[Any], columns: int = 1, title: str | None = None) -> None:
    """A legend over the panel, where it covers no data."""
    axes.legend(
        handles=handles, ncols=columns, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.3, borderpad=0.0,
        alignment="left", columnspacing=1.5, handlelength=1.6, title=title,
        title_fontproperties={"weight": "bold", "size": 11},
    )  # fmt: skip


def steps_text(steps: float) -> str:
    """A number of environment or gradient steps in few characters: 820, 21k, 1.25M."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if steps >= unit:
            return f"{steps / unit:.3g}{letter}"
    return f"{steps:.3g}"


def label_steps(axes: Axes, what: str = "environment steps") -> None:
    """Labels the x axis as steps of this kind."""
    axes.xaxis.set_major_formatter(lambda value, position: steps_text(value))
    axes.set_xlabel(what)


def label_duration(axes: Axes) -> None:
    """Labels an x axis in seconds as minutes or, from two hours on, as hours."""
    unit, word = (3600, "hours") if axes.get_xlim()[1] > 2 * 3600 else (60, "minutes")
    if axes.get_xscale() == "log":
        first, last = (x / unit for x in axes.get_xlim())
        marks = (factor * 10.0**power for power in range(-5, 6) for factor in (1, 2, 5))
        axes.set_xticks([mark * unit for mark in marks if first <= mark <= last])
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MultipleLocator(unit * _step(axes.get_xlim()[1] / unit)))
    axes.xaxis.set_major_formatter(lambda value, position: f"{value / unit:.3g}")
    axes.set_xlabel(f"{word} since the run began")


def _step(length: float) -> float:
    """A round distance between at most eight marks over this length."""
    power = 10 ** np.floor(np.log10(length / 8))
    return float(next(power * factor for factor in (1, 2, 5, 10) if power * factor * 8 >= length))


def label_episodes(axes: Axes, num_episodes: int) -> None:
    """Labels the x axis as the episodes 1 to `num_episodes` of a trial."""
    step = next(step for step in (1, 5, 10, 50, num_episodes) if num_episodes <= 10 * step)
    axes.set_xticks(sorted({1, *range(step, num_episodes + 1, step)}))
    axes.set_xlim(0.5, num_episodes + 0.5)
    axes.set_xlabel("episode of the trial")
