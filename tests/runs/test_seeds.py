"""Runs of several seeds side by side: the numbers of single runs, stopped and resumed together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_runs import AT_ONCE, BLOCK, SMALL, assert_same_run, saved_steps, timeless

import nacre
from nacre.learning import off_policy


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> list[nacre.RunDirectory]:
    """Seeds 0 and 1 of the uninterrupted run, in one program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(off_policy, "UPDATES_PER_CALL", BLOCK)
        return nacre.train_seeds("pearl", "point-robot", (0, 1), **SMALL, out=tmp_path_factory.mktemp("group"))


def numbers(path: Path) -> np.ndarray:
    return np.array([[float(value) for name, value in row.items() if name != "split"] for row in timeless(path)])


def test_seeds_side_by_side_are_a_run_directory_each_with_the_numbers_of_a_single_run_but_for_rounding(
    group: list[nacre.RunDirectory], uninterrupted: nacre.RunDirectory
) -> None:
    assert [run.path.name for run in group] == ["seed-0", "seed-1"]
    assert [run.experiment.options.seed for run in group] == [0, 1]
    for file, tolerance in (("metrics.csv", 1e-3), ("eval.csv", 1e-3)):
        ours, alone = numbers(group[0].path / file), numbers(uninterrupted.path / file)
        np.testing.assert_allclose(ours, alone, rtol=tolerance, atol=1e-3)
        assert numbers(group[1].path / file).shape == ours.shape
        assert (numbers(group[1].path / file) != ours).any()
    assert nacre.load(group[1].path).evaluate(seed=0)[0].shape == (1, 3, 3)


def test_seeds_side_by_side_interrupted_and_resumed_together_equal_uninterrupted_bit_for_bit(
    group: list[nacre.RunDirectory], small_blocks: None, tmp_path: Path
) -> None:
    runs = nacre.train_seeds("pearl", "point-robot", (0, 1), **SMALL, time_limit=AT_ONCE, out=tmp_path)
    assert [saved_steps(run) for run in runs] == [[5], [5]]
    nacre.resume_seeds([run.path for run in runs])
    for run, expected in zip(runs, group, strict=True):
        assert_same_run(run, expected)


def test_one_of_the_seeds_can_be_resumed_alone_and_the_group_continues_from_what_all_have(
    group: list[nacre.RunDirectory], small_blocks: None, tmp_path: Path
) -> None:
    runs = nacre.train_seeds(
        "pearl", "point-robot", (0, 1), **SMALL, checkpoint_minutes=0.0, time_limit=AT_ONCE, out=tmp_path
    )
    nacre.resume(runs[0].path, time_limit=AT_ONCE)
    assert [saved_steps(run) for run in runs] == [[5, 10], [5]]
    nacre.resume_seeds([run.path for run in runs], time_limit=AT_ONCE)  # seed 0 from 5 again, although it had 10
    assert [saved_steps(run) for run in runs] == [[5, 10], [5, 10]]
    nacre.resume_seeds([run.path for run in runs])
    for run, expected in zip(runs, group, strict=True):
        assert_same_run(run, expected)


def test_seeds_without_a_common_checkpoint_are_to_be_resumed_apart(small_blocks: None, tmp_path: Path) -> None:
    runs = nacre.train_seeds("pearl", "point-robot", (0, 1), **SMALL, time_limit=AT_ONCE, out=tmp_path)
    for _ in range(2):
        nacre.resume(runs[0].path, time_limit=AT_ONCE)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(nacre.NacreError, match="no checkpoint at the same update; resume them apart"):
        nacre.resume_seeds([run.path for run in runs])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_runs_that_differ_in_more_than_their_seed_are_not_resumed_together(
    group: list[nacre.RunDirectory], tmp_path: Path
) -> None:
    other = nacre.RunDirectory.create(tmp_path / "other", nacre.resolve("pearl", "point-robot", "smoke"))
    with pytest.raises(nacre.NacreError, match="differ in more than their seed"):
        nacre.resume_seeds([group[0].path, other.path])
    with pytest.raises(nacre.NacreError, match="twice"):
        nacre.resume_seeds([group[0].path, group[0].path])


def test_nothing_is_begun_where_one_of_the_directories_is_taken(tmp_path: Path) -> None:
    (tmp_path / "seed-1").mkdir()
    with pytest.raises(nacre.NacreError, match="seed-1 exists"):
        nacre.train_seeds("pearl", "point-robot", (0, 1), **SMALL, out=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed-1"]


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_seeds_must_be_different_numbers(seeds: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(nacre.NacreError, match="different"):
        nacre.train_seeds("pearl", "point-robot", seeds, **SMALL, out=tmp_path)
