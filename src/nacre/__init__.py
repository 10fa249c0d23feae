"""nacre: agents that learn a new task within a few episodes. The public names, as a table of contents."""

from __future__ import annotations

import time

STARTED = time.monotonic()
"""When the process began, as nearly as a package can tell: `wall_seconds` of a command counts from here."""

from collections.abc import Iterable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from nacre.families import load_mujoco as _load_mujoco  # noqa: E402, F401  (before anything else imports MuJoCo)

# isort: split
from nacre.algorithms.registry import ALGORITHMS  # noqa: E402
from nacre.cli.commands import default_path as _default_path  # noqa: E402
from nacre.deploy.agent import Session, TrainedAgent, TrialReport, load  # noqa: E402
from nacre.errors import NacreError  # noqa: E402
from nacre.families.catalog import FAMILIES, make_family, register_family  # noqa: E402
from nacre.families.family import Family, JaxFamily, JaxStep, MujocoFamily, TaskSet  # noqa: E402
from nacre.families.gymnasium import GymnasiumFamily  # noqa: E402
from nacre.runs import trainer as _trainer  # noqa: E402
from nacre.runs.directory import RunDirectory  # noqa: E402
from nacre.runs.experiment import resolve  # noqa: E402
from nacre.simulation.rollout import evaluate, score  # noqa: E402
from nacre.types import Agent, Belief, Episode, Transition  # noqa: E402


def train(
    algorithm: str, family: str, *, preset: str = "paper", out: str | Path | None = None,
    time_limit: float | None = None, wandb: bool = False, **fields: Any,
) -> RunDirectory:  # fmt: skip
    """Meta-trains and returns the run: `nacre.train("pearl", "cheetah-vel", seed=0)`.

    `fields` are any fields of the configuration (`nacre train ALGORITHM FAMILY --help` lists them); `time_limit` is in
    minutes. Raises NacreError where the command line would exit with status 2.
    """
    chosen = resolve(algorithm, family, preset, **fields)
    path = Path(out) if out is not None else _default_path(algorithm, family, chosen.options.seed)
    return _trainer.train([chosen], [path], time_limit=time_limit, wandb=wandb)[0]


def train_seeds(
    algorithm: str, family: str, seeds: Iterable[int], *, preset: str = "paper", out: str | Path | None = None,
    time_limit: float | None = None, wandb: bool = False, **fields: Any,
) -> list[RunDirectory]:  # fmt: skip
    """Meta-trains several seeds side by side in one program, as `train` would one after the other; a run each.

    The runs are `out`/seed-SEED. Numbers are those of single runs but for rounding.
    """
    chosen = [resolve(algorithm, family, preset, seed=seed, **fields) for seed in seeds]
    each = [one.options.seed for one in chosen]
    if not each or len(set(each)) < len(each):
        raise NacreError(f"seeds are {each}, but must be one or more different numbers.")
    paths = [_default_path(algorithm, family, s) if out is None else Path(out) / f"seed-{s}" for s in each]
    return _trainer.train(chosen, paths, time_limit=time_limit, wandb=wandb)


def resume(
    run: str | Path, *, iterations: int | None = None, time_limit: float | None = None, wandb: bool = False
) -> RunDirectory:
    """Continues a run exactly where its last checkpoint stands; `iterations` sets a larger total."""
    return _trainer.resume([Path(run)], iterations=iterations, time_limit=time_limit, wandb=wandb)[0]


def resume_seeds(
    runs: Iterable[str | Path], *, iterations: int | None = None, time_limit: float | None = None, wandb: bool = False
) -> list[RunDirectory]:
    """Continues runs that differ in nothing but their seed, side by side in one program."""
    paths = [Path(run) for run in runs]
    return _trainer.resume(paths, iterations=iterations, time_limit=time_limit, wandb=wandb)


__all__ = [
    "ALGORITHMS",
    "FAMILIES",
    "Agent",
    "Belief",
    "Episode",
    "Family",
    "GymnasiumFamily",
    "JaxFamily",
    "JaxStep",
    "MujocoFamily",
    "NacreError",
    "RunDirectory",
    "Session",
    "TaskSet",
    "TrainedAgent",
    "Transition",
    "TrialReport",
    "evaluate",
    "load",
    "make_family",
    "register_family",
    "resolve",
    "resume",
    "resume_seeds",
    "score",
    "train",
    "train_seeds",
]
