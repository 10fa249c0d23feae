"""`nacre evaluate --change-at`: how commands show trials whose task changes."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from nacre.cli.tables import print_table, task_text
from nacre.deploy.changing_tasks import AGENT, ChangeReport, Detected, mean_of, recorded
from nacre.runs import tables


def show(report: ChangeReport, title: str, *, as_json: bool, csv_file: Path | None) -> None:
    """Prints the report as a table, or as one JSON object, and writes the rows of its CSV."""
    if csv_file is not None:
        from nacre.report.picture import written_whole

        with written_whole(csv_file) as draft:
            draft.write_text(as_csv(report))
        print(f"wrote {csv_file}", file=sys.stderr)
    if as_json:
        print(json.dumps(recorded(report)))
        return
    for table in _tables(report, title):
        print_table(table)
    window, at = report.window, report.at
    print(
        f"the task changes after step {at} of episode {report.trials.episodes}; returns of {window} steps each: before "
        f"the change, at it (steps {at + 1} to {at + window}), after it (the last of the episode)"
    )
    if report.detected is not None:
        print(_detected_text(report.detected))


def _detected_text(detected: Detected) -> str:
    median = f", {statistics.median(detected.delays):g} steps later (median)" if detected.delays else ""
    return (
        f"the detector found {detected.found:.0%} of changes{median}; it fired before the change in "
        f"{detected.early:.0%} of trials, and in {detected.false:.0%} of trials whose task stayed (it was set for "
        f"{detected.wanted:.0%} of those in train tasks)"
    )


def as_csv(report: ChangeReport) -> str:
    """A row an agent, repeat and task."""
    rows = [row | {"task": _exact(row["task"]), "then": _exact(row["then"])} for row in report.rows()]
    return tables.as_text([list(rows[0]), *(list(row.values()) for row in rows)])


def _exact(task: dict[str, Any]) -> str:
    """A task as `nacre adapt --task` takes it."""
    values = {name: value if isinstance(value, list) else [value] for name, value in task.items()}
    return " ".join(f"{name}={','.join(map(repr, numbers))}" for name, numbers in values.items())


def _tables(report: ChangeReport, title: str) -> list[Table]:
    """What the agent earned on every pair of tasks, and the means of all agents."""
    rows = report.rows()
    numbers = [name for name in rows[0] if name not in ("agent", "repeat", "task", "then")]
    heads = [name.replace("_", " ") for name in numbers]
    pairs = Table("task", "then", *heads, title=title)
    for row in rows:
        if row["agent"] == AGENT:
            pairs.add_row(task_text(row["task"]), task_text(row["then"]), *(f"{row[name]:.2f}" for name in numbers))
    means = Table("mean of", *heads)
    for name in report.agents:
        means.add_row(name, *(f"{mean_of(rows, name, number):.2f}" for number in numbers))
    return [pairs, means]
