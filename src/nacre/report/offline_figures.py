"""Tables of offline meta-RL: which data sets, runs and evaluations each needs, at a chosen scale."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nacre.data import benchmarks
from nacre.report import score_picture
from nacre.report.data_step import DataStep
from nacre.report.known import known_scores
from nacre.report.picture import written_whole
from nacre.report.score_table import as_csv, as_markdown
from nacre.report.scored_run import ScoredRun
from nacre.report.scores import rows_of
from nacre.report.steps import Line, Step

ONLINE_AND_LOGGED = ("offline-own-context", "online-prior", "online-np")
ONE_STEP = ("gradient-steps:1",)
FEW_STEPS = ("gradient-steps:0", "gradient-steps:1", "gradient-steps:5")
TOLD = ("zero-shot",)
"""Protocols of the oracle. It is told the task, so earlier episodes make no difference."""
CONTEXT_METHODS = ("offline-pearl", "focal")


class Row(NamedTuple):
    """A line of a table at any scale, on the data of one family."""

    name: str
    algorithm: str
    protocols: tuple[str, ...]
    quality: str = "mixed"
    fields: Mapping[str, Any] = {}


class Scale(NamedTuple):
    """How large the runs are."""

    families: Mapping[str, int]  # to the episodes of each checkpoint in the data
    rows: Callable[[str], Sequence[Row]]  # of a family
    fields: Callable[[Row, str], dict[str, Any]]  # of a row on a family, changed from the preset
    preset: str
    repeats: int  # trials of a test task
    most_tasks: tuple[int, int] | None = None
    collection: Mapping[str, Any] = {}  # changed in how the policies of the data are trained


class OfflineTable(NamedTuple):
    """A table of scores of methods that learn from data sets of a published benchmark's tasks."""

    title: str
    finding: str  # what the publication says that it shows
    benchmark: str
    scales: Mapping[str, Scale]

    def steps(self, scale: str, seeds: Sequence[int], folder: Path) -> list[Step]:
        """Data sets before the first run that needs them; runs seed after seed, each with its evaluations."""
        chosen, steps = self.scales[scale], list[Step]()
        data = {family: self._data(scale, family, folder) for family in chosen.families}
        for seed in seeds:
            for family in chosen.families:
                if data[family] not in steps:
                    steps.append(data[family])
                steps += _runs(chosen, data[family], seed, folder)
        return steps

    def draw(self, done: Sequence[Step], picture: Path) -> None:
        """The scores as a picture, and beside it as text (.md) and as a table (.csv)."""
        scores = [score for step in done if isinstance(step, ScoredRun) for score in step.scores()]
        if not scores:
            return
        families = {family: rows_of(scores, family) for family in dict.fromkeys(one.line.family for one in scores)}
        known = {family: known_scores(self.benchmark, family) for family in families}
        texts = {".csv": as_csv(scores), ".md": as_markdown(self.title, families, known)}
        for suffix, text in texts.items():
            with written_whole(picture.with_suffix(suffix)) as draft:
                draft.write_text(text)
        score_picture.draw(self.title, families, known, picture)

    def _data(self, scale: str, family: str, folder: Path) -> DataStep:
        chosen, small = self.scales[scale], "smoke-" if scale == "smoke" else ""
        qualities = dict.fromkeys(row.quality for row in chosen.rows(family))
        ids = {quality: f"nacre/{family}/{self.benchmark}-{small}{quality}-v0" for quality in qualities}
        work = (folder if small else folder.with_name("data")) / "collected" / family  # short and paper share data
        entry = benchmarks.find(self.benchmark, family)
        return DataStep(entry, ids, chosen.families[family], work, chosen.most_tasks, chosen.collection)


def _runs(scale: Scale, data: DataStep, seed: int, folder: Path) -> Iterator[ScoredRun]:
    family = data.entry.family
    for row in scale.rows(family):
        line = Line(row.name, row.algorithm, family, scale.fields(row, family) | dict(row.fields))
        path = folder / family / row.name / f"seed-{seed}"
        yield ScoredRun(line, scale.preset, seed, path, row.protocols, scale.repeats, data, row.quality)


# ----------------------------------------------------------------------------------------------------------------------
# Rows


def _csro_rows(family: str) -> list[Row]:
    return [
        *(Row(name, name, ONLINE_AND_LOGGED) for name in CONTEXT_METHODS),
        Row("macaw", "macaw", ONE_STEP),
        Row("bc", "bc", ONE_STEP),
        Row("oracle", "oracle", TOLD),
    ]


def _methods() -> list[Row]:
    return [
        Row("macaw", "macaw", FEW_STEPS),
        Row("multitask-awr", "multitask-awr", (*FEW_STEPS, "gradient-steps:20")),
        Row("bc", "bc", FEW_STEPS),
    ]


def _qualities(heads: Sequence[bool]) -> Iterator[Row]:
    """MACAW on data of each other quality, with its advantage head and without."""
    for quality in ("random", "medium", "expert"):
        for head in heads:
            fields = {} if head else {"advantage_head": False}
            yield Row(f"{'macaw' if head else 'no-head'}-{quality}-data", "macaw", ONE_STEP, quality, fields)


def _ablations() -> list[Row]:
    changed: dict[str, dict[str, Any]] = {
        "no-head": {"advantage_head": False},
        "no-transform": {"weight_transform": "none"},
        "no-transform-equal-size": {"weight_transform": "none-equal-size"},
    }
    return [Row(name, "macaw", ONE_STEP, fields=fields) for name, fields in changed.items()]


def _macaw_smoke(family: str) -> list[Row]:
    return [*_methods(), *_ablations(), Row("macaw-random-data", "macaw", ONE_STEP, "random")]


def _macaw_short(family: str) -> list[Row]:
    """Without layers as wide as there are parameters in all: a hundred times the work."""
    rows = [*_methods(), *_qualities([True])]
    return rows if family == "cheetah-dir" else [*rows, *_ablations()[:2]]


def _macaw_paper(family: str) -> list[Row]:
    rows = [*_methods(), *_qualities([True, False]), *_ablations()]
    if family == "cheetah-dir":  # it has two tasks
        return rows
    numbers = (20, 10, 5, 3)
    fewer = [Row(f"macaw-{n}-tasks", "macaw", ONE_STEP, fields={"num_train_tasks": n}) for n in numbers]
    more = Row("macaw-5-steps", "macaw", ("gradient-steps:5",), fields={"num_inner_steps": 5})
    return [*rows, *fewer, more]


# ----------------------------------------------------------------------------------------------------------------------
# Sizes


def _paper_fields(row: Row, family: str) -> dict[str, Any]:
    """CSRO's number of updates, for the methods that it compares."""
    if row.algorithm in CONTEXT_METHODS:
        return {"iterations": 65 if family == "point-robot-half-circle" else 105}
    return {}


def _no_fields(row: Row, family: str) -> dict[str, Any]:
    return {}


def _smoke_fields(row: Row, family: str) -> dict[str, Any]:
    return {"iterations": 1}


_TINY = dict(num_steps=240, num_random_steps=60, num_checkpoints=2, hidden_dim=8, num_hidden_layers=1, batch_size=16)
_CSRO_DATA = {"point-robot-half-circle": 50, "cheetah-vel": 50}
_MACAW_DATA = {"cheetah-dir": 50, "cheetah-vel": 20}
_CSRO_SCALES = {
    "smoke": Scale({"point-robot-half-circle": 2}, _csro_rows, _smoke_fields, "smoke", 1, (2, 1), _TINY),
    "short": Scale(_CSRO_DATA, _csro_rows, _no_fields, "fast", 4),
    "paper": Scale(_CSRO_DATA | {"walker-params": 50}, _csro_rows, _paper_fields, "paper", 4),
}
_MACAW_SCALES = {
    "smoke": Scale(
        {"cheetah-dir": 2}, _macaw_smoke, _smoke_fields, "smoke", 1, None,
        _TINY | dict(num_steps=800, num_random_steps=400),
    ),
    "short": Scale(_MACAW_DATA, _macaw_short, _no_fields, "fast", 8),
    "paper": Scale(_MACAW_DATA, _macaw_paper, _no_fields, "paper", 8),
}  # fmt: skip
OFFLINE_FIGURES = {
    "offline": OfflineTable(
        "Offline meta-RL on the tasks of CSRO",
        "Given logged transitions methods find the task; collecting their own they lose much of it.",
        "csro",
        _CSRO_SCALES,
    ),
    "macaw": OfflineTable(
        "MACAW by gradient steps, quality of data and its parts",
        "One gradient step suffices; the advantage head matters on poor data; without weight transform it is worse.",
        "macaw",
        _MACAW_SCALES,
    ),
}
