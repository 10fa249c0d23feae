"""Acting, on one core: the session in JAX, and the runtimes of its bundle, each in a process of its own."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jax
import numpy as np

from nacre.benchmark import exported, sizes
from nacre.benchmark.result import Result, made_up_hypotheses, untrained
from nacre.deploy.session import Session
from nacre.deploy.trained_agent import TrainedAgent
from nacre.families.family import Family
from nacre.runs.compilation_cache import num_cores
from nacre.runs.experiment import Experiment

SHIPPED = ("agent.json", "weights.npz", "session.py", "guards.py")
"""What the NumPy session needs of a bundle."""


def act(experiment: Experiment) -> Result:
    """Random observations and rewards: what they are does not change what a step costs."""
    family, rng = experiment.family, np.random.default_rng(0)
    agent = TrainedAgent(
        experiment, experiment.draw_tasks(), untrained(experiment), hypotheses=lambda: made_up_hypotheses(experiment)
    )
    session = agent.session()
    with tempfile.TemporaryDirectory() as folder, _one_core():
        bundle, runtimes = Path(folder) / "policy", exported.runtimes()
        agent.export(bundle, onnx="onnx" in runtimes, c="c" in runtimes)
        figures: Result = {"bundle_bytes": sum((bundle / name).stat().st_size for name in SHIPPED)}
        for runtime in runtimes:
            figures |= exported.timed(bundle, runtime)
        _step_microseconds(session, family, rng, 100)  # compiles
        early = _step_microseconds(session, family, rng, sizes.ACTING_STEPS)
        _step_microseconds(session, family, rng, sizes.LONG_CONTEXT - session.num_steps)
        late, cpu_threads = _step_microseconds(session, family, rng, sizes.ACTING_STEPS), num_cores()
    return (
        exported.percentiles(early, late) | figures | {"long_context": sizes.LONG_CONTEXT, "cpu_threads": cpu_threads}
    )


def _step_microseconds(session: Session, family: Family, rng: np.random.Generator, num_steps: int) -> np.ndarray:
    """Takes `num_steps` steps; the microseconds of each, from an observation to its action and on to the new belief."""
    observations = rng.standard_normal((num_steps + 1, family.obs_dim)).astype(np.float32)
    rewards, microseconds = rng.standard_normal(num_steps), np.empty(num_steps)
    for index in range(num_steps):
        started = time.perf_counter()
        session.act(observations[index])
        session.observe(observations[index + 1], rewards[index])
        jax.block_until_ready(session.memory)
        microseconds[index] = 1e6 * (time.perf_counter() - started)
        if session.num_steps % family.horizon == 0:
            session.end_episode()
            jax.block_until_ready(session.memory)
    return microseconds


@contextmanager
def _one_core() -> Iterator[None]:
    """Confines every thread of this process, JAX's included, to one core for a while, where the system can do that."""
    if sys.platform != "linux":
        yield
        return
    allowed = os.sched_getaffinity(0)
    try:
        _confine({max(allowed)})
        yield
    finally:
        _confine(allowed)


def _confine(cores: set[int]) -> None:
    """Lets every thread of this process run on these cores only."""
    if sys.platform == "linux":
        for thread in os.listdir("/proc/self/task"):
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread), cores)
