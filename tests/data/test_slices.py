"""Parts of data sets, and data sets of other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import made_up_data as made_up
from command_line import json_output, output
from nacre.data.dataset import DataSet
from nacre.data.slices import slice_data_set
from nacre.errors import NacreError

NEW = "nacre/point-robot/part-v0"


def test_a_slice_by_quality_has_the_episodes_of_that_quality(data_set: DataSet) -> None:
    part = slice_data_set(data_set, NEW, qualities=["expert"])
    expected = [e for e in made_up.made_up() if e.quality == "expert"]
    for found, episode in zip(part.episodes(), expected, strict=True):
        assert (found.task, found.split, found.policy_step) == (episode.task, episode.split, episode.policy_step)
        np.testing.assert_array_equal(found.obs, episode.obs)
    assert part.quality == "expert"
    assert part.recipe["slice_of"]["hash"] == data_set.content_hash
    np.testing.assert_array_equal(part.train["goal"], data_set.train["goal"])


def test_a_slice_by_task_renumbers_tasks_and_whose_policies_acted(data_set: DataSet) -> None:
    part = slice_data_set(data_set, NEW, train_tasks=[2, 0], test_tasks=[1])
    np.testing.assert_array_equal(part.train["goal"], data_set.train["goal"][[2, 0]])
    np.testing.assert_array_equal(part.test["goal"], data_set.test["goal"][[1]])
    old = {"train": {2: 0, 0: 1}, "test": {1: 0}, "other": {1: 0}}
    expected = [e for e in made_up.made_up() if e.task in old[e.split]]
    for found, episode in zip(part.episodes(), expected, strict=True):
        assert found.task == old[episode.split][episode.task]
        assert found.policy_task == (-1 if episode.split == "other" else found.task)
        np.testing.assert_array_equal(found.action, episode.action)


def test_a_slice_by_the_policys_steps_includes_both_bounds(data_set: DataSet) -> None:
    steps = [e.policy_step for e in slice_data_set(data_set, NEW, policy_steps=(100, 200)).episodes()]
    assert set(steps) == {100, 200}


def test_a_slice_keeps_the_references_of_its_tasks(root: object) -> None:
    references = {"train": {"random": [0.0, 1.0, 2.0], "reference": [10.0, 11.0, 22.0]}}
    whole = made_up.write(references=references)
    mean = whole.statistics["train"]["return_mean"][2]
    assert whole.normalised("train")[2] == pytest.approx(100 * (mean - 2) / 20)
    assert whole.normalised("test") is None
    part = slice_data_set(whole, NEW, train_tasks=[2])
    assert part.references == {"train": {"random": [2.0], "reference": [22.0]}}
    assert part.normalised("train")[0] == whole.normalised("train")[2]


def test_a_task_without_episodes_has_neither_returns_nor_a_score(
    root: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """With rewards below 0, a return of 0 would look better than the reference."""
    with made_up.writer(NEW, references={"train": {"random": [-300.0] * 3, "reference": [-30.0] * 3}}) as into:
        into.add(one for one in made_up.made_up() if (one.split, one.task) != ("train", 1))
    whole = into.close()
    assert whole.statistics["train"]["episodes"] == [3, 0, 3]
    scores = whole.normalised("train")
    assert scores is not None and [score is None for score in scores] == [False, True, False]
    assert all(values[1] is None and values[0] is not None for values in whole.returns("train").values())
    told = json_output(capsys, "data", "show", NEW, "--json")["splits"]["train"]
    assert told["return_mean"][1] is told["return_max"][1] is told["normalised"][1] is None
    line = next(line for line in output(capsys, "data", "show", NEW).splitlines() if line.lstrip().startswith("1 "))
    assert line.split()[-6:] == ["0", "0", "-", "-", "-", "-"]


def test_tasks_may_be_an_array_a_range_or_none(data_set: DataSet) -> None:
    for name, tasks in (("a", np.array([2, 0])), ("b", range(2, -1, -2)), ("c", (np.int64(2), 0))):
        part = slice_data_set(data_set, f"x/{name}-v0", train_tasks=tasks, policy_steps=np.array([0, 100]))
        np.testing.assert_array_equal(part.train["goal"], data_set.train["goal"][[2, 0]])
        assert (part.recipe["slice_of"]["train_tasks"], part.recipe["slice_of"]["policy_steps"]) == ([2, 0], [0, 100])
        assert part.recipe["slice_of"]["test_tasks"] is None
    none = slice_data_set(data_set, "x/none-v0", train_tasks=[])
    assert len(none.train["goal"]) == 0 and {e.split for e in none.episodes()} == {"test", "other"}
    assert none.recipe["slice_of"]["train_tasks"] == []
    with pytest.raises(NacreError, match="x/none-v0 has no train tasks"):
        slice_data_set(none, NEW, train_tasks=[0])


def test_a_reference_that_is_no_better_than_random_gives_no_normalised_return(root: Path) -> None:
    references = {"train": {"random": [0.0, 5.0, 2.0], "reference": [10.0, -5.0, 2.0]}}
    found = made_up.write(references=references).normalised("train")
    assert found is not None
    assert found[0] is not None and found[1:] == [None, None]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"qualities": ["expart"]}, "did you mean 'expert'"),
        ({"train_tasks": [3]}, "has train tasks 0 to 2"),
        ({"test_tasks": [0, 0]}, "has test tasks 0 to 1"),
        ({"policy_steps": (7, 8)}, "would have no episodes"),
    ],
)
def test_a_slice_of_nothing_is_refused(data_set: DataSet, asked: dict, told: str) -> None:
    with pytest.raises(NacreError, match=told):
        slice_data_set(data_set, NEW, **asked)


def test_a_slice_of_a_damaged_data_set_is_refused(data_set: DataSet) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(data_set.path / "data" / "main_data.hdf5", "r+") as file:
        file["episode_2/rewards"][0] += 1
    with pytest.raises(NacreError, match="is damaged"):
        slice_data_set(data_set, NEW)
    assert not (data_set.path.parent / "part-v0").exists()
