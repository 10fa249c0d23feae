"""Checkpoints that are damaged, incomplete or another version's: refused in a sentence, or passed over."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
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
from saved_states import assert_equal_bits, files_of, fresh

import nacre
from nacre.algorithms import pearl
from nacre.learning.replay import Replay
from nacre.runs import checksums, loading
from nacre.runs.checkpoints import Checkpoints
from nacre.runs.checksums import Damaged
from nacre.runs.experiment import resolve
from nacre.runs.loading import Saved

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
    (saved / "7" / "checksums.json").unlink()  # as of nacre 0.1, which had neither
    shutil.rmtree(saved / "7" / "tables")
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


def test_a_damaged_checkpoint_is_passed_over_with_a_notice_and_the_run_continues_bit_for_bit(
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


def test_a_checkpoint_without_its_checksums_is_passed_over_as_any_damaged_one(
    smoke_run: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(smoke_run("point-robot"), tmp_path / "run"))
    file = run / "checkpoints" / "20" / "checksums.json"
    file.unlink()
    assert nacre.load(run).grad_steps == 10
    notice = f"a checkpoint is damaged ({file} is missing); the one at update 10 is taken instead."
    assert notice in capsys.readouterr().err


def test_a_run_without_its_replay_acts_but_does_not_go_on(smoke_run: Callable[[str], Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(smoke_run("point-robot"), tmp_path / "run"))
    for checkpoint in (run / "checkpoints").iterdir():
        shutil.rmtree(checkpoint / "replay")
    returns = nacre.load(run).evaluate(seed=0)[0]
    np.testing.assert_array_equal(returns, nacre.load(smoke_run("point-robot")).evaluate(seed=0)[0])
    with pytest.raises(nacre.NacreError, match=r"has no replay .* can act, but not resume; restore it from a copy"):
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


def test_a_process_whose_files_may_not_grow_ends_in_one_sentence_and_its_run_continues(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from nacre.cli.main import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, resource.RLIM_INFINITY)); sys.exit(main())"
    )
    arguments = ["train", "pearl", "point-robot", "--preset", "smoke", "--out", str(tmp_path / "run")]
    environment = os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1000"}  # it finds, but writes nothing
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"nacre: the checkpoint {tmp_path / 'run' / 'checkpoints' / '20'} could not be written (File too large); there "
        "is none before it; make room or change the permissions there, then resume with "
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
