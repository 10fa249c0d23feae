"""A chart of a page: its numbers, which page.js draws in the browser, and what it shows in words."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

COLOURS = ("#0072B2", "#C24E00", "#007A58", "#A3478A", "#8A6500", "#332288", "#882255", "#3D7A99")
"""Of methods: a contrast of 3 to white at least, told apart by colour-blind readers; with `DASHES`, by others too."""
DASHES = ("", "9 3", "3 2", "9 3 2 3")
GREY = "#6b6b6b"
PALETTES = {"even": ("viridis", 0.0, 0.95), "cyclic": ("twilight", 0.0, 1.0)}
"""Equal steps of a number look equally large, to colour-blind readers as well. Angles end where they begin."""


class Axis(NamedTuple):
    """An axis; a range that is not given is that of what is shown."""

    label: str
    scale: Literal["linear", "log", "log1p"] = "linear"
    low: float | None = None
    high: float | None = None
    unit: Literal["", "steps"] = ""
    whole: bool = False  # ticks at whole numbers only


class Line(NamedTuple):
    """A line, with a band about it where low and high are given. Numbers that are not finite are gaps."""

    label: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    colour: str
    method: str = ""  # which box of the legend hides it; "": none
    low: Sequence[float] | np.ndarray | None = None
    high: Sequence[float] | np.ndarray | None = None
    dash: str = ""
    width: float = 2.0
    opacity: float = 1.0
    smooth: bool = False  # whether the page's smoothing applies
    marks: bool = False


class Level(NamedTuple):
    """A horizontal line with its name."""

    label: str
    y: float
    colour: str = GREY
    method: str = ""


class Dots(NamedTuple):
    """Dots, each with a label; without a colour, they are coloured by the view's parameter."""

    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    labels: Sequence[str]
    colour: str = ""
    start: Sequence[float] | np.ndarray | None = None  # where a vertical line to the dot begins
    hollow: bool = False


class Disc(NamedTuple):
    """A place in the plane, with its radius."""

    x: float
    y: float
    radius: float


class Parameter(NamedTuple):
    """A number of every task, to colour and order tasks by."""

    name: str
    values: np.ndarray  # [task]
    cyclic: bool = False  # an angle, in [0, 2 pi)


class View(NamedTuple):
    """What is drawn; of a chart with several views, the one that the page's `across` names."""

    x: Axis
    y: Axis
    name: str = ""
    lines: Sequence[Line] = ()
    levels: Sequence[Level] = ()
    dots: Sequence[Dots] = ()
    discs: Sequence[Disc] = ()
    parameters: Sequence[Parameter] = ()
    across_parameter: bool = False  # the parameter is the x axis of all dots


class Chart(NamedTuple):
    """A chart with its title, a note below it, and what it shows in words (`alt`) for those who do not see it."""

    title: str
    alt: str
    views: Sequence[View]
    note: str = ""
    height: int = 240
    equal: bool = False  # one unit is as long across as upwards


def figure(chart: Chart, select: str = "") -> str:
    """The chart as HTML. `select`: the id of the list from which its parameter is chosen."""
    data = json.dumps(_plain(chart._replace(note="")), separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    title, note, alt = (html.escape(text, quote=True) for text in (chart.title, chart.note, chart.alt))
    return (
        f"<figure data-chart data-parameters='{html.escape(select, quote=True)}'>"
        f"<figcaption><b>{title}</b>{'. ' if note else ''}{note}</figcaption>"
        f"<div class='chart' tabindex='0' role='group' aria-roledescription='chart' aria-label='{title}'></div>"
        f"<output aria-live='polite'></output><noscript>{alt}</noscript>"
        f"<script type='application/json'>{data}</script></figure>"
    )


def palettes() -> str:
    """The scales of colours, as JSON: name -> colours at equal distances."""
    found = {}
    for name, (source, first, last) in PALETTES.items():
        colours = matplotlib.colormaps[source](np.linspace(first, last, 25))
        found[name] = [to_hex(colour) for colour in colours]
    return json.dumps(found, separators=(",", ":"))


def select(name: str, label: str, options: dict[str, str]) -> str:
    """A list to choose from: value -> what it says. The first is chosen."""
    items = "".join(
        f"<option value='{html.escape(value, quote=True)}'>{html.escape(text)}</option>"
        for value, text in options.items()
    )
    return f"<label>{html.escape(label)} <select id='{html.escape(name, quote=True)}'>{items}</select></label>"


def _plain(value: Any) -> Any:
    """The value as JSON has it: NamedTuples as objects, numbers in five digits, None for what is not finite."""
    if isinstance(value, Parameter):
        ends = (0.0, 2 * np.pi) if value.cyclic else (np.min(value.values), np.max(value.values))
        return _plain(value._asdict() | {"low": ends[0], "high": ends[1]})
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.ndarray):
        return [_plain(part) for part in value.tolist()]
    if isinstance(value, float | np.floating):
        return float(f"{value:.5g}") if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
