"""Checkpoints: every bit comes back, only what is filled is written, nothing that is damaged is taken for good."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from saved_states import CHOSEN, assert_equal_bits, collect, files_of, fresh

import nacre
from nacre.algorithms import pearl
from nacre.learning.collection import Phases
from nacre.runs import loading
from nacre.runs.checkpoints import Checkpoints
from nacre.runs.experiment import resolve
from nacre.runs.loading import Saved

# ----------------------------------------------------------------------------------------------------------------------
# There and back


def test_every_leaf_comes_back_bit_for_bit_with_its_type_and_shape(
    saved: Path, collected: Saved, tasks: nacre.TaskSet
) -> None:
    restored = Checkpoints(saved).restore(fresh(tasks, seed=9))
    assert_equal_bits(restored, collected)
    assert [type(leaf) for leaf in jax.tree.leaves(restored)] == [type(leaf) for leaf in jax.tree.leaves(collected)]


def test_a_restored_key_draws_the_same_numbers_and_counters_count_on(
    saved: Path, collected: Saved, tasks: nacre.TaskSet
) -> None:
    state = Checkpoints(saved).restore(fresh(tasks, seed=9)).state
    assert jax.random.key_impl(state.key) == jax.random.key_impl(collected.state.key)
    assert jnp.array_equal(jax.random.normal(state.key, (8,)), jax.random.normal(collected.state.key, (8,)))
    assert (state.grad_steps + 1, state.env_steps, state.meta_iterations) == (2**40 + 2, 2**33, 12_345)


def test_what_is_restored_owns_its_memory(saved: Path, tasks: nacre.TaskSet) -> None:
    """A run changes its buffers in place, which must not reach the files that they were read from."""
    before = {file: file.read_bytes() for file in files_of(saved)}
    state = Checkpoints(saved).restore(fresh(tasks)).state._replace(env_steps=np.int64(160))
    collect(tasks, state, np.array([0, 1]), Phases(prior=2, extra_rl_posterior=2))
    assert {file: file.read_bytes() for file in files_of(saved)} == before


def test_only_the_filled_part_of_the_replay_is_written(saved: Path, collected: Saved) -> None:
    buffers = collected.state.rl_buffer, collected.state.context_buffer
    pools = sum(buffer.pool.nbytes for buffer in buffers)
    filled = sum(int(buffer.next_page) * 200 * buffer.pool.shape[1] * 4 for buffer in buffers)
    networks = sum(leaf.nbytes for leaf in jax.tree.leaves((collected.state.networks, collected.state.optimisers)))
    on_disk = sum(file.stat().st_size for file in files_of(saved))
    assert filled < pools / 100
    assert on_disk < filled + networks + 300_000 < pools / 10


def test_a_longer_run_takes_over_the_replay_of_a_shorter_one(
    saved: Path, collected: Saved, tasks: nacre.TaskSet
) -> None:
    longer = resolve("pearl", "point-robot", "smoke", iterations=4_000, context="collected")
    template = fresh(tasks)._replace(state=pearl.init(longer.family, longer.settings, 0))
    state = Checkpoints(saved).restore(template).state
    for old, restored in (
        (collected.state.rl_buffer, state.rl_buffer),
        (collected.state.context_buffer, state.context_buffer),
    ):
        rows = int(old.next_page) * 200
        assert restored.pool.shape[0] > old.pool.shape[0]
        assert jnp.array_equal(restored.pool[:rows], old.pool[:rows])
        assert not restored.pool[rows:].any()
        assert_equal_bits(restored._replace(pool=old.pool), old)


def test_no_checkpoint_file_is_a_pickle_and_none_is_unpickled(
    saved: Path, collected: Saved, tasks: nacre.TaskSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("something was unpickled")

    for file in files_of(saved):
        assert file.suffix not in (".pkl", ".pickle")
        assert not file.read_bytes().startswith(b"\x80")  # how a pickle since protocol 2 begins
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert_equal_bits(Checkpoints(saved).restore(fresh(tasks)), collected)


# ----------------------------------------------------------------------------------------------------------------------
# Which checkpoints there are


def test_a_save_that_was_not_finished_is_not_a_checkpoint(saved: Path, collected: Saved, tasks: nacre.TaskSet) -> None:
    shutil.copytree(saved / "7", saved / "9.orbax-checkpoint-tmp")
    checkpoints = Checkpoints(saved)
    assert checkpoints.latest() == 7
    assert_equal_bits(checkpoints.restore(fresh(tasks)), collected)
    checkpoints.save(9, collected)
    assert sorted(os.listdir(saved)) == ["7", "9"]


def test_the_two_newest_are_kept(saved: Path, collected: Saved) -> None:
    checkpoints = Checkpoints(saved)
    for grad_steps in (12, 20, 100):
        checkpoints.save(grad_steps, collected)
        checkpoints.prune()
    assert sorted(os.listdir(saved)) == ["100", "20"]
    assert checkpoints.latest() == 100


def test_a_number_that_is_saved_already_is_left_as_it_is(saved: Path, collected: Saved) -> None:
    before = {file: file.stat().st_mtime_ns for file in files_of(saved)}
    Checkpoints(saved).save(7, collected)
    assert {file: file.stat().st_mtime_ns for file in files_of(saved)} == before


def test_loading_an_agent_does_not_disturb_a_save_under_way(smoke_run: Callable[[str], Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(smoke_run("point-robot"), tmp_path / "run"))
    shutil.copytree(run / "checkpoints" / "20", run / "checkpoints" / "30.orbax-checkpoint-tmp")
    before = files_of(run)
    nacre.load(run)
    loading.load_state(nacre.RunDirectory(run))
    assert files_of(run) == before


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_left_for_the_newest(
    smoke_run: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = nacre.RunDirectory(Path(shutil.copytree(smoke_run("point-robot"), tmp_path / "run")))
    newer = shutil.copytree(run.checkpoints / "20", tmp_path / "30")
    read = Checkpoints.read

    def replaced(self: Checkpoints, grad_steps: int, template: Any) -> Any:
        if not (run.checkpoints / "30").exists():  # as another process would, at the worst moment
            shutil.rmtree(run.checkpoints / "20")
            newer.rename(run.checkpoints / "30")
        return read(self, grad_steps, template)

    expected = loading.load_state(run)
    monkeypatch.setattr(Checkpoints, "read", replaced)
    assert_equal_bits(loading.load_state(run), expected)
    assert (run.checkpoints / "30").exists()


def test_a_run_that_has_no_checkpoint_yet_cannot_be_loaded_and_stays_as_it_is(tmp_path: Path) -> None:
    run = nacre.RunDirectory.create(tmp_path / "run", CHOSEN)
    with pytest.raises(nacre.NacreError, match="no checkpoint yet"):
        nacre.load(run.path)
    assert sorted(os.listdir(run.path)) == ["config.json", "tasks.json"]
