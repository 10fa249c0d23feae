"""The replay of an off-policy run as episodes: what PEARL or the oracle have collected in their train tasks.

A ring of the replay is transitions one after another; where episodes begin is not stored. A new one begins after a
transition that terminated, after `horizon` transitions, and where an observation is not the one that the transition
before it led to. A ring that has overwritten its oldest transitions begins within an episode, which is then shorter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nacre.collect.making import ORIGIN, is_made
from nacre.collect.rollouts import as_logged
from nacre.data.dataset import DataSet, Writer
from nacre.data.episodes import LoggedEpisode
from nacre.errors import NacreError
from nacre.learning.replay import PAGE, Replay, unpack
from nacre.runs.directory import RunDirectory
from nacre.runs.loading import load_state
from nacre.types import Transition


def make(path: Path, id: str, family: str) -> DataSet | None:
    """A data set of quality 'replay', of the train tasks alone of a run on that family; None where it is there."""
    run = run_on(path, family)
    experiment = run.experiment
    state: Any = load_state(run)
    replay = getattr(state, "rl_buffer", None)
    if not isinstance(replay, Replay):
        raise NacreError(
            f"the run at {path} is of {experiment.algorithm_name}, which keeps no replay; name a run of PEARL or of "
            "the oracle."
        )
    recipe: dict[str, Any] = {
        "algorithm": experiment.algorithm_name, "settings": dataclasses.asdict(experiment.settings),
        "seed": experiment.options.seed, "updates": int(state.grad_steps), **origin_of(run),
    }  # fmt: skip
    if is_made(id, "replay", experiment.family, run.tasks.train, run.tasks.test, recipe):
        return None
    with Writer(id, experiment.family, run.tasks.train, run.tasks.test, "replay", recipe) as writer:
        writer.add(episodes(replay, experiment.family.obs_dim, experiment.family.horizon))
    return writer.close()


def origin_of(run: RunDirectory) -> dict[str, Any]:
    """What a recipe tells of the networks that a run started from; nothing where they were fresh."""
    return {} if run.started_from is None else {ORIGIN: run.started_from.get("networks_sha256")}


def run_on(path: Path, family: str) -> RunDirectory:
    """The run; NacreError where it is of another family."""
    run = RunDirectory(path)
    if run.experiment.family.name != family:
        raise NacreError(f"the run at {path} is on {run.experiment.family.name}; write that instead of {family}.")
    return run


def episodes(replay: Replay, obs_dim: int, horizon: int) -> Iterator[LoggedEpisode]:
    """The episodes of every task, in the order of their collection."""
    host = jax.tree.map(np.asarray, replay)
    for task, size in enumerate(np.minimum(host.written, replay.capacity)):
        oldest = host.written[task] % replay.capacity if host.written[task] > replay.capacity else 0
        at = (oldest + np.arange(size)) % replay.capacity
        rows = host.pool[host.pages[task, at // PAGE] * PAGE + at % PAGE]
        transitions = jax.tree.map(np.asarray, unpack(rows, obs_dim))
        starts = bounds(transitions, horizon)
        for start, end in zip(starts, [*starts[1:], int(size)], strict=True):
            part = jax.tree.map(lambda x, span=slice(start, end): x[span], transitions)
            yield as_logged(part, "train", task, "replay", -1, -1)


def bounds(transitions: Transition, horizon: int) -> list[int]:
    """Where episodes begin among transitions [time, ...] that were collected one after another."""
    if len(transitions.reward) == 0:
        return []
    continues = (transitions.next_obs[:-1] == transitions.obs[1:]).all(axis=1) & (transitions.discount[:-1] != 0)
    starts = [0]
    for time, same in enumerate(continues.tolist(), 1):
        if not same or time - starts[-1] == horizon:
            starts.append(time)
    return starts
