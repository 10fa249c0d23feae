"""How long a run will take on this machine, and how much disk: operations counted, rates measured."""

from __future__ import annotations

import functools
import math
import time

import jax
import jax.numpy as jnp
import numpy as np

from nacre.families.family import Family
from nacre.presets.trials import TrialSettings
from nacre.runs.experiment import Experiment
from nacre.simulation.lanes import is_compiled, lent_lanes

KEPT_CHECKPOINTS = 2


def estimated_seconds(chosen: Experiment) -> float:
    """Collection, evaluations and updates (of methods that count their operations) at this machine's rates of now."""
    config, family = chosen.settings, chosen.family
    evaluations = config.iterations / chosen.options.evaluation_interval * evaluation_steps(chosen)
    seconds = (config.env_steps(family) + evaluations) / steps_per_second(family)
    flops = config.update_flops(family.obs_dim, family.action_dim, family.task_dim)
    return seconds + chosen.settings.num_updates * flops / product_rate() if flops else seconds


def evaluation_steps(chosen: Experiment, protocol: str | None = None) -> int:
    """Environment steps of an evaluation on all test tasks, at most; by another protocol than the run's, if given."""
    trials = TrialSettings.of(chosen.settings, protocol)
    return chosen.num_tasks["test"] * trials.repeats * trials.episodes * chosen.family.horizon


def checkpoint_bytes(chosen: Experiment) -> int:
    """What a run's checkpoints take on disk at its end, a full replay included."""
    init, settings = chosen.algorithm.init, chosen.settings
    shapes = jax.eval_shape(lambda: init(chosen.family, settings, chosen.options.seed))
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    return KEPT_CHECKPOINTS * np.dtype(np.float32).itemsize * numbers


@functools.cache
def product_rate() -> float:
    """Floating-point operations a second in float32 matrix products of PEARL's size."""
    x, weight = jnp.ones((4096, 300)), jnp.ones((300, 300))
    multiply = jax.jit(lambda x: x @ weight)
    multiply(x).block_until_ready()
    started, count = time.perf_counter(), 20
    for _ in range(count):
        multiply(x).block_until_ready()
    return count * 2 * x.size * 300 / (time.perf_counter() - started)


@functools.cache
def steps_per_second(family: Family, num_lanes: int = 64, num_steps: int = 20) -> float:
    """Control steps a second that a family is simulated at, without a policy."""
    if is_compiled(family):
        return 1e6  # compiled with the policy; what it takes is the policy's time
    tasks = family.sample_tasks(np.random.default_rng(0), num_lanes)
    action = np.zeros((num_lanes, family.action_dim))
    with lent_lanes(family, num_lanes) as lanes:
        lanes.reset(tasks, np.random.default_rng(0))
        lanes.step(action, tasks)
        started = time.perf_counter()
        for _ in range(num_steps):
            lanes.step(action, tasks)
        return num_lanes * num_steps / (time.perf_counter() - started)
