"""Whose lanes are: threads that play at once, what failed, and what waits; memories that a step changes in place."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.algorithms import maml
from nacre.errors import NacreError
from nacre.families.family import Family, num_tasks
from nacre.families.half_cheetah import CheetahVel
from nacre.families.point import PointRobot
from nacre.presets.maml import PrompSettings
from nacre.simulation import lanes, rollout
from nacre.simulation.lanes import MAX_IDLE, close_idle_lanes, lent_lanes, make_lanes
from nacre.types import Agent, fold_in, select, split
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


# ----------------------------------------------------------------------------------------------------------------------
# Steps that change a memory in place


class FallingCheetah(ShortCheetah):
    """Lanes end when they have gone forward."""

    can_terminate = True

    def terminated(self, after: Any) -> Any:
        return after.qpos[:, 0] > 0.02


@pytest.mark.parametrize("family", [ShortCheetah(), FallingCheetah()], ids=["all live", "some end"])
def test_a_trial_of_maml_is_that_of_a_plain_loop_and_its_memories_stay_readable(family: Family) -> None:
    config = PrompSettings(hidden_dim=4, num_hidden_layers=1)
    agent, params = maml.make_agent(family, config), maml.init(family, config, 0).learner.policy
    task, key = family.sample_tasks(np.random.default_rng(0), 4), jax.random.key(0)
    played = list(rollout.trial(family, agent, params, task, key, 2))
    assert not family.can_terminate or len({int(n) for one in played for n in one.episode.length}) > 1
    begin_key, key = split(key)
    act, observe = jax.jit(agent.act, static_argnums=4), jax.jit(agent.observe)
    select_lanes, end_episode = jax.jit(select), jax.jit(agent.end_episode)
    memory = jax.jit(agent.begin)(params, task, begin_key)
    for index, one in enumerate(played):
        episode_key, end_key = split(fold_in(key, index))
        act_key, explore = split(episode_key)[1], agent.explores(index, 1)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), one.memory_before, memory)
        for time in range(int(max(one.episode.length))):
            step = jax.tree.map(lambda x, time=time: x[:, time], one.episode.transitions)
            alive = time < one.episode.length
            action, acted = act(params, memory, step.obs, fold_in(act_key, time), explore)
            np.testing.assert_allclose(np.asarray(action)[alive], step.action[alive], rtol=1e-3, atol=1e-4)
            memory = select_lanes(alive, observe(params, acted, step), memory)
        for part in ("now", "num_steps", "num_episodes", "past"):
            ours, theirs = getattr(one.memory_after, part), getattr(memory, part)
            jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), ours, theirs)
        memory = end_episode(params, memory, end_key)


WITHOUT_MUJOCO = """
import sys
sys.modules["mujoco"] = None
import gymnasium, nacre
gymnasium.make("nacre/PointRobot-v0").reset(seed=0)
gymnasium.make_vec("nacre/PointRobot-v0", num_envs=2).reset(seed=0)
run = nacre.train("random", "point-robot", preset="smoke", out=sys.argv[1])
print(nacre.load(run.path).evaluate()[0].shape)
"""


def test_a_family_in_jax_needs_no_mujoco(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", WITHOUT_MUJOCO, str(tmp_path / "run")]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert ended.stdout.splitlines()[-1] == "(1, 3, 3)", ended.stderr
