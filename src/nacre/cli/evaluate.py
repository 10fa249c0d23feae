"""`nacre evaluate`: a trained agent's returns on many tasks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nacre.cli.parsing import Positional, parse
from nacre.cli.trial_flags import SimulatedTrialFlags
from nacre.errors import NacreError

if TYPE_CHECKING:
    from nacre.deploy.trained_agent import TrainedAgent


@dataclass(frozen=True, kw_only=True)
class Command(SimulatedTrialFlags):
    """Test a trained agent in trials on many tasks: the return of every episode."""

    run: Positional[Path]
    """Run directory."""
    data: str | None = None
    """Tests the agent on the tasks of this data set, and gives it logged transitions from it. Default: the run's tasks,
    and the data set that it was trained on, if any."""
    tasks: str = "test"
    """Which tasks the agent is tested on: 'test', 'train', 'ood' (outside the distribution), or 'fresh:N' for N new
    tasks."""
    repeats: int | None = None
    """Trials of each task. Default: as the run was configured."""
    seed: int = 0
    """Seed of the trials and of fresh tasks."""
    checkpoint: str = "latest"
    """Which checkpoint acts: 'latest', 'best' (with the highest test score in training), or its number of updates."""
    change_at: int | None = None
    """Changes every task to another one after this many steps of the scored episode (docs/changing-tasks.md)."""
    change_window: int | None = None
    """Number of steps in each of the returns before, at and after the change. Default: half of the steps after the
    change, or all steps before it if these are fewer."""
    episodes_after: int = 0
    """Plays this many further episodes in the new task, after the episode in which the task changes."""
    oracle: Path | None = None
    """Also evaluates this run of the oracle on the same family when the task changes, for comparison."""
    detect: float | None = None
    """Also evaluates an agent that begins anew when it detects that the task has changed (PEARL). The number is the
    share of trials in train tasks that may raise a false alarm, such as 0.1."""
    beside: tuple[Path, ...] = ()
    """Adds a line to the table for each of these runs, such as runs of behaviour cloning and of the oracle. Each run is
    tested on the same tasks, as it was configured. It has a normalised score where the agent has one."""
    csv: Path | None = None
    """Writes a row for each trial to this file, when the task changes."""
    json: bool = False
    """Prints one JSON object instead of a table."""


def run(args: list[str], started: float) -> None:
    """Carries out the command line `nacre evaluate ARGS`."""
    command = parse(Command, args, "nacre evaluate")
    import numpy as np
    from rich.table import Column, Table

    from nacre.cli.tables import print_table, task_text
    from nacre.deploy.records import recorded
    from nacre.deploy.trained_agent import load
    from nacre.runs.outputs import check_output
    from nacre.simulation.rollout import score, score_success

    _check_change(command)
    if command.csv is not None:
        check_output(command.csv)
    agent = load(command.run, command.checkpoint)
    if command.change_at is not None:
        _evaluate_change(command, agent)
        return
    trials = command.options()
    evaluation, tasks = agent.evaluation(
        command.tasks, command.episodes, command.repeats, command.seed, data=command.data, **trials
    )
    returns, success, seen = evaluation
    lines = agent.lines(command.tasks, command.data, beside=command.beside, repeats=command.repeats, seed=command.seed)
    trials_were = agent.trials.changed(command.episodes, **trials)
    normalised = [] if lines is None else lines.normalised(returns[:, :, -1].mean(axis=0))
    known = [value for value in normalised if value is not None]
    if command.json:
        print(json.dumps(recorded(evaluation, tasks, trials_were, lines)))
        return
    shown = np.unique(np.linspace(0, returns.shape[2] - 1, 5).astype(int))  # as many as fit a line; --json has all
    names = [task_text(task) for task in tasks]
    first = Column("task", no_wrap=True, min_width=max(map(len, names)))
    table = Table(first, *(f"episode {i + 1}" for i in shown), title=f"returns, {command.tasks} tasks")
    for name, values in zip(names, returns.mean(axis=0)[:, shown], strict=True):
        table.add_row(name, *(f"{value:.2f}" for value in values))
    table.add_section()
    table.add_row("mean", *(f"{value:.2f}" for value in returns.mean(axis=(0, 1))[shown]))
    for name, values in ({} if lines is None else lines.named()).items():
        table.add_row(name, *[""] * (len(shown) - 1), f"{values.mean():.2f}")
    print_table(table)
    print(f"protocol {trials_were.protocol}: {_seen_text(seen)} of a task seen before the scored episode")
    print(f"score (mean return of episode {returns.shape[2]}): {score(returns):.3f}")
    if known:
        left_out = "" if len(known) == len(normalised) else f", over {len(known)} of {len(normalised)} tasks"
        reference = "" if lines is None else lines.reference_name
        print(f"normalised (random actions 0, {reference} 1{left_out}): {np.mean(known):.3f}")
        for name, value in ({} if lines is None else lines.normalised_means()).items():
            print(f"    {name}: {value:.3f}")
    if success is not None:
        print(f"solved in episode {returns.shape[2]}: {score_success(success):.1%} of trials")


def _check_change(command: Command) -> None:
    """Raises NacreError where flags do not go together."""
    of_change = {
        "--change-window": command.change_window, "--oracle": command.oracle, "--csv": command.csv,
        "--detect": command.detect,
        "--episodes-after": command.episodes_after or None,
    }  # fmt: skip
    given = [flag for flag, value in of_change.items() if value is not None]
    if command.change_at is None and given:
        raise NacreError(f"{given[0]} is for a task that changes; set --change-at as well.")
    if command.change_at is not None and command.beside:
        raise NacreError("--beside is for tasks that stay; leave it out, or --change-at.")
    if command.change_at is not None and command.data is not None:
        raise NacreError("tasks that change are the run's own; leave out --data, or --change-at.")


def _evaluate_change(command: Command, agent: TrainedAgent) -> None:
    from nacre.cli.changing import show
    from nacre.deploy.changing_tasks import evaluate_change
    from nacre.deploy.trained_agent import load

    assert command.change_at is not None
    report = evaluate_change(
        agent, command.change_at, command.tasks, window=command.change_window, episodes_after=command.episodes_after,
        oracle=None if command.oracle is None else load(command.oracle), episodes=command.episodes,
        repeats=command.repeats, seed=command.seed, detect=command.detect, **command.options(),
    )  # fmt: skip
    show(report, f"returns, {command.tasks} tasks that change", as_json=command.json, csv_file=command.csv)


def _seen_text(seen: Any) -> str:
    """The numbers of transitions in a sentence."""
    least, most = int(seen.min()), int(seen.max())
    return f"{least} transitions" if least == most else f"{least} to {most} transitions"
