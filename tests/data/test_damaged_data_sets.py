"""Data sets that are damaged, changed or foreign: what is told, and which file is blamed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made_up_data as made_up
from made_up_data import ID
from nacre.data.dataset import DataSet, open_data_set
from nacre.data.table import Table, save
from nacre.errors import NacreError


@pytest.mark.parametrize("content", [None, b"no table", "of-another"])
def test_without_its_table_it_is_read_from_the_episodes_themselves(data_set: DataSet, content: Any) -> None:
    file, table = data_set.path / "data" / "episodes.npz", data_set.known()
    if content == "of-another":
        save(Table(*(array[:3] for array in table)), file)
    else:
        file.write_bytes(content or b"")
    for found, written in zip(data_set.known(), table, strict=True):
        np.testing.assert_array_equal(found, written)
    assert len(data_set.logs("train", 0.9).rows) > 0


def test_a_table_of_other_episodes_is_named_where_it_misleads(data_set: DataSet) -> None:
    file, table = data_set.path / "data" / "episodes.npz", data_set.known()
    for changed in (
        {"policy_step": table.policy_step + 1}, {"steps": table.steps[::-1].copy()}, {"steps": table.steps + 2**60},
        {"task": table.task + 1},
    ):  # fmt: skip
        save(table._replace(**changed), file)
        for use in (lambda: data_set.logs("train", 0.9), data_set.verify):
            with pytest.raises(NacreError, match=r"episodes.npz is damaged .*; restore it, or remove it"):
                use()
    file.unlink()
    data_set.verify()


def of_an_array(name: str, value: int) -> Any:
    def harm(group: Any) -> None:
        group[name][-1] = value

    return harm


def write_bytes(group: Any) -> None:
    """Into an array of bools, which neither HDF5 nor Minari can read then."""
    array = group["truncations"]
    h5py = pytest.importorskip("h5py")
    content = np.full(array.shape, 0xFF, np.uint8)
    array.id.write(h5py.h5s.ALL, h5py.h5s.ALL, content, mtype=array.id.get_type())


@pytest.mark.parametrize(
    "harm",
    [
        write_bytes, of_an_array("terminations", 1), of_an_array("truncations", 0),
        lambda group: group["infos/training_reward"].write_direct(np.ones(group["infos/training_reward"].shape, "f4")),
        lambda group: group.attrs.modify("options/task", "goal=0.0,1.0"), lambda group: group.attrs.modify("id", 5),
        lambda group: group.__delitem__("terminations"),
    ],
    ids=["bytes", "terminations", "truncations", "training reward", "task", "id", "missing"],
)  # fmt: skip
def test_what_minari_alone_reads_is_verified_too(data_set: DataSet, harm: Any) -> None:
    h5py = pytest.importorskip("h5py")
    data_set.verify()
    with h5py.File(data_set.path / "data" / "main_data.hdf5", "r+") as handle:
        harm(handle["episode_0"])
    with pytest.raises(NacreError, match=r"main_data.hdf5 is damaged") as refused:
        data_set.verify()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("harm", ["total_steps", "return_mean", "episodes"])
def test_statistics_of_other_episodes_are_told(data_set: DataSet, harm: str) -> None:
    file = data_set.path / "data" / "metadata.json"
    told = json.loads(file.read_text())
    own = json.loads(told["nacre"])
    if harm == "total_steps":
        told["total_steps"] += 1
    else:
        own["statistics"]["train"][harm][0] += 1
    file.write_text(json.dumps(told | {"nacre": json.dumps(own)}))
    with pytest.raises(NacreError, match=r"metadata.json is damaged \(it tells of other steps or returns"):
        open_data_set(ID).verify()


def test_a_data_set_with_others_in_its_folder_is_not_removed(data_set: DataSet) -> None:
    inner = made_up.write(f"{ID}/data/inner-v0")
    with pytest.raises(NacreError, match=f"such as {ID}/data/inner-v0; remove these first"):
        data_set.remove()
    inner.verify()
    inner.remove()
    writer = made_up.writer(f"{ID}/written-v0")
    with pytest.raises(NacreError, match=f"such as {ID}/written-v0"):
        data_set.remove()
    writer.abandon()
    data_set.remove()
    assert not data_set.path.exists()


def test_a_hash_that_is_none_names_no_folder_to_remove(data_set: DataSet) -> None:
    file = data_set.path / "data" / "metadata.json"
    told = json.loads(file.read_text())
    for text in ("", "../../.."):
        own = json.loads(told["nacre"]) | {"content_hash": text}
        file.write_text(json.dumps(told | {"nacre": json.dumps(own)}))
        with pytest.raises(NacreError, match="no hash of its content"):
            open_data_set(ID)


def damage_first_number(file: Path) -> None:
    """Changes one bit of a logged number."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(file, "r+") as handle:
        handle["episode_4/actions"][0, 0] += 1e-6


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def drop_episode(file: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(file, "r+") as handle:
        del handle["episode_20"]


def change_attribute(file: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(file, "r+") as handle:
        handle["episode_3"].attrs["task"] = 0
    (file.parent / "episodes.npz").unlink()


@pytest.mark.parametrize(
    "harm", [change_attribute, damage_first_number, cut, drop_episode, lambda file: file.write_text("no HDF5")]
)
def test_damaged_episodes_are_told_in_a_sentence(data_set: DataSet, harm: Any) -> None:
    harm(data_set.path / "data" / "main_data.hdf5")
    for use in (lambda: data_set.logs("train", 0.9), data_set.verify):
        with pytest.raises(NacreError, match=r"is damaged .*; restore it, or collect the data set again") as refused:
            use()
        assert "\n" not in str(refused.value)
    assert not (data_set.path / "cache" / "logs").exists()


@pytest.mark.parametrize("content", ["{", "[]", "17", '{"nacre": "{}"}', '{"nacre": "{"}', '{"nacre": 3}'])
def test_damaged_metadata_are_told_in_a_sentence(data_set: DataSet, content: str) -> None:
    (data_set.path / "data" / "metadata.json").write_text(content)
    with pytest.raises(NacreError, match=r"metadata.json is damaged"):
        open_data_set(ID)


def test_metadata_of_other_tasks_are_damaged(data_set: DataSet) -> None:
    file = data_set.path / "data" / "metadata.json"
    told = json.loads(file.read_text())
    own = json.loads(told["nacre"])
    own["statistics"]["other"]["episodes"].pop()
    file.write_text(json.dumps(told | {"nacre": json.dumps(own)}))
    with pytest.raises(NacreError, match=r"is damaged .*statistics of other tasks"):
        open_data_set(ID)


def test_what_is_no_data_set_of_nacre_is_told(data_set: DataSet, root: Path) -> None:
    with pytest.raises(NacreError, match=f"did you mean '{ID}'"):
        open_data_set("nacre/point-robot/made-up-v1")
    for name in ("../made-up-v0", "", "x", f"{'x' * 300}-v0", "a\0-v0", "nacre/made-up-v0/"):
        with pytest.raises(NacreError, match="is no name of a data set"):
            open_data_set(name)
    file = data_set.path / "data" / "metadata.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in told.items() if name != "nacre"}))
    with pytest.raises(NacreError, match="that nacre did not write"):
        open_data_set(ID)
    shutil.rmtree(root)
    with pytest.raises(NacreError, match="make one with 'nacre collect'"):
        open_data_set(ID)


def test_a_folder_may_be_named_instead(data_set: DataSet, tmp_path: Path) -> None:
    moved = data_set.path.rename(tmp_path / "moved")
    assert open_data_set(moved).content_hash == data_set.content_hash
    assert len(open_data_set(str(moved)).logs("train", 0.9).rows) > 0


def test_tasks_without_data_are_told(root: Path) -> None:
    with made_up.writer() as writer:
        writer.add([made_up.episode(0, "train", 0), made_up.episode(2, "train", 0)])
    with pytest.raises(NacreError, match=r"no data \(task 1\) in its train tasks"):
        writer.close().logs("train", 0.9)
    with pytest.raises(NacreError, match="no data in its test tasks by other tasks' policies"):
        writer.close().logs("other", 0.9)
