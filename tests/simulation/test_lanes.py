"""Whose lanes are: threads that play at once, what failed, and what waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.errors import NacreError
from nacre.families.family import Family, num_tasks
from nacre.families.half_cheetah import CheetahVel
from nacre.families.point import PointRobot
from nacre.simulation import lanes, rollout
from nacre.simulation.lanes import MAX_IDLE, close_idle_lanes, lent_lanes, make_lanes
from nacre.types import Agent
from swinging import Balls


class ShortCheetah(CheetahVel):
    """cheetah-vel for 20 steps."""

    horizon = 20


DRIFTING = Agent(
    begin=lambda params, task, key: {"sum": jnp.zeros(num_tasks(task))},
    # Noise, and what the rewards so far say: another lane's physics would change all that follows.
    act=lambda params, memory, obs, key, explore: (
        jnp.tanh(jax.random.normal(key, (len(obs), len(params))) + memory["sum"][:, None] + obs[:, :1]), memory
    ),
    observe=lambda params, memory, transition: {"sum": memory["sum"] + transition.reward},
    end_episode=lambda params, memory, key: memory,
    explores=lambda episode, scored_episode: True,
)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_waits() -> Iterator[None]:
    close_idle_lanes()
    yield
    close_idle_lanes()


def returns(family: Family, seed: int) -> np.ndarray:
    tasks = family.sample_tasks(np.random.default_rng(0), 3)
    return rollout.evaluate(family, tasks, DRIFTING, jnp.zeros(family.action_dim), jax.random.key(seed), 2, 1)


@pytest.mark.parametrize("family", [ShortCheetah(), Balls()], ids=lambda family: family.name)
def test_threads_that_play_a_family_at_once_get_what_they_get_alone(family: Family) -> None:
    alone = [returns(family, seed) for seed in range(4)]
    assert (alone[0] != alone[1]).all()
    barrier = threading.Barrier(4)

    def at_once(seed: int) -> list[np.ndarray]:
        barrier.wait()
        return [returns(family, seed) for _ in range(5)]

    with ThreadPoolExecutor(4) as threads:
        for found, expected in zip(threads.map(at_once, range(4)), alone, strict=True):
            np.testing.assert_array_equal(found, [expected] * 5)


def test_lanes_are_lent_to_one_at_a_time_and_used_again() -> None:
    family = ShortCheetah()
    with lent_lanes(family, 2) as first, lent_lanes(family, 2) as second:
        assert first is not second
    with lent_lanes(family, 2) as again, lent_lanes(family, 2) as also, lent_lanes(family, 3) as other:
        assert {id(again), id(also)} == {id(first), id(second)}
        assert other not in (first, second)


class Closing:
    """Lanes that note when they are closed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Closing]:
    made: list[Closing] = []
    monkeypatch.setattr(lanes, "make_lanes", lambda family, num: made.append(Closing()) or made[-1])
    return made


def test_what_failed_is_closed_and_lent_to_nobody(made: list[Closing]) -> None:
    with pytest.raises(NacreError, match="broken"), lent_lanes(ShortCheetah(), 2):
        raise NacreError("broken")
    with lent_lanes(ShortCheetah(), 2):
        pass
    assert [one.closed for one in made] == [1, 0]


def test_a_few_wait_and_all_can_be_closed(made: list[Closing]) -> None:
    for num in range(1, MAX_IDLE + 3):
        with lent_lanes(ShortCheetah(), num):
            pass
    assert [one.closed for one in made] == [1, 1] + [0] * MAX_IDLE
    close_idle_lanes()
    assert [one.closed for one in made] == [1] * len(made)


@pytest.mark.parametrize("family", [PointRobot(), ShortCheetah(), Balls()], ids=lambda family: family.name)
def test_some_lanes_start_anew_while_the_others_go_on(family: Family) -> None:
    """With generators of their own, each lane goes as a lane alone with the same generator."""
    task = family.sample_tasks(np.random.default_rng(0), 3)
    alone = {name: values[1:2] for name, values in task.items()}
    together, single = make_lanes(family, 3), make_lanes(family, 1)
    rng = np.random.default_rng(5)
    actions = rng.uniform(-1, 1, (8, 3, family.action_dim)).astype(np.float32)
    together.reset(task, *map(np.random.default_rng, (1, 2, 3)))
    first = single.reset(alone, np.random.default_rng(9))
    for action in actions[:4]:
        together.step(action, task)
    start = together.reset(task, np.random.default_rng(9), lanes=np.array([1]))
    np.testing.assert_array_equal(start[1], first[0])
    for action in actions[4:]:
        ours, theirs = together.step(action, task), single.step(action[1:2], alone)
        np.testing.assert_allclose(ours.obs[1], theirs.obs[0], rtol=1e-6)
        np.testing.assert_allclose(ours.reward[1], theirs.reward[0], rtol=1e-6)
    untouched = make_lanes(family, 3)
    untouched.reset(task, *map(np.random.default_rng, (1, 2, 3)))
    for action in actions:
        expected = untouched.step(action, task)
    np.testing.assert_array_equal(ours.obs[[0, 2]], expected.obs[[0, 2]])
    for one in (together, single, untouched):
        one.close()
