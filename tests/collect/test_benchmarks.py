"""Published benchmarks: their tasks are the published ones, and their families take them."""

from __future__ import annotations

import numpy as np
import pytest

from nacre.data.benchmarks import BENCHMARKS, Benchmark, find
from nacre.errors import NacreError
from nacre.families.catalog import make_family
from nacre.families.family import num_tasks
from nacre.families.point import STEP_SIZE, distance

PUBLISHED = {("macaw", "cheetah-dir"), ("macaw", "cheetah-vel")}
"""Tasks that do not depend on the task seed, beside all of CSRO's."""
ENTRIES = [entry for entries in BENCHMARKS.values() for entry in entries.values()]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.name}-{entry.family}")
def test_a_benchmark_has_as_many_tasks_as_it_says_all_within_its_family(entry: Benchmark) -> None:
    family, (train, test) = entry.make_family(), entry.tasks(0)
    assert (num_tasks(train), num_tasks(test)) == (entry.num_train, entry.num_test)
    assert family.in_range(train).all() and family.in_range(test).all()
    assert family.horizon == entry.horizon
    of_seeds = [
        np.concatenate([np.ravel(x) for part in entry.tasks(seed) for x in part.values()]) for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(of_seeds[0], of_seeds[1])
    is_published = entry.name == "csro" or (entry.name, entry.family) in PUBLISHED
    assert np.array_equal(of_seeds[0], of_seeds[2]) == is_published
    if family.disjoint:
        seen = {tuple(np.ravel(value)) for value in next(iter(train.values()))}
        assert not any(tuple(np.ravel(value)) in seen for value in next(iter(test.values())))


def test_csro_tests_on_every_fourth_task_of_a_grid() -> None:
    train, test = find("csro", "cheetah-vel").tasks(5)
    np.testing.assert_allclose(test["velocity"][[0, -1]], [1.103, 2.949], atol=1e-3)
    np.testing.assert_allclose(np.sort(np.concatenate([train["velocity"], test["velocity"]])), np.linspace(1, 3, 40))
    goals = find("csro", "point-robot-half-circle").tasks(5)[1]["goal"]
    np.testing.assert_allclose(np.arctan2(goals[:, 1], goals[:, 0]), np.pi * np.arange(2, 40, 4) / 39)


def test_macaw_tests_on_its_five_velocities_and_on_what_it_trains_on() -> None:
    np.testing.assert_allclose(
        find("macaw", "cheetah-vel").tasks(0)[1]["velocity"], [0.225, 0.6, 1.2, 1.8, 2.025], atol=1e-12
    )
    train, test = find("macaw", "cheetah-dir").tasks(0)
    assert train["direction"].tolist() == test["direction"].tolist() == [-1.0, 1.0]


def test_unicorns_walkers_differ_in_masses_and_frictions_alone() -> None:
    exponents = find("unicorn", "walker-params").tasks(3)[0]["exponents"]
    np.testing.assert_array_equal(exponents[:, 8:41], 0.0)
    assert (exponents[:, :8] != 0).all() and (exponents[:, 41:] != 0).all()


def test_what_can_be_earned_on_csros_point_robot() -> None:
    """With the goal known -3.86; by the best straight line without -15.1; by standing still -20.0."""
    goals = find("csro", "point-robot-half-circle").tasks(0)[1]["goal"]
    time = np.arange(1, 21)

    def earned(path: np.ndarray) -> float:
        return float(-distance(path, goals[:, None]).sum(axis=1).mean())

    reach = STEP_SIZE * time[:, None]  # on either axis: the nearest place to the goal is within it
    known = np.clip(goals[:, None], -reach, reach)
    assert earned(known) == pytest.approx(-3.86, abs=0.01)
    blind = [
        earned(np.stack([np.zeros(20), np.minimum(time * STEP_SIZE * speed, stop)], axis=1)[None])
        for speed in np.linspace(0.1, 1, 10)
        for stop in np.linspace(0, 1, 51)
    ]
    assert max(blind) == pytest.approx(-15.1, abs=0.1)
    assert earned(np.zeros((1, 20, 2))) == pytest.approx(-20.0)
    assert make_family("point-robot-half-circle").horizon == 20


def test_an_unknown_benchmark_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(NacreError, match="did you mean 'csro'"):
        find("csor", "cheetah-vel")
    with pytest.raises(NacreError, match="family of the benchmark macaw"):
        find("macaw", "hopper-params")
