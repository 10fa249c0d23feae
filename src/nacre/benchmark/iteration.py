"""A meta-iteration of any method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from nacre.benchmark import sizes
from nacre.benchmark.result import Result
from nacre.errors import NacreError
from nacre.families.family import Family, num_tasks
from nacre.runs.experiment import Experiment
from nacre.simulation import rollout
from nacre.types import Tasks


def iteration(experiment: Experiment) -> Result:
    """Meta-iterations of a new run, as training goes through them."""
    family, algorithm, settings = experiment.family, experiment.algorithm, experiment.settings
    config = settings.shortened(sizes.ITERATION_ROUNDS + 1)
    state = algorithm.init(family, config, 0)
    blocks = algorithm.meta_train(family, config, experiment.draw_tasks(), [state])
    rounds, lanes = [], 0
    with _watched_episodes() as played:
        for number in range(sizes.ITERATION_ROUNDS + 1):
            played.clear()
            started, steps_before = time.perf_counter(), int(state.env_steps)
            while state.meta_iterations == number:
                (state,), metrics = next(blocks)
                jax.block_until_ready((state, metrics))
            seconds, collecting = time.perf_counter() - started, sum(one for one, _ in played)
            control_steps = int(state.env_steps) - steps_before
            if control_steps == 0:
                raise NacreError(
                    f"{experiment.algorithm_name} neither collects nor learns; choose another --algorithm."
                )
            lanes = max(side_by_side for _, side_by_side in played)
            rounds.append((seconds, collecting, seconds - collecting, control_steps, control_steps / collecting))
    seconds, collecting, updating, control_steps, rate = np.median(rounds[1:], axis=0).tolist()  # the first compiles
    return {
        "algorithm": experiment.algorithm_name, "seconds": seconds, "collection_seconds": collecting,
        "update_seconds": updating, "control_steps": int(control_steps),
        "updates": config.num_train_steps_per_iteration, "control_steps_per_s": rate, "lanes": lanes,
    }  # fmt: skip


@contextmanager
def _watched_episodes() -> Iterator[list[tuple[float, int]]]:
    """For a while, every call that plays episodes leaves what it took here: (seconds, lanes side by side)."""
    played: list[tuple[float, int]] = []

    def watched(play: Callable[..., Any]) -> Callable[..., Any]:
        def timed(family: Family, agent: Any, params: Any, memory: Any, task: Tasks, *args: Any, **options: Any) -> Any:
            jax.block_until_ready((params, memory))  # what learning still computes is not collection's
            started = time.perf_counter()
            result = jax.block_until_ready(play(family, agent, params, memory, task, *args, **options))
            played.append((time.perf_counter() - started, num_tasks(task)))
            return result

        return timed

    originals = {name: getattr(rollout, name) for name in ("_compiled_episode", "_stepped_episode")}
    try:
        for name, play in originals.items():
            setattr(rollout, name, watched(play))
        yield played
    finally:
        for name, play in originals.items():
            setattr(rollout, name, play)
