"""`nacre evaluate`: a trained agent's returns on many tasks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from nacre.cli.parsing import Positional, parse


@dataclass(frozen=True)
class Command:
    """Put a trained agent through trials on tasks: the return of every episode."""

    run: Positional[Path]
    """Run directory."""
    episodes: int | None = None
    """Episodes of a trial, the last one scored; as the run was configured unless given."""
    exploration_episodes: int | None = None
    """Episodes of a trial that act on the prior, of methods that have such (PEARL); as configured unless given."""
    tasks: str = "test"
    """'test', 'train', 'ood' for tasks outside the distribution, or 'fresh:N' for N new ones."""
    repeats: int | None = None
    """Trials per task; as the run was configured unless given."""
    seed: int = 0
    """Seed of the trials and of fresh tasks."""
    checkpoint: str = "latest"
    """Which checkpoint: 'latest', 'best' (by the test score that the run had at it), or its number of updates."""
    json: bool = False
    """Print one JSON object instead of a table."""


def run(args: list[str], started: float) -> None:
    """Carries out the command line `nacre evaluate ARGS`."""
    command = parse(Command, args, "nacre evaluate")
    import numpy as np
    from rich.table import Column, Table

    from nacre.cli.tables import print_table, task_text
    from nacre.deploy.trained_agent import load
    from nacre.simulation.rollout import score, score_success

    agent = load(command.run, command.checkpoint)
    exploring = command.exploration_episodes
    (returns, success, _), tasks = agent.evaluation(
        command.tasks, command.episodes, command.repeats, command.seed, exploration_episodes=exploring
    )
    if command.json:
        data = {
            "returns": returns.tolist(),
            "tasks": tasks,
            "scored_episode": returns.shape[2],
            "exploration_episodes": agent.trials.exploration_episodes if exploring is None else exploring,
            "score": score(returns),
        }
        if success is not None:
            data |= {"success": success.tolist(), "success_rate": score_success(success)}
        print(json.dumps(data))
        return
    shown = np.unique(np.linspace(0, returns.shape[2] - 1, 5).astype(int))  # as many as fit a line; --json has all
    names = [task_text(task) for task in tasks]
    first = Column("task", no_wrap=True, min_width=max(map(len, names)))
    table = Table(first, *(f"episode {i + 1}" for i in shown), title=f"returns, {command.tasks} tasks")
    for name, values in zip(names, returns.mean(axis=0)[:, shown], strict=True):
        table.add_row(name, *(f"{value:.2f}" for value in values))
    table.add_section()
    table.add_row("mean", *(f"{value:.2f}" for value in returns.mean(axis=(0, 1))[shown]))
    print_table(table)
    print(f"score (mean return of episode {returns.shape[2]}): {score(returns):.3f}")
    if success is not None:
        print(f"solved in episode {returns.shape[2]}: {score_success(success):.1%} of trials")
