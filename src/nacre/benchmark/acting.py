"""Acting, on one core: the session in JAX, and in a process of its own that in NumPy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jax
import numpy as np

from nacre.benchmark import sizes
from nacre.benchmark.result import Result, untrained
from nacre.deploy.session import Session
from nacre.deploy.trained_agent import TrainedAgent
from nacre.families.family import Family
from nacre.runs.compilation_cache import num_cores
from nacre.runs.experiment import Experiment


def act(experiment: Experiment) -> Result:
    """Random observations and rewards: what they are does not change what a step costs."""
    family, rng = experiment.family, np.random.default_rng(0)
    agent = TrainedAgent(experiment, experiment.draw_tasks(), untrained(experiment))
    session = agent.session()
    with tempfile.TemporaryDirectory() as folder, _one_core():
        agent.export(Path(folder) / "policy")
        exported = _of_bundle(Path(folder) / "policy")
        _step_microseconds(session, family, rng, 100)  # compiles
        early = _step_microseconds(session, family, rng, sizes.ACTING_STEPS)
        _step_microseconds(session, family, rng, sizes.LONG_CONTEXT - session.num_steps)
        late, cpu_threads = _step_microseconds(session, family, rng, sizes.ACTING_STEPS), num_cores()
    return _percentiles(early, late) | exported | {"long_context": sizes.LONG_CONTEXT, "cpu_threads": cpu_threads}


def _percentiles(early: np.ndarray, late: np.ndarray) -> Result:
    """Of the microseconds near the beginning, and of those in a long context."""
    figures: Result = {}
    for name, microseconds in (("", early), ("_long_context", late)):
        p50, p99 = np.percentile(microseconds, (50, 99))
        figures |= {f"microseconds_p50{name}": float(p50), f"microseconds_p99{name}": float(p99)}
    return figures


_BUNDLE = """
import json, sys, time
sys.path.insert(0, ".")
from session import load, step_times
session = load(".")
session.act([0.0] * session.about["obs_dim"])
ready, num_steps, long_context = time.time(), *map(int, sys.argv[1:])
session.warm_up()
early = step_times(session, num_steps)
step_times(session, long_context - session.num_steps)
print(json.dumps([ready, early.tolist(), step_times(session, num_steps).tolist()]))
"""


def _of_bundle(folder: Path) -> Result:
    """The figures of the session in a bundle, in a process that has nothing but NumPy, and one thread."""
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL")}
    command, started = [sys.executable, "-c", _BUNDLE, str(sizes.ACTING_STEPS), str(sizes.LONG_CONTEXT)], time.time()
    told = subprocess.run(command, cwd=folder, env=os.environ | threads, stdout=subprocess.PIPE, check=True).stdout
    ready, early, late = json.loads(told)
    figures = {f"numpy_{name}": value for name, value in _percentiles(np.array(early), np.array(late)).items()}
    size = sum((folder / name).stat().st_size for name in ("agent.json", "weights.npz", "session.py"))
    return figures | {"numpy_start_seconds": ready - started, "bundle_bytes": size}


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
