"""`nacre finetune`: a run continues learning online in its test tasks."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nacre.cli.parsing import Positional, parse
from nacre.presets.fine_tuning import FineTuneSettings

if TYPE_CHECKING:
    from nacre.fine_tuning.running import FineTuned


@dataclass(frozen=True)
class Command:
    """Train an offline run further, online in each test task, after gradient steps on logged transitions."""

    run: Positional[Path]
    """Run directory."""
    data: str | None = None
    """Takes the tasks and the logged transitions of this data set. Default: the data set that the run was trained on.
    """
    tasks: str = "test"
    """Which tasks the agent is trained in: 'test' or 'train'."""
    gradient_steps: int | None = None
    """Gradient steps on logged transitions before the first round. Default: as the run was configured."""
    context_transitions: int | None = None
    """How many logged transitions of a task the agent is given. Default: as the run was configured."""
    settings: FineTuneSettings = field(default_factory=FineTuneSettings)
    """Settings of the fine-tuning."""
    out: Path | None = None
    """Directory of tables and state. Fine-tuning that was stopped resumes from it. Default: RUN/finetune."""
    seed: int = 0
    """Seed of all random numbers."""
    checkpoint: str = "latest"
    """Which checkpoint is fine-tuned: 'latest', 'best' (with the highest test score in training), or its number of
    updates."""
    time_limit: float | None = None
    """Stops after this many minutes. The same command resumes it."""
    json: bool = False
    """Prints one JSON object instead of a table."""


def run(args: list[str], started: float) -> int:
    """Carries out the command line `nacre finetune ARGS`; its exit status tells of a signal that stopped it."""
    command = parse(Command, args, "nacre finetune")
    from nacre.deploy.trained_agent import load
    from nacre.fine_tuning.running import fine_tune
    from nacre.runs.stopping import exit_status

    agent = load(command.run, command.checkpoint)
    tuned = fine_tune(
        agent, command.out or command.run / "finetune", command.settings, tasks=command.tasks, data=command.data,
        gradient_steps=command.gradient_steps, context_transitions=command.context_transitions, seed=command.seed,
        time_limit=command.time_limit, tell=_tell,
    )  # fmt: skip
    if tuned.stopped_by is not None:
        return exit_status(tuned.stopped_by)
    lines = agent.lines(command.tasks, command.data)
    means = {} if lines is None else {name: float(values.mean()) for name, values in lines.named().items()}
    if command.json:
        print(json.dumps(_recorded(tuned, means)))
    else:
        _print(tuned, means)
    return 0


def _tell(line: str) -> None:
    print(f"nacre: {line}", file=sys.stderr, flush=True)


def _recorded(tuned: FineTuned, lines: dict[str, float]) -> dict[str, Any]:
    """What is printed, for programs."""
    columns = (tuned.before, tuned.adapted, tuned.after, tuned.env_steps[-1])
    names = ("before", "adapted", "fine_tuned", "env_steps")
    tasks = [
        {"task": task} | dict(zip(names, (value.item() for value in values), strict=True))
        for task, *values in zip(tuned.tasks, *columns, strict=True)
    ]
    means = {name: float(values.mean()) for name, values in zip(names, columns, strict=True)}
    numbers = {"gradient_steps": tuned.gradient_steps, "rounds": len(tuned.returns), "path": str(tuned.path)}
    return {"tasks": tasks, "mean": means, "lines": lines, **numbers}


def _print(tuned: FineTuned, lines: dict[str, float]) -> None:
    from rich.table import Column, Table

    from nacre.cli.tables import print_table, task_text
    from nacre.fine_tuning.running import gradient_steps_text

    steps, rounds = gradient_steps_text(tuned.gradient_steps), len(tuned.returns)
    names = [task_text(task) for task in tuned.tasks]
    first = Column("task", no_wrap=True, min_width=max(map(len, names)))
    table = Table(
        first, "before adaptation", f"after {steps}", f"after {rounds} rounds",
        title="mean returns of deterministic episodes",
    )  # fmt: skip
    columns = (tuned.before, tuned.adapted, tuned.after)
    for name, values in zip(names, zip(*columns, strict=True), strict=True):
        table.add_row(name, *(f"{value:.2f}" for value in values))
    table.add_section()
    table.add_row("mean", *(f"{values.mean():.2f}" for values in columns))
    for name, value in lines.items():
        table.add_row(name, "", "", f"{value:.2f}")
    print_table(table)
    collected = tuned.env_steps[-1]
    print(f"steps collected in a task: {collected.mean():,.0f}; every round: {tuned.path / 'finetune.csv'}")
