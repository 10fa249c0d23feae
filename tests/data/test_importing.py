"""Data of other programs: MACAW's buffers, NumPy trajectories, D4RL's files; and out again."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made_up_data as made_up
from made_up_data import FAMILY
from nacre.data import exporting, importing
from nacre.data.dataset import DataSet, LoggedEpisode, open_data_set
from nacre.data.episodes import EpisodeFile
from nacre.data.exporting import export_data_set
from nacre.data.importing import import_data_set
from nacre.data.slices import slice_data_set
from nacre.errors import NacreError
from nacre.families.catalog import make_family

h5py = pytest.importorskip("h5py")
NEW = "nacre/point-robot/imported-v0"
LENGTHS = (4, 1, 6, 3)
ONE = {"task": "goal=0,1", "path": "x"}
EPISODES = [made_up.episode(0, "train", number, steps) for number, steps in enumerate(LENGTHS)]


def listed(folder: Path, *entries: dict[str, Any]) -> Path:
    file = folder / "tasks.json"
    file.write_text(json.dumps(entries))
    return file


def assert_same_steps(found: list[LoggedEpisode], expected: list[LoggedEpisode]) -> None:
    assert [e.steps for e in found] == [e.steps for e in expected]
    for episode, written in zip(found, expected, strict=True):
        for name in ("obs", "action", "reward"):
            np.testing.assert_array_equal(getattr(episode, name), getattr(written, name))


# ----------------------------------------------------------------------------------------------------------------------
# MACAW


def macaw_rows(episodes: list[LoggedEpisode], discount: float = 0.99) -> dict[str, np.ndarray]:
    """What MACAW's buffer writes: each episode from its last step to its first."""
    rows: dict[str, list[Any]] = {name: [] for name in ("obs", "actions", "next_obs", "terminal_obs", "rewards",
                                                        "mc_rewards", "terminals", "terminal_discounts")}  # fmt: skip
    for episode in episodes:
        total = 0.0
        for t in reversed(range(episode.steps)):
            total = float(episode.reward[t]) + discount * total
            one = [episode.obs[t], episode.action[t], episode.obs[t + 1], episode.obs[-1], [episode.reward[t]], [total],
                   [episode.terminated and t == episode.steps - 1], [discount ** (episode.steps - t)]]  # fmt: skip
            for column, value in zip(rows.values(), one, strict=True):
                column.append(value)
    return {name: np.array(column, bool if name == "terminals" else np.float32) for name, column in rows.items()}


def write_macaw(file: Path, rows: dict[str, np.ndarray], discount: float = 0.99) -> None:
    with h5py.File(file, "w") as handle:
        for name, column in rows.items():
            handle.create_dataset(name, data=column, compression="lzf")
        handle["discount_factor"] = discount


@pytest.mark.parametrize("piece", [1 << 17, 5, 1])
def test_macaws_reversed_rows_become_episodes(root: Path, tmp_path: Path, piece: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(importing, "ROWS", piece)
    write_macaw(tmp_path / "one.hdf5", macaw_rows(EPISODES))
    write_macaw(tmp_path / "two.hdf5", macaw_rows(EPISODES[2:]))
    tasks = listed(tmp_path, {"task": "goal=0,1", "path": "one.hdf5"},
                   {"task": "goal=1,0", "path": "two.hdf5", "split": "test", "quality": "expert"})  # fmt: skip
    data = import_data_set("macaw", tmp_path, NEW, FAMILY, tasks, quality="replay")
    found = list(data.episodes())
    assert_same_steps(found, EPISODES + EPISODES[2:])
    assert [(e.split, e.task, e.quality) for e in found] == [("train", 0, "replay")] * 4 + [("test", 0, "expert")] * 2
    np.testing.assert_array_equal(data.train["goal"], [[0, 1]])
    np.testing.assert_array_equal(data.test["goal"], [[1, 0]])
    last = data.logs("train", 0.9).last_row
    np.testing.assert_array_equal(last, np.repeat(np.cumsum(LENGTHS) - 1, LENGTHS))


def test_a_buffer_of_macaw_that_went_round_loses_no_step(tmp_path: Path) -> None:
    """Its newest rows overwrite the last steps of the oldest episode, and the newest episode continues at its begin."""
    rows = {name: np.roll(column, 2, axis=0)[:-1] for name, column in macaw_rows(EPISODES).items()}
    write_macaw(tmp_path / "one.hdf5", rows)
    found = list(importing.macaw_episodes(tmp_path / "one.hdf5"))
    assert sum(len(steps.reward) for steps in found) == sum(LENGTHS) - 1
    for steps in found:
        whole = next(e for e in EPISODES if steps.reward[0] in e.reward)
        first = int(np.flatnonzero(whole.reward == steps.reward[0])[0])
        np.testing.assert_array_equal(steps.obs, whole.obs[first : first + len(steps.obs)])


def test_a_flag_at_the_time_limit_is_no_termination(root: Path, tmp_path: Path) -> None:
    """Nor one in a family that cannot terminate."""
    family = make_family("hopper-params")
    rng = np.random.default_rng(0)

    def rows(steps: int) -> dict[str, np.ndarray]:
        episode = made_up.episode(0, "train", 0, steps, terminated=True)
        return macaw_rows(
            [episode._replace(obs=rng.normal(size=(steps + 1, 11)), action=rng.uniform(-1, 1, (steps, 3)))]
        )

    for name, steps in (("fell", 7), ("limit", family.horizon)):
        write_macaw(tmp_path / name, rows(steps))
    task = " ".join(f"{name}={','.join(['1'] * max(1, size))}" for name, size in family.parameters.items())
    tasks = listed(tmp_path, {"task": task, "path": "fell"}, {"task": task, "path": "limit"})
    found = list(import_data_set("macaw", tmp_path, "nacre/hopper/x-v0", family, tasks).episodes())
    assert [(e.steps, e.terminated) for e in found] == [(7, True), (family.horizon, False)]


# ----------------------------------------------------------------------------------------------------------------------
# NumPy files


def object_rows(episode: LoggedEpisode, columns: int) -> np.ndarray:
    rows = np.empty((episode.steps, columns), object)
    for t in range(episode.steps):
        row = [episode.obs[t].astype(np.float64), episode.action[t], np.float64(episode.reward[t]),
               episode.obs[t + 1].astype(np.float64), 1.0 if t == episode.steps - 1 else False]  # fmt: skip
        for column in range(columns):
            rows[t, column] = row[column]
    return rows


@pytest.mark.parametrize("columns", [4, 5])
def test_trajectories_in_numpy_files_become_episodes(root: Path, tmp_path: Path, columns: int) -> None:
    (tmp_path / "goal_idx0").mkdir()
    for number, (step, sample) in enumerate([(100, 0), (100, 1), (2000, 0), (2000, 1)]):
        name = f"trj_evalsample{sample}_step{step}.npy"
        np.save(tmp_path / "goal_idx0" / name, object_rows(EPISODES[number], columns))
    tasks = listed(tmp_path, {"task": "goal=0,1", "path": "goal_idx0"})
    found = list(import_data_set("npy", tmp_path, NEW, FAMILY, tasks).episodes())
    assert_same_steps(found, EPISODES)
    assert [e.policy_step for e in found] == [100, 100, 2000, 2000]


@pytest.mark.parametrize("side_by_side", [False, True])
def test_steps_in_numpy_files_become_episodes(root: Path, tmp_path: Path, side_by_side: bool) -> None:
    """One after another, or each trajectory (here with two episodes) beside the next, [step, trajectory, ...]."""
    folder, episodes = tmp_path / "seed_0_goal_1", EPISODES
    folder.mkdir()
    if side_by_side:
        episodes = [made_up.episode(0, "train", number, steps) for number, steps in enumerate((5, 2, 3, 4))]
    columns = {"obs": [e.obs[:-1] for e in episodes], "next_obs": [e.obs[1:] for e in episodes],
               "actions": [e.action for e in episodes], "rewards": [e.reward[:, None] for e in episodes],
               "terminals": [np.zeros((e.steps, 1)) for e in episodes]}  # fmt: skip
    for name, column in columns.items():
        flat = np.concatenate(column)
        np.save(folder / f"{name}.npy", np.stack(np.split(flat, 2), axis=1) if side_by_side else flat)
    tasks = listed(tmp_path, {"task": "goal=0,1", "path": "seed_0_goal_1"})
    assert_same_steps(list(import_data_set("npy", tmp_path, NEW, FAMILY, tasks).episodes()), episodes)


# ----------------------------------------------------------------------------------------------------------------------
# D4RL, Minari


def test_what_is_exported_as_d4rl_comes_back(data_set: DataSet, tmp_path: Path) -> None:
    export_data_set(data_set, tmp_path / "out", "d4rl")
    assert len(list((tmp_path / "out").glob("*.hdf5"))) == 7
    data = import_data_set("d4rl", tmp_path / "out", NEW, FAMILY, tmp_path / "out" / "tasks.json")
    for split in ("train", "test"):
        np.testing.assert_array_equal(data.tasks(split)["goal"], data_set.tasks(split)["goal"])
    for split in ("train", "test", "other"):
        old, new = data_set.logs(split, 0.9), data.logs(split, 0.9)
        np.testing.assert_array_equal(old.last_row, new.last_row)
        np.testing.assert_array_equal(old.return_to_go, new.return_to_go)
        ours = np.delete(old.rows, 6, axis=1)  # point-robot cannot terminate, whatever a file says
        np.testing.assert_array_equal(ours, np.delete(new.rows, 6, axis=1))
        assert (new.rows[:, 6] == 1).all()


@pytest.mark.parametrize("layout", ["d4rl", "minari"])
def test_an_export_without_room_leaves_nothing_and_says_so(
    data_set: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """Nor what an export left that was killed a day ago. Of a full disk h5py makes a RuntimeError at times."""

    def fails(*arguments: Any) -> None:
        raise RuntimeError("Can't write data (file write failed: File too large)")

    old, young = (tmp_path / f".out.writing-{number}" for number in (1, 2))
    for left in (old, young):
        left.mkdir()
    os.utime(old, (0, 0))
    monkeypatch.setattr(exporting, "_append", fails)
    monkeypatch.setattr(EpisodeFile, "write", fails)
    with pytest.raises(NacreError, match=rf"cannot write {tmp_path / 'out'} \(Can't write data"):
        export_data_set(data_set, tmp_path / "out", layout)
    assert [path for path in tmp_path.iterdir() if "out" in path.name] == [young]


def write_d4rl(file: Path, episodes: list[LoggedEpisode], flag: str = "terminals", **changed: Any) -> None:
    """A file without next_observations, where `flag` is set at the end of every episode; `changed` by name."""
    ends = np.concatenate([np.arange(e.steps) == e.steps - 1 for e in episodes])
    arrays = {"observations": np.concatenate([e.obs[:-1] for e in episodes]),
              "actions": np.concatenate([e.action for e in episodes]),
              "rewards": np.concatenate([e.reward for e in episodes]),
              "terminals": ends & (flag == "terminals"), "timeouts": ends & (flag == "timeouts")}  # fmt: skip
    with h5py.File(file, "w") as handle:
        for name, array in (arrays | changed).items():
            handle[name] = array


@pytest.mark.parametrize("flag", ["terminals", "timeouts"])
def test_without_next_observations_the_last_step_before_a_time_limit_is_left_out(
    root: Path, tmp_path: Path, flag: str
) -> None:
    """By either flag: no episode of point-robot terminates."""
    write_d4rl(tmp_path / "x", EPISODES, flag)
    found = list(import_data_set("d4rl", tmp_path, NEW, FAMILY, listed(tmp_path, ONE)).episodes())
    assert [e.steps for e in found] == [3, 5, 2]
    for episode, whole in zip(found, [e for e in EPISODES if e.steps > 1], strict=True):
        np.testing.assert_array_equal(episode.obs, whole.obs[:-1])
        np.testing.assert_array_equal(episode.reward, whole.reward[:-1])
        assert not episode.terminated


def test_without_next_observations_a_step_that_terminates_stays(tmp_path: Path) -> None:
    """Its last observation stands for its successor, which no method looks at; at the horizon it is a time limit."""
    family, rng = make_family("hopper-params"), np.random.default_rng(0)
    episodes = [
        made_up.episode(0, "train", 0, steps)._replace(obs=rng.normal(size=(steps + 1, 11)).astype(np.float32))
        for steps in (7, family.horizon)
    ]
    write_d4rl(tmp_path / "x", episodes)
    fell, limit = importing._episodes(importing.Part("train", 0, tmp_path / "x", "q"), "d4rl", family)
    assert (fell.terminated, limit.terminated) == (True, False)
    np.testing.assert_array_equal(fell.reward, episodes[0].reward)
    np.testing.assert_array_equal(fell.obs, episodes[0].obs[[*range(7), 6]])
    np.testing.assert_array_equal(limit.reward, episodes[1].reward[:-1])
    np.testing.assert_array_equal(limit.obs, episodes[1].obs[:-1])


def test_training_rewards_are_read_without_next_observations_too(tmp_path: Path) -> None:
    training = np.arange(float(sum(LENGTHS)))
    write_d4rl(tmp_path / "x", EPISODES, "timeouts", **{"infos/training_reward": training})
    found = importing._episodes(importing.Part("train", 0, tmp_path / "x", "q"), "d4rl", FAMILY)
    assert [e.training_reward.tolist() for e in found] == [[0, 1, 2], [5, 6, 7, 8, 9], [11, 12]]


def test_a_file_of_other_tasks_policies_names_no_training_task(root: Path, tmp_path: Path) -> None:
    write_d4rl(tmp_path / "x", EPISODES)
    tasks = listed(tmp_path, ONE, {"task": "goal=1,0", "path": "x", "split": "test"},
                   {"task": "goal=1,0", "path": "x", "split": "other"})  # fmt: skip
    data = import_data_set("d4rl", tmp_path, NEW, FAMILY, tasks)
    expected = {("train", 0), ("test", 0), ("other", -1)}
    assert {(e.split, e.policy_task) for e in data.episodes()} == expected
    part = slice_data_set(data, "nacre/point-robot/part-v0", test_tasks=[0])
    assert {(e.split, e.policy_task) for e in part.episodes()} == expected


def test_what_is_exported_as_minari_is_a_data_set_a_task(data_set: DataSet, tmp_path: Path, monkeypatch: Any) -> None:
    minari = pytest.importorskip("minari")
    export_data_set(data_set, tmp_path / "out", "minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "out"))
    sets = minari.list_local_datasets()
    assert len(sets) == 7
    loaded = minari.load_dataset("nacre/point-robot/made-up/train-002-v0")
    expected = [e for e in made_up.made_up() if (e.split, e.task) == ("train", 2)]
    for found, episode in zip(loaded.iterate_episodes(), expected, strict=True):
        np.testing.assert_array_equal(found.observations, episode.obs)
    assert loaded.total_steps == sum(e.steps for e in expected)
    environment = loaded.recover_environment()
    assert environment.reset()[1]["task"]["goal"] == data_set.train["goal"][2].tolist()


# ----------------------------------------------------------------------------------------------------------------------
# What cannot be read


@pytest.mark.parametrize("layout", ["macaw", "d4rl"])
@pytest.mark.parametrize("kind", ["S1", "complex64", [("x", "f4")]], ids=["text", "complex", "compound"])
@pytest.mark.parametrize("name", ["terminals", "rewards", "actions"])
def test_an_array_that_is_not_of_real_numbers_is_refused_by_its_name(
    root: Path, tmp_path: Path, layout: str, kind: Any, name: str
) -> None:
    if layout == "macaw":
        rows = macaw_rows(EPISODES)
        write_macaw(tmp_path / "x", rows | {name: rows[name].astype(kind)})
    else:
        shape = (sum(LENGTHS), 2) if name == "actions" else sum(LENGTHS)
        write_d4rl(tmp_path / "x", EPISODES, **{name: np.zeros(shape).astype(kind)})
    with pytest.raises(NacreError, match=f"x cannot be read as {layout} .'{name}' is no array of numbers but of"):
        import_data_set(layout, tmp_path, NEW, FAMILY, listed(tmp_path, ONE))


@pytest.mark.parametrize("column", range(5))
def test_a_numpy_file_with_text_among_its_numbers_is_refused(tmp_path: Path, column: int) -> None:
    rows = object_rows(EPISODES[0], 5)
    rows[:, column] = "0"
    np.save(tmp_path / "trj_1.npy", rows)
    with pytest.raises(ValueError, match="is no array of numbers"):
        list(importing.npy_episodes(tmp_path))


@pytest.mark.parametrize("header", [b"{'descr': '<f8', 'shape': (1,", b"{'descr': 'O'," + b" " * 40, b"\xff\0" * 20])
def test_a_damaged_header_of_a_numpy_file_is_one_sentence(root: Path, tmp_path: Path, header: bytes) -> None:
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    (tmp_path / "trj_1.npy").write_bytes(content)
    tasks = listed(tmp_path, {"task": "goal=0,1", "path": "."})
    with pytest.raises(NacreError, match=r"cannot be read as npy \(the header of trj_1.npy is damaged\)"):
        import_data_set("npy", tmp_path, NEW, FAMILY, tasks)


@pytest.mark.parametrize("layout", ["macaw", "d4rl", "npy"])
@pytest.mark.parametrize("content", [b"", b"no HDF5", "cut", "of another layout", "other lengths"])
def test_what_is_damaged_or_foreign_is_one_sentence_and_leaves_nothing(
    root: Path, tmp_path: Path, layout: str, content: Any
) -> None:
    file = tmp_path / "one.hdf5"
    rows = macaw_rows(EPISODES)
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content == "cut":
        write_macaw(file, rows)
        file.write_bytes(file.read_bytes()[:3000])
    elif content == "other lengths":
        write_macaw(file, rows | {"rewards": rows["rewards"][:-2]})
    else:
        with h5py.File(file, "w") as handle:
            handle["x"] = 1
    tasks = listed(tmp_path, {"task": "goal=0,1", "path": "one.hdf5"})
    with pytest.raises(NacreError, match=rf"one.hdf5 cannot be read as {layout} \(.*\); it is damaged, or of") as told:
        import_data_set(layout, tmp_path, NEW, FAMILY, tasks)
    assert "\n" not in str(told.value)
    assert not any(path.is_file() for path in root.rglob("*"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is no list such as"),
        ("[]", "names no task"),
        ('[{"task": "goal=0,1"}]', "is no list such as"),
        ('[{"task": "goal=0,1", "path": "gone"}]', "gone is missing"),
        (f'[{{"task": "goal=0,1", "path": "{"x" * 300}"}}]', "x is missing"),
        ('[{"task": "goal=0,1", "path": "a\\u0000b"}]', "is missing"),
        ('[{"task": "goal=0", "path": "."}]', "is not a task of point-robot"),
        ('[{"task": "goal=0,1", "path": ".", "split": "tset"}]', "did you mean 'test'"),
    ],
)
def test_a_list_of_tasks_that_says_nothing_is_refused(root: Path, tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "tasks.json").write_text(content)
    with pytest.raises(NacreError, match=told):
        import_data_set("npy", tmp_path, NEW, FAMILY, tmp_path / "tasks.json")


def test_steps_of_another_family_are_refused(root: Path, tmp_path: Path) -> None:
    write_macaw(tmp_path / "one.hdf5", macaw_rows(EPISODES))
    tasks = listed(tmp_path, {"task": "direction=1", "path": "one.hdf5"})
    with pytest.raises(NacreError, match=r"has obs of shape \(5, 2\)"):
        import_data_set("macaw", tmp_path, NEW, make_family("cheetah-dir"), tasks)
    with pytest.raises(NacreError):
        open_data_set(NEW)
