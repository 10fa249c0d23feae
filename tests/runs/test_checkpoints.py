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

import nacre
from nacre.algorithms import pearl
from nacre.learning import off_policy
from nacre.learning.collection import Phases
from nacre.learning.replay import Replay
from nacre.runs import trainer
from nacre.runs.checkpoints import Checkpoints
from nacre.runs.experiment import resolve
from nacre.runs.trainer import Saved

CHOSEN = resolve("pearl", "point-robot", "smoke", iterations=3_000, context="collected")
"""So long a run that its empty buffers are two orders of magnitude larger than what few episodes fill."""


@pytest.fixture(scope="module")
def tasks() -> nacre.TaskSet:
    return CHOSEN.family.task_set(1337, CHOSEN.settings.num_train_tasks, CHOSEN.settings.num_test_tasks)


def fresh(tasks: nacre.TaskSet, seed: int = 0) -> Saved:
    state = pearl.init(CHOSEN.family, CHOSEN.settings, seed)
    return Saved(state, np.float64(0.0), tasks.train, tasks.test)


def collect(tasks: nacre.TaskSet, state: pearl.State, drawn: np.ndarray, phases: Phases) -> pearl.State:
    procedure = pearl.procedure(CHOSEN.family, CHOSEN.settings)
    (after,) = off_policy.collect(CHOSEN.family, CHOSEN.settings, tasks.train, [state], drawn[None], phases, procedure)
    return after


@pytest.fixture(scope="module")
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
    checkpoints.close()
    return directory


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
    trainer.load_state(nacre.RunDirectory(run))
    assert files_of(run) == before


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_left_for_the_newest(
    smoke_run: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = nacre.RunDirectory(Path(shutil.copytree(smoke_run("point-robot"), tmp_path / "run")))
    newer = shutil.copytree(run.checkpoints / "20", tmp_path / "30")
    read = Checkpoints.restore

    def replaced(self: Checkpoints, template: Any) -> Any:
        if not (run.checkpoints / "30").exists():  # as another process would, at the worst moment
            shutil.rmtree(run.checkpoints / "20")
            newer.rename(run.checkpoints / "30")
        return read(self, template)

    expected = trainer.load_state(run)
    monkeypatch.setattr(Checkpoints, "restore", replaced)
    assert_equal_bits(trainer.load_state(run), expected)
    assert (run.checkpoints / "30").exists()


def test_a_run_that_has_no_checkpoint_yet_cannot_be_loaded_and_stays_as_it_is(tmp_path: Path) -> None:
    run = nacre.RunDirectory.create(tmp_path / "run", CHOSEN)
    with pytest.raises(nacre.NacreError, match="no checkpoint yet"):
        nacre.load(run.path)
    assert sorted(os.listdir(run.path)) == ["config.json", "tasks.json"]


# ----------------------------------------------------------------------------------------------------------------------
# Damage

DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "emptied": lambda file: file.write_bytes(b""),
    "cut in half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "overwritten": lambda file: file.write_bytes(b"\x93garbage\xff\x00" * (file.stat().st_size // 10 + 1)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_checkpoint_with_a_damaged_file_is_refused_in_one_sentence_or_loads_exactly(
    damage: str, saved: Path, collected: Saved, tasks: nacre.TaskSet, tmp_path: Path
) -> None:
    num_refused = 0
    for file in files_of(saved):
        copy = Path(shutil.copytree(saved, tmp_path / "copy"))
        DAMAGE[damage](copy / file.relative_to(saved))
        try:
            restored = Checkpoints(copy, read_only=True).restore(fresh(tasks))
        except nacre.NacreError as error:
            num_refused += 1
            assert "\n" not in str(error)
            assert f"the checkpoint {copy / '7'} is damaged" in str(error)
            assert "no older one" in str(error)
        else:  # a file that says nothing that is needed
            assert_equal_bits(restored, collected)
        shutil.rmtree(copy)
    assert num_refused >= 10  # every array of both buffers at the least


@pytest.mark.parametrize("damage", ["emptied directory", "missing item"])
def test_a_checkpoint_that_lacks_its_contents_is_refused_in_one_sentence(
    damage: str, saved: Path, tasks: nacre.TaskSet
) -> None:
    for entry in (saved / "7").iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
            if damage == "missing item":
                break
    with pytest.raises(nacre.NacreError, match="is damaged") as raised:
        Checkpoints(saved, read_only=True).restore(fresh(tasks))
    assert "\n" not in str(raised.value)


def test_a_damaged_checkpoint_can_be_removed_to_go_on_from_the_one_before(
    smoke_run: Callable[[str], Path], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(smoke_run("point-robot"), tmp_path / "run"))
    for file in files_of(run / "checkpoints" / "20"):
        file.write_bytes(b"garbage")
    with pytest.raises(nacre.NacreError, match="remove it to go on from update 10"):
        nacre.load(run)
    shutil.rmtree(run / "checkpoints" / "20")
    nacre.resume(run)
    expected = trainer.load_state(nacre.RunDirectory(smoke_run("point-robot")))
    assert_equal_bits(trainer.load_state(nacre.RunDirectory(run)), expected)


def test_a_checkpoint_of_other_network_sizes_is_refused(saved: Path, tasks: nacre.TaskSet) -> None:
    other = resolve("pearl", "point-robot", "smoke", iterations=3_000, hidden_dim=16)
    template = fresh(tasks)._replace(state=pearl.init(other.family, other.settings, 0))
    with pytest.raises(nacre.NacreError, match="shape"):
        Checkpoints(saved).restore(template)


def test_a_checkpoint_that_lacks_a_leaf_is_refused_by_its_name(saved: Path, tasks: nacre.TaskSet) -> None:
    template = {"saved": fresh(tasks), "more": jnp.zeros(3)}
    with pytest.raises(nacre.NacreError, match="is damaged"):
        Checkpoints(saved).restore(template)


def test_a_file_in_the_place_of_the_checkpoints_is_refused(smoke_run: Callable[[str], Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(smoke_run("point-robot"), tmp_path / "run"))
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").write_text("not a directory")
    for use in (nacre.load, nacre.resume):
        with pytest.raises(nacre.NacreError) as raised:
            use(run)
        assert "\n" not in str(raised.value)


def test_strange_files_beside_the_checkpoints_do_no_harm(saved: Path, collected: Saved, tasks: nacre.TaskSet) -> None:
    (saved / "notes.txt").write_text("mine")
    (saved / "backup").mkdir()
    assert_equal_bits(Checkpoints(saved).restore(fresh(tasks)), collected)
    assert (saved / "notes.txt").read_text() == "mine"


def test_a_replay_is_a_leaf_of_its_own_kind(collected: Saved) -> None:
    """The size test above speaks about these two buffers; a third would need its rows there."""
    leaves = jax.tree.leaves(collected, is_leaf=lambda x: isinstance(x, Replay))
    assert sum(isinstance(leaf, Replay) for leaf in leaves) == 2
