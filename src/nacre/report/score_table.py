"""Scores of offline methods as text: every run by every protocol in a .csv, means over seeds in a .md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isnan

import numpy as np

from nacre.report.known import KnownScore
from nacre.report.scored_run import Scored
from nacre.report.scores import Row, lines_of, number, published_of
from nacre.runs import tables

LINES = ("random", "single-task SAC", "data mean", "data best")
COLUMNS = (
    "family", "method", "algorithm", "data", "protocol", "seed", "grad_steps", "context_transitions", "score",
    "normalised_score", *(name.replace(" ", "_") for name in LINES),
)  # fmt: skip


def as_csv(scores: Sequence[Scored]) -> str:
    """A row for every run and protocol; numbers to the last bit, '' for what is not known, nan for what diverged."""
    rows = [
        [
            one.line.family, one.line.name, one.line.algorithm, one.data, one.protocol, one.seed, one.grad_steps,
            one.context_transitions, one.score, "" if one.normalised is None else one.normalised,
            *(one.lines.get(name, "") for name in LINES),
        ]
        for one in scores
    ]  # fmt: skip
    return tables.as_text([COLUMNS, *rows])


def as_markdown(title: str, families: Mapping[str, Sequence[Row]], known: Mapping[str, Sequence[KnownScore]]) -> str:
    """A table for each family."""
    parts = [
        f"# {title}",
        "Mean return of the scored episode over test tasks and trials. Normalised: 0 is random actions, 1 "
        "soft actor-critic that trained on the task alone (its best checkpoint), averaged over tasks. Context: "
        "transitions of the task that the agent had seen before the scored episode.",
    ]
    for family, rows in families.items():
        parts += [f"## {family}", "\n".join(_table(rows, known[family]))]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Row], known: Sequence[KnownScore]) -> Iterator[str]:
    yield "| method | protocol | context | return | by seed | normalised | updates | published |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        context = "" if isnan(row.mean) else f"{np.mean([one.context_transitions for one in row.scores]):.0f}"
        by_seed = ", ".join(f"{one.seed}: {number(one.score)}" for one in row.scores)
        updates = " to ".join(f"{steps:,}" for steps in sorted({one.grad_steps for one in row.scores}))
        published = "; ".join(f"{number(one.score)} ({one.source})" for one in published_of(row, known))
        yield _cells(
            row.name, row.protocol, context, number(row.mean), by_seed, _share(row.normalised), updates,
            published,
        )  # fmt: skip
    for name, value in lines_of(rows).items():
        yield _cells(name, "", "", number(value), "", {"random actions": "0", "single-task SAC": "1"}.get(name, ""))
    for one in known:
        if not one.line:
            yield _cells(f"{one.method} ({one.source})", one.protocol, "", "", "", "", "", number(one.score))


def _cells(*cells: str) -> str:
    return "| " + " | ".join([*cells, *[""] * (8 - len(cells))]) + " |"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
