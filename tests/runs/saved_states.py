"""What tests of checkpoints share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import nacre
from nacre.algorithms import pearl
from nacre.learning import off_policy
from nacre.learning.collection import Phases
from nacre.runs.experiment import resolve
from nacre.runs.loading import Saved

CHOSEN = resolve("pearl", "point-robot", "smoke", iterations=3_000, context="collected")
"""So long a run that its empty buffers are two orders of magnitude larger than what few episodes fill."""


def fresh(tasks: nacre.TaskSet, seed: int = 0) -> Saved:
    state = pearl.init(CHOSEN.family, CHOSEN.settings, seed)
    return Saved(state, np.float64(0.0), tasks.train, tasks.test)


def collect(tasks: nacre.TaskSet, state: pearl.State, drawn: np.ndarray, phases: Phases) -> pearl.State:
    procedure = pearl.procedure(CHOSEN.family, CHOSEN.settings)
    (after,) = off_policy.collect(CHOSEN.family, CHOSEN.settings, tasks.train, [state], drawn[None], phases, procedure)
    return after


def files_of(directory: Path) -> list[Path]:
    return sorted(file for file in directory.rglob("*") if file.is_file())


def bits(leaf: Any) -> tuple[str, tuple[int, ...], bytes]:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return ("key", leaf.shape, np.asarray(jax.random.key_data(leaf)).tobytes())
    return (str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes())


def assert_equal_bits(tree: Any, expected: Any) -> None:
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    for (path, leaf), other in zip(leaves, jax.tree.leaves(expected), strict=True):
        assert bits(leaf) == bits(other), jax.tree_util.keystr(path)
