"""Meta-training from Python: new runs and old ones, by the names of algorithm and family."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nacre.errors import NacreError
from nacre.runs import trainer
from nacre.runs.directory import RunDirectory, default_path
from nacre.runs.experiment import resolve
from nacre.runs.watching import OnIteration


def train(
    algorithm: str, family: str, *, preset: str = "paper", out: str | Path | None = None,
    time_limit: float | None = None, wandb: bool = False, overwrite: bool = False,
    from_run: str | Path | None = None, on_iteration: OnIteration | None = None, **fields: Any,
) -> RunDirectory:  # fmt: skip
    """Meta-trains and returns the run: `nacre.train("pearl", "cheetah-vel", seed=0)`.

    `fields` are any fields of the configuration (`nacre train ALGORITHM FAMILY --help` lists them); `time_limit` is in
    minutes; `overwrite` removes a run that is in the way; `from_run` is a run whose networks this one starts from;
    `on_iteration` is called after every meta-iteration with an `Iteration`, and what it returns (a dictionary of
    numbers, or None) is logged as extra.csv. What it raises ends the run, with a checkpoint, and is raised here.
    Raises NacreError where the command line would exit with status 2.
    """
    chosen = resolve(algorithm, family, preset, **fields)
    path = Path(out) if out is not None else default_path(algorithm, family, chosen.options.seed)
    return trainer.train(
        [chosen], [path], time_limit=time_limit, wandb=wandb, overwrite=overwrite,
        from_run=None if from_run is None else Path(from_run), on_iteration=on_iteration,
    ).runs[0]  # fmt: skip


def train_seeds(
    algorithm: str, family: str, seeds: Iterable[int], *, preset: str = "paper", out: str | Path | None = None,
    time_limit: float | None = None, wandb: bool = False, overwrite: bool = False,
    from_run: str | Path | None = None, on_iteration: OnIteration | None = None, **fields: Any,
) -> list[RunDirectory]:  # fmt: skip
    """Meta-trains several seeds side by side in one program, as `train` would one after the other; a run each.

    The runs are `out`/seed-SEED. Numbers are those of single runs but for rounding.
    """
    chosen = [resolve(algorithm, family, preset, seed=seed, **fields) for seed in seeds]
    numbers = [experiment.options.seed for experiment in chosen]
    if not numbers or len(set(numbers)) < len(numbers):
        raise NacreError(f"seeds are {numbers}, but must be one or more different numbers.")
    paths = [default_path(algorithm, family, s) if out is None else Path(out) / f"seed-{s}" for s in numbers]
    return trainer.train(
        chosen, paths, time_limit=time_limit, wandb=wandb, overwrite=overwrite,
        from_run=None if from_run is None else Path(from_run), on_iteration=on_iteration,
    ).runs  # fmt: skip


def resume(
    run: str | Path,
    *,
    iterations: int | None = None,
    devices: int | None = None,
    time_limit: float | None = None,
    wandb: bool = False,
    on_iteration: OnIteration | None = None,
) -> RunDirectory:
    """Continues a run exactly where its last checkpoint stands; `iterations` sets a larger total, `devices` how
    many to use from now on."""
    return trainer.resume(
        [Path(run)],
        iterations=iterations,
        devices=devices,
        time_limit=time_limit,
        wandb=wandb,
        on_iteration=on_iteration,
    ).runs[0]


def resume_seeds(
    runs: Iterable[str | Path],
    *,
    iterations: int | None = None,
    devices: int | None = None,
    time_limit: float | None = None,
    wandb: bool = False,
    on_iteration: OnIteration | None = None,
) -> list[RunDirectory]:
    """Continues runs that differ in nothing but their seed, side by side in one program."""
    paths = [Path(run) for run in runs]
    return trainer.resume(
        paths, iterations=iterations, devices=devices, time_limit=time_limit, wandb=wandb, on_iteration=on_iteration
    ).runs
