"""Checkpoints: every bit comes back, only what is filled is written, nothing that is damaged is taken for good."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import pickle
import shutil
import subprocess
import sys
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
from nacre.runs import checksums, loading
from nacre.runs.checkpoints import Checkpoints
from nacre.runs.checksums import Damaged
from nacre.runs.experiment import resolve
from nacre.runs.loading import Saved

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


# ----------------------------------------------------------------------------------------------------------------------
# Damage

DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "emptied": lambda file: file.write_bytes(b""),
    "cut in half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "overwritten": lambda file: file.write_bytes(b"\x93garbage\xff\x00" * (file.stat().st_size // 10 + 1)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_checkpoint_with_a_damaged_file_is_refused_in_one_sentence_that_names_it(
    damage: str, saved: Path, tasks: nacre.TaskSet, tmp_path: Path
) -> None:
    for file in files_of(saved):
        copy = Path(shutil.copytree(saved, tmp_path / "copy"))
        damaged = copy / file.relative_to(saved)
        DAMAGE[damage](damaged)
        unlisted = file.name == "checksums.json" and damage == "deleted"  # as an earlier nacre wrote it
        if not unlisted:
            with pytest.raises(nacre.NacreError, match="no good one") as raised:
                Checkpoints(copy, read_only=True).restore(fresh(tasks))
            assert "\n" not in str(raised.value)
            assert str(damaged) in str(raised.value)
        shutil.rmtree(copy)


def test_every_flipped_bit_is_found_in_every_kind_of_file(saved: Path, tasks: nacre.TaskSet) -> None:
    rng = np.random.default_rng(0)
    template = jax.eval_shape(lambda: fresh(tasks))
    for file in files_of(saved):
        good = file.read_bytes()
        for bit in rng.integers(8 * len(good), size=3):
            bad = bytearray(good)
            bad[bit // 8] ^= 1 << bit % 8
            file.write_bytes(bad)
            if file.name == "checksums.json" and json.loads(good) == _json_of(bad):
                continue  # the bit was in what says nothing
            with pytest.raises((Damaged, nacre.NacreError)):
                Checkpoints(saved, read_only=True).read(7, template)
        file.write_bytes(good)
    Checkpoints(saved, read_only=True).read(7, template)


def _json_of(content: bytes | bytearray) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_to_act_only_what_acting_needs_is_read_and_verified(saved: Path, tasks: nacre.TaskSet) -> None:
    pool = next((saved / "7" / "replay").glob("*pool.npy"))
    pool.write_bytes(pool.read_bytes()[:-1] + b"\x55")
    shapes = jax.eval_shape(lambda: fresh(tasks))
    acting = jax.tree.map(
        lambda x: None if isinstance(x, Replay) else x, shapes, is_leaf=lambda x: isinstance(x, Replay)
    )
    Checkpoints(saved, read_only=True).read(7, acting)
    with pytest.raises(Damaged, match=r"pool\.npy"):
        Checkpoints(saved, read_only=True).read(7, shapes)


WRONG_BUFFERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "no rows": lambda pool: np.zeros((0, 9), np.float32),
    "another type": lambda pool: pool.astype(np.int32),
    "another width": lambda pool: pool[:, 1:],
    "a row too few": lambda pool: pool[1:],
    "no axes": lambda pool: np.float32(0.0),
}


@pytest.mark.parametrize("wrong", WRONG_BUFFERS)
def test_a_pool_of_another_shape_or_type_than_its_run_has_is_refused(
    wrong: str, saved: Path, tasks: nacre.TaskSet
) -> None:
    (saved / "7" / "checksums.json").unlink()  # as of nacre 0.1, which wrote none
    pool = next((saved / "7" / "replay").glob("*rl_buffer.pool.npy"))
    np.save(pool, WRONG_BUFFERS[wrong](np.load(pool)))
    with pytest.raises(Damaged, match=r"pool\.npy has"):
        Checkpoints(saved, read_only=True).read(7, fresh(tasks))


@pytest.mark.parametrize("item", ["state", "replay"])
def test_a_checkpoint_that_lacks_its_contents_is_refused_in_one_sentence(
    item: str, saved: Path, tasks: nacre.TaskSet
) -> None:
    shutil.rmtree(saved / "7" / item)
    with pytest.raises(nacre.NacreError, match=f"{item}.* is missing") as raised:
        Checkpoints(saved, read_only=True).restore(fresh(tasks))
    assert "\n" not in str(raised.value)


def test_a_damaged_checkpoint_is_passed_over_with_a_notice_and_the_run_goes_on_bit_for_bit(
    smoke_run: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(smoke_run("point-robot"), tmp_path / "run"))
    file = max((run / "checkpoints" / "20" / "state").rglob("*"), key=lambda file: file.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    nacre.load(run)
    loading.check_run(nacre.RunDirectory(run))  # what `nacre report` does
    nacre.resume(run)
    notices = [line for line in capsys.readouterr().err.splitlines() if "is damaged" in line]
    assert len(notices) == 3
    assert all(str(file) in line and "the one at update 10 is taken instead" in line for line in notices)
    expected = smoke_run("point-robot")
    assert_equal_bits(loading.load_state(nacre.RunDirectory(run)), loading.load_state(nacre.RunDirectory(expected)))
    ours, theirs = (nacre.RunDirectory(path).evaluations() for path in (run, expected))
    assert ours["return"].tolist() == theirs["return"].tolist()
    assert ours["grad_steps"].tolist() == theirs["grad_steps"].tolist()


def test_a_run_without_its_replay_acts_but_does_not_go_on(smoke_run: Callable[[str], Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(smoke_run("point-robot"), tmp_path / "run"))
    for checkpoint in (run / "checkpoints").iterdir():
        shutil.rmtree(checkpoint / "replay")
    returns = nacre.load(run).evaluate(seed=0)[0]
    np.testing.assert_array_equal(returns, nacre.load(smoke_run("point-robot")).evaluate(seed=0)[0])
    with pytest.raises(nacre.NacreError, match=r"has no replay .* only act; restore it from a copy"):
        nacre.resume(run, iterations=9)


def test_a_checkpoint_of_other_network_sizes_is_refused(saved: Path, tasks: nacre.TaskSet) -> None:
    other = resolve("pearl", "point-robot", "smoke", iterations=3_000, hidden_dim=16)
    template = fresh(tasks)._replace(state=pearl.init(other.family, other.settings, 0))
    with pytest.raises(nacre.NacreError, match="shape"):
        Checkpoints(saved).restore(template)


def test_a_checkpoint_of_another_version_is_told_by_the_leaf_that_differs(saved: Path, tasks: nacre.TaskSet) -> None:
    here = importlib.metadata.version("nacre")
    listed = json.loads((saved / "7" / "checksums.json").read_text())
    (saved / "7" / "checksums.json").write_text(json.dumps(listed | {"nacre": "9.9"}))
    tree = fresh(tasks)._asdict()
    with pytest.raises(nacre.NacreError, match=f"lacks 'more': .* nacre 9.9, and this is nacre {here}"):
        Checkpoints(saved).restore(tree | {"more": jnp.zeros(3)})
    del tree["wall_seconds"]
    with pytest.raises(nacre.NacreError, match=r"has also 'wall_seconds': .* nacre 9\.9"):
        Checkpoints(saved).restore(tree)


def test_a_checkpoint_that_this_user_may_not_read_is_not_taken_for_damaged(
    saved: Path, tasks: nacre.TaskSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Path) -> int:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(checksums, "crc32", refuse)
    with pytest.raises(nacre.NacreError, match=r"this user may not read .* change its permissions"):
        Checkpoints(saved).restore(fresh(tasks))


def test_a_save_that_the_disk_has_no_room_for_leaves_the_checkpoint_before(
    saved: Path, collected: Saved, tasks: nacre.TaskSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoints = Checkpoints(saved)
    for place in ("nacre.runs.checkpoints._write_state", "numpy.save", "nacre.runs.checksums.write", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(place, full)
            with pytest.raises(nacre.NacreError, match=r"No space left on device.*at update 7 is kept; make room"):
                checkpoints.save(9, collected)
        assert os.listdir(saved) == ["7"]
    checkpoints.save(9, collected)
    assert_equal_bits(checkpoints.restore(fresh(tasks)), collected)


def test_a_process_whose_files_may_not_grow_ends_in_one_sentence_and_its_run_goes_on(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from nacre.cli.main import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, resource.RLIM_INFINITY)); sys.exit(main())"
    )
    arguments = ["train", "pearl", "point-robot", "--preset", "smoke", "--out", str(tmp_path / "run")]
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "0"}
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"nacre: the checkpoint {tmp_path / 'run' / 'checkpoints' / '20'} could not be written (File too large); there "
        "is none before it; make room or change the permissions there, then go on with "
        f"'nacre resume {tmp_path / 'run'}'."
    )
    assert nacre.resume(tmp_path / "run").metrics()["grad_steps"].tolist() == [10, 20]


def test_a_checkpoint_of_the_version_before_which_has_no_checksums_still_loads(
    saved: Path, collected: Saved, tasks: nacre.TaskSet
) -> None:
    (saved / "7" / "checksums.json").unlink()
    shutil.rmtree(saved / "7" / "tables")
    assert_equal_bits(Checkpoints(saved).restore(fresh(tasks)), collected)


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
