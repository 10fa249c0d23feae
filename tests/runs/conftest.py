"""Runs that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from saved_states import CHOSEN, collect, fresh
from small_runs import BLOCK, SMALL

import nacre
from nacre.learning import off_policy
from nacre.learning.collection import Phases
from nacre.runs.checkpoints import Checkpoints
from nacre.runs.loading import Saved


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(off_policy, "UPDATES_PER_CALL", BLOCK)


@pytest.fixture(scope="session")
def uninterrupted_run(tmp_path_factory: pytest.TempPathFactory) -> nacre.RunDirectory:
    """A run that nothing disturbed. It saves after every block, which must not change a number."""
    path = tmp_path_factory.mktemp("uninterrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(off_policy, "UPDATES_PER_CALL", BLOCK)
        return nacre.train("pearl", "point-robot", **SMALL, checkpoint_minutes=0.0, out=path)


@pytest.fixture
def uninterrupted(uninterrupted_run: nacre.RunDirectory, small_blocks: None) -> nacre.RunDirectory:
    """The same, with blocks of its length for the test that compares another run with it."""
    return uninterrupted_run


@pytest.fixture(scope="session")
def tasks() -> nacre.TaskSet:
    return CHOSEN.family.task_set(1337, CHOSEN.settings.num_train_tasks, CHOSEN.settings.num_test_tasks)


@pytest.fixture(scope="session")
def collected(tasks: nacre.TaskSet) -> Saved:
    """The state of a run after its initial collection, with large counters, and awkward numbers in the optimisers."""
    state = fresh(tasks, seed=3).state
    drawn = np.arange(CHOSEN.settings.num_train_tasks)
    state = collect(tasks, state, drawn, Phases(prior=2))
    awkward = jnp.array([-0.0, 1e-40, np.pi, np.inf, -np.inf, np.nan, 3e38, -1.5], jnp.float32)
    optimisers = jax.tree.map(
        lambda x: jnp.resize(awkward, x.shape) if jnp.issubdtype(x.dtype, jnp.floating) else x + 7, state.optimisers
    )
    counters = dict(grad_steps=np.int64(2**40 + 1), meta_iterations=np.int64(12_345), env_steps=np.int64(2**33))
    state = state._replace(optimisers=optimisers, **counters)
    return Saved(state, np.float64(1234.567890123456789), tasks.train, tasks.test)


@pytest.fixture
def saved(collected: Saved, tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoints"
    checkpoints = Checkpoints(directory)
    checkpoints.save(7, collected)
    return directory
