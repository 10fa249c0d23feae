"""Tasks from outside of a range: how far outside they lie, in boxes, discs, factors and lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES

DISTANCE = np.linspace(0.05, 0.5, 40)
HAVE_NO_OUTSIDE = {"ant-dir-360", "humanoid-dir", "ml1", "ml10"}


def beyond(name: str, distance: np.ndarray = DISTANCE) -> dict[str, Any]:
    return FAMILIES[name]().tasks_beyond(np.random.default_rng(1), distance)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_with_a_range_has_tasks_outside_of_it(name: str) -> None:
    family = FAMILIES[name]()
    if name in HAVE_NO_OUTSIDE:
        with pytest.raises(NacreError, match="no out-of-distribution tasks"):
            family.sample_ood_tasks(np.random.default_rng(0), 3)
        return
    for tasks in (beyond(name), family.sample_ood_tasks(np.random.default_rng(0), 40)):
        assert not family.in_range(tasks).any()
        family.check_tasks(tasks, allow_ood=True)
        assert {n: v.shape for n, v in tasks.items()} == {
            n: (40, s) if s else (40,) for n, s in family.parameters.items()
        }
    assert family.in_range(beyond(name, np.zeros(40))).all()


def test_the_distance_is_in_units_of_the_ranges_radius() -> None:
    box, disc = beyond("point-robot")["goal"], beyond("ant-goal")["goal"]
    np.testing.assert_allclose(np.abs(box).max(axis=1), 1 + DISTANCE, rtol=0.01)
    np.testing.assert_allclose(np.linalg.norm(disc, axis=1), 3 * (1 + DISTANCE), rtol=0.03)
    velocity = beyond("cheetah-vel")["velocity"]
    np.testing.assert_allclose(np.abs(velocity - 1.5), 1.5 * (1 + DISTANCE), rtol=0.01)
    exponent = np.log(beyond("hopper-gravity")["gravity_scale"]) / np.log(1.5)  # a factor stays above 0
    np.testing.assert_allclose(np.abs(exponent), 3 * (1 + DISTANCE), rtol=0.01)
    length = beyond("reacher-inversion")["robot"][:, 0]
    np.testing.assert_allclose(np.abs(length - 1), 0.2 * (1 + DISTANCE))


def test_in_a_list_tasks_lie_between_two() -> None:
    direction = beyond("cheetah-dir")["direction"]
    np.testing.assert_allclose(1 - np.abs(direction), DISTANCE)
    assert (beyond("cheetah-dir", np.array([1.0, 7.0]))["direction"] == 0).all()
    angle = beyond("ant-dir")["angle"]
    np.testing.assert_allclose(np.minimum(angle, np.pi - angle), np.pi / 2 * DISTANCE)
