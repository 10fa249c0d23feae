"""A data set keeps what was logged, is Minari's as well, and gives training what it means by a log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest

import made_up_data as made_up
from made_up_data import FAMILY, ID, TASKS
from nacre.data import cache
from nacre.data.dataset import DataSet, LoggedEpisode, open_data_set
from nacre.errors import NacreError
from nacre.families import gymnasium_ids
from nacre.families.catalog import FAMILIES, make_family
from nacre.families.family import task_text
from nacre.families.point import PointRobot
from nacre.learning import offline

ARRAYS = ("obs", "action", "reward", "training_reward")
CACHED = ("logs", "returns-train-0.9")


def of(split: str) -> list[LoggedEpisode]:
    """The made-up episodes of a split in the order of its logs: task, episode."""
    return sorted((e for e in made_up.made_up() if e.split == split), key=lambda e: e.task)


def test_everything_that_was_logged_comes_back_bit_for_bit(data_set: DataSet) -> None:
    found = list(data_set.episodes())
    assert len(found) == data_set.num_episodes == 21
    for episode, written in zip(found, made_up.made_up(), strict=True):
        for name in ARRAYS:
            array = getattr(episode, name)
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, getattr(written, name))
        plain = dict.fromkeys(ARRAYS, 0)
        assert episode._replace(**plain) == written._replace(**plain)
    assert data_set.num_steps == sum(episode.steps for episode in found)


def test_tasks_family_and_recipe_come_back(data_set: DataSet) -> None:
    assert (data_set.id, data_set.family, data_set.quality) == (ID, FAMILY, "made-up")
    assert data_set.recipe == {"algorithm": "none", "note": "Ω"}
    assert {"nacre", "numpy", "minari"} <= set(data_set.versions)
    for found, given in ((data_set.train, TASKS.train), (data_set.test, TASKS.test)):
        assert found["goal"].dtype == given["goal"].dtype
        np.testing.assert_array_equal(found["goal"], given["goal"])
    parsed = FAMILY.parse_task(task_text(TASKS.train, 1), allow_ood=True)
    np.testing.assert_array_equal(parsed["goal"][0], TASKS.train["goal"][1])


def test_statistics_are_those_of_the_returns_of_each_task(data_set: DataSet) -> None:
    told = data_set.statistics["test"]
    for task in range(2):
        returns = [e.reward.astype(np.float64).sum() for e in of("test") if e.task == task]
        assert told["episodes"][task] == len(returns) == made_up.NUM_EPISODES
        assert told["return_mean"][task] == pytest.approx(np.mean(returns))
        assert (told["return_min"][task], told["return_max"][task]) == pytest.approx((min(returns), max(returns)))


@pytest.mark.parametrize("split", ["train", "test", "other"])
def test_rows_are_the_transitions_in_the_order_task_episode_time(data_set: DataSet, split: str) -> None:
    logs, row = data_set.logs(split, 0.9), 0
    assert isinstance(logs.rows, np.memmap)
    for episode in of(split):
        at = np.arange(row, row + episode.steps)
        got = offline.transitions(logs, at, FAMILY.obs_dim)
        np.testing.assert_array_equal(got.obs, episode.obs[:-1])
        np.testing.assert_array_equal(got.next_obs, episode.obs[1:])
        for name in ("action", "reward", "training_reward"):
            np.testing.assert_array_equal(getattr(got, name), getattr(episode, name))
        ends = np.arange(episode.steps) == episode.steps - 1
        np.testing.assert_array_equal(got.discount, np.where(ends & episode.terminated, 0, 1))
        task = slice(logs.first_row[episode.task], logs.first_row[episode.task] + logs.num_rows[episode.task])
        assert task.start <= row < row + episode.steps <= task.stop
        row += episode.steps
    assert row == len(logs.rows) == logs.num_rows.sum()


def test_what_lies_ahead_of_a_transition_is_that_of_its_episode(data_set: DataSet) -> None:
    """Against a plain loop, over terminated and truncated episodes; the return is of the training reward, to the end
    of the log."""
    logs, row, ends = data_set.logs("train", 0.9), 0, set()
    for episode in of("train"):
        total = 0.0
        for t in reversed(range(episode.steps)):
            total = float(episode.training_reward[t]) + 0.9 * total
            got = offline.logged(logs, np.array([row + t]), FAMILY.obs_dim)
            assert got.return_to_go[0] == pytest.approx(total, rel=1e-5, abs=1e-6)
            assert got.steps_to_end[0] == episode.steps - t
            np.testing.assert_array_equal(got.last_obs[0], episode.obs[-1])
            assert got.last_discount[0] == (0 if episode.terminated else 1)
        row += episode.steps
        ends.add(episode.terminated)
    assert ends == {True, False}
    assert offline.logged(data_set.logs("train", 0.0), np.arange(row), 2).return_to_go == pytest.approx(
        np.array(logs.rows[:, 5])
    )


def test_returns_are_the_same_whatever_part_they_are_computed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    steps = rng.integers(1, 9, 40)
    last_row = np.repeat(np.cumsum(steps) - 1, steps)
    rewards = rng.normal(size=len(last_row))
    whole = np.concatenate(list(cache.returns_to_go(rewards, last_row, 0.99)))
    monkeypatch.setattr(cache, "ROWS", 7)
    parts = list(cache.returns_to_go(rewards, last_row, 0.99))
    assert len(parts) > 10
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_minari_loads_it_and_makes_its_environment(data_set: DataSet) -> None:
    minari = pytest.importorskip("minari")
    loaded = minari.load_dataset(ID)
    first, episode = next(made_up.made_up()), loaded[0]
    np.testing.assert_array_equal(episode.observations, first.obs)
    np.testing.assert_array_equal(episode.infos["training_reward"][1:], first.training_reward)
    assert loaded.total_steps == data_set.num_steps
    told = next(iter(loaded.storage.get_episode_metadata([0])))
    assert (told["task"], told["split"], told["policy_step"], told["seed"]) == (1, "test", 0, 1000)
    environment = loaded.recover_environment()
    _, info = environment.reset(seed=told["seed"], options=told["options"])
    assert info["task"]["goal"] == TASKS.test["goal"][1].tolist()
    environment.close()


def test_minaris_command_shows_it(data_set: DataSet, root: Path) -> None:
    command = [sys.executable, "-c", "from minari.cli import app; app()", "show", ID]
    shown = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})
    assert shown.returncode == 0, shown.stderr
    assert ID in shown.stdout and str(data_set.num_steps) in shown.stdout


def test_a_loaded_data_set_needs_its_episodes_no_more(data_set: DataSet) -> None:
    rows = np.array(data_set.logs("train", 0.9).rows)
    (data_set.path / "data" / "main_data.hdf5").unlink()
    np.testing.assert_array_equal(open_data_set(ID).logs("train", 0.9).rows, rows)
    with pytest.raises(NacreError, match="is missing; restore it"):
        data_set.verify()


@pytest.mark.parametrize("part", CACHED)
@pytest.mark.parametrize("harm", ["truncated", "changed", "missing", "of-another"])
def test_a_damaged_cache_is_made_anew(data_set: DataSet, part: str, harm: str) -> None:
    before = [np.array(x) for x in data_set.logs("train", 0.9)]
    folder = data_set.path / "cache" / part
    file = max(folder.glob("*.npy"), key=lambda file: (file.name.startswith("train-rows"), file.name))
    content = bytearray(file.read_bytes())
    if harm == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif harm == "changed":
        content[-3] ^= 1
        file.write_bytes(content)
    elif harm == "missing":
        file.unlink()
    else:
        told = json.loads((folder / "checksums.json").read_text())
        (folder / "checksums.json").write_text(json.dumps(told | {"content_hash": "another"}))
    after = data_set.logs("train", 0.9)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert sorted(p.name for p in (data_set.path / "cache").iterdir()) == sorted(CACHED)


def test_what_a_killed_program_left_of_a_cache_goes_after_a_day(data_set: DataSet) -> None:
    old, young = (data_set.path / "cache" / f".logs.writing-{number}" for number in (1, 2))
    for left in (old, young):
        left.mkdir(parents=True)
    os.utime(old, (0, 0))
    data_set.logs("train", 0.9)
    assert young.exists() and not old.exists()


def test_two_that_make_the_same_cache_both_get_it(data_set: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    fill = cache._fill_logs

    def while_another_does(source: cache.Source, into: Path) -> None:
        monkeypatch.setattr(cache, "_fill_logs", fill)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        open_data_set(ID).logs("train", 0.9)
        fill(source, into)

    monkeypatch.setattr(cache, "_fill_logs", while_another_does)
    assert len(data_set.logs("train", 0.9).rows) == len(open_data_set(ID).logs("train", 0.9).rows) > 0


def test_a_data_set_with_a_cache_needs_neither_minari_nor_h5py(data_set: DataSet) -> None:
    data_set.logs("train", 0.9)
    code = "import sys; sys.modules.update(minari=None, h5py=None); from nacre.data.dataset import open_data_set as o"
    code += f"; print(len(o('{ID}').logs('train', 0.9).rows)); o('{ID}').verify()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == f"{len(data_set.logs('train', 0.9).rows)}\n"
    assert "data sets need h5py, which is not installed; install nacre with its extra" in done.stderr


def test_a_data_set_that_cannot_be_written_beside_has_its_cache_with_the_users(
    data_set: DataSet, tmp_path: Path
) -> None:
    (data_set.path / "cache").write_text("no folder")
    assert len(data_set.logs("other", 0.9).rows) > 0
    assert list((tmp_path / "cache" / "nacre" / "data").rglob("other-rows.npy"))


def test_a_cache_that_can_lie_nowhere_is_told_in_a_sentence(
    data_set: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (data_set.path / "cache", tmp_path / "file"):
        file.write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    told = rf"neither {data_set.path / 'cache'} nor {tmp_path / 'file'}.* can be written.*; .* or set XDG_CACHE_HOME"
    with pytest.raises(NacreError, match=told):
        data_set.logs("other", 0.9)


# ----------------------------------------------------------------------------------------------------------------------
# Writing


def test_a_name_that_is_taken_is_refused(data_set: DataSet) -> None:
    with pytest.raises(NacreError, match="exists already"):
        made_up.writer()
    data_set.verify()


def test_two_that_write_the_same_name_get_it_once(root: Path) -> None:
    one, two = made_up.writer(), made_up.writer()
    one.add(made_up.made_up())
    two.add([made_up.episode(0, "train", 0)])
    one.close()
    with pytest.raises(NacreError, match="exists already"):
        two.close()
    assert open_data_set(ID).num_episodes == 21


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"reward": np.full(4, np.nan)}, "reward that is not finite"),
        (
            {"action": np.full((4, 2), -1.5)},
            r"an action in an episode of task 0 has 1.5, but actions lie in \[-1, 1\]; scale them",
        ),
        ({"obs": np.zeros((4, 2))}, r"obs of shape \(4, 2\)"),
        ({"action": np.zeros((4, 3))}, r"action of shape \(4, 3\)"),
        ({"reward": np.zeros(0)}, "has obs of shape"),
        ({"reward": np.array(["1"] * 4)}, r"reward that is no array of numbers \(values of type <U1\)"),
        ({"obs": np.zeros((5, 2), complex)}, "obs that is no array of numbers"),
        ({"action": [[0, 0], [1]]}, "action that is no array of numbers"),
        ({"quality": "a\0b"}, r"has the quality 'a\\x00b'"),
        ({"quality": "\udcff"}, "write one in letters"),
        ({"task": 3}, "task 3 of 'train'"),
        ({"split": "validation"}, "task 0 of 'validation'"),
    ],
)
def test_what_no_data_set_can_hold_is_refused_and_nothing_stays(root: Path, changed: Any, told: str) -> None:
    writer = made_up.writer()
    with pytest.raises(NacreError, match=told):
        writer.add([made_up.episode(0, "train", 0), made_up.episode(0, "train", 1, 4)._replace(**changed)])
    assert not any(path.is_file() for path in root.rglob("*"))


def test_a_writer_that_fails_leaves_nothing(root: Path) -> None:
    with pytest.raises(ZeroDivisionError), made_up.writer() as writer:
        writer.add(made_up.made_up())
        raise ZeroDivisionError
    with pytest.raises(NacreError, match="no episodes"), made_up.writer():
        pass
    assert not any(path.is_file() for path in root.rglob("*"))


def test_a_killed_writer_leaves_nothing_under_the_name_and_the_next_one_cleans_up(root: Path) -> None:
    program = "import made_up_data as m, os, signal\nw = m.writer()\nw.add(m.made_up())\nos.kill(os.getpid(), 9)"
    path = os.pathsep.join([str(Path(made_up.__file__).parent), *sys.path])
    killed = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path})
    assert killed.returncode == -9
    assert not (root / ID).exists()
    assert len(list((root / ID).parent.iterdir())) == 1
    with pytest.raises(NacreError):
        open_data_set(ID)
    made_up.write().verify()
    assert [folder.name for folder in (root / ID).parent.iterdir()] == ["made-up-v0"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = made_up.writer()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nacre.data.episodes.EpisodeFile.write", full)
    with pytest.raises(NacreError, match=r"cannot write .*made-up-v0 \(No space left on device\); make room"):
        writer.add(made_up.made_up())
    assert not any(path.is_file() for path in root.rglob("*"))


@dataclass(frozen=True)
class Spans(PointRobot):
    """Its options are tuples and a number."""

    name: ClassVar[str] = "spans-of-data"
    span: tuple[float, float] = (0.0, 1.0)
    counts: tuple[int, ...] = (1, 2)
    wind: float = 0.0


def test_options_that_json_has_as_lists_come_back_as_tuples(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a number that is whole stays what was hashed."""
    minari = pytest.importorskip("minari")
    monkeypatch.setitem(FAMILIES, Spans.name, Spans)
    monkeypatch.setitem(gymnasium.registry, gymnasium_ids.environment_id(Spans.name), None)  # removed afterwards
    gymnasium_ids.register(Spans)
    family = Spans(span=(1, 2.5), counts=(3,), wind=2)
    with made_up.Writer("nacre/spans-v0", family, TASKS.train, TASKS.test, "odd", {}) as writer:
        writer.add(made_up.made_up())
    found = open_data_set("nacre/spans-v0")
    assert found.family == family and isinstance(found.family.span, tuple)
    found.verify()
    assert minari.load_dataset("nacre/spans-v0").recover_environment().unwrapped.family == family
    with pytest.raises(NacreError, match="span is 'x', but must be 2 values"):
        make_family(Spans.name, span="x")


def test_options_of_the_family_and_tasks_outside_its_range_come_back(root: Path) -> None:
    minari = pytest.importorskip("minari")
    family = make_family("sparse-point-robot", goal_radius=0.3)
    far = {"goal": np.array([[5.0, 5.0]])}
    writer = made_up.Writer("nacre/sparse/odd-v3", family, TASKS.train, far, "odd", {})
    writer.add([made_up.episode(0, "test", 0)])
    assert writer.close().family == family
    environment = minari.load_dataset("nacre/sparse/odd-v3").recover_environment()
    assert environment.unwrapped.family == family
    assert environment.reset(options={"task": "goal=5.0,5.0"})[1]["task"] == {"goal": [5.0, 5.0]}
