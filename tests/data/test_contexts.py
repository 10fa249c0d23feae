"""Contexts: logged transitions of the right task, equal for equal keys, and counted."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import made_up_data as made_up
import nacre
from nacre.data import contexts
from nacre.data.dataset import DataSet
from nacre.families.family import num_tasks
from nacre.learning import offline
from nacre.learning.offline import Logs
from nacre.learning.replay import pack
from nacre.presets.trials import TrialSettings
from nacre.simulation import rollout
from nacre.types import Agent, Transition

SIZES = (5, 2, 9)
"""Logged transitions of three tasks."""


def logs_that_tell_their_task(on_device: bool = False) -> Logs:
    """The reward of every transition is its task's number, its first observation the row's number."""
    task, number = np.repeat(np.arange(3), SIZES).astype(np.float32), sum(SIZES)
    obs = np.stack([np.arange(number), np.zeros(number)], axis=1).astype(np.float32)
    rows = np.asarray(pack(Transition(obs, obs, task, task, np.ones(number, np.float32), obs)))
    first = np.cumsum((0, *SIZES[:-1])).astype(np.int32)
    last = np.repeat(first + np.array(SIZES, np.int32) - 1, SIZES)
    logs = Logs(rows, np.zeros(number, np.float32), last, first, np.array(SIZES, np.int32))
    return Logs(*map(jnp.asarray, logs)) if on_device else logs


def keys(*seeds: int) -> jax.Array:
    return jnp.stack([jax.random.key(seed) for seed in seeds])


@pytest.mark.parametrize("in_order", [False, True])
def test_every_lane_gets_transitions_of_its_own_task(in_order: bool) -> None:
    lanes = np.array([2, 0, 1, 2, 0, 1])
    drawn = contexts.draw(logs_that_tell_their_task(), lanes, 40, keys(0, 1), 2, in_order=in_order)
    np.testing.assert_array_equal(drawn.transition.reward, np.tile(lanes, 2)[:, None] + np.zeros(40))
    rows = drawn.transition.obs[..., 0]
    assert {len(np.unique(rows[lane])) for lane in (1, 4, 7)} == {5}, "all of its transitions may be drawn"
    assert in_order == bool((rows[1][1:5] == (rows[1][:4] + 1) % 5).all())


def test_a_seeds_contexts_follow_from_its_key_alone_wherever_the_logs_lie() -> None:
    lanes, logs = np.array([0, 1, 2]), logs_that_tell_their_task()
    both = contexts.draw(logs, lanes, 6, keys(3, 4), 2)
    alone = contexts.draw(logs, lanes, 6, keys(4), 2)
    placed = contexts.draw(logs_that_tell_their_task(on_device=True), lanes, 6, keys(4), 2)
    for one, other, third in zip(*map(jax.tree.leaves, (both, alone, placed)), strict=True):
        np.testing.assert_array_equal(one[3:], other)
        np.testing.assert_array_equal(other, third)
    assert (both.transition.obs[:3] != both.transition.obs[3:]).any()


def trials_by(protocol: str, **given: Any) -> TrialSettings:
    return TrialSettings.of(nacre.resolve("pearl", "point-robot").settings).changed(protocol=protocol, **given)


@pytest.mark.parametrize(
    ("protocol", "split", "read"),
    [
        ("offline-own-context", "test", "test"),
        ("offline-own-context", "train", "train"),
        ("offline-other-context", "test", "other"),
        ("offline-other-context", "train", "train"),
    ],
)
def test_a_protocol_says_whose_transitions_they_are(data_set: DataSet, protocol: str, split: str, read: str) -> None:
    trials = trials_by(protocol, context_transitions=30, repeats=2)
    logged = contexts.for_trials(data_set, trials, split, [1, 0], keys(0, 1))
    assert logged is not None and logged.transition.obs.shape == (2 * 2 * 2, 30, 2)
    for lane, task in enumerate([1, 0] * 4):
        written = [made_up.episode(task, read, number).reward for number in range(made_up.NUM_EPISODES)]
        assert np.isin(logged.transition.reward[lane], np.concatenate(written)).all()


def test_a_context_may_be_empty() -> None:
    drawn = contexts.draw(logs_that_tell_their_task(), np.arange(3), 0, keys(0, 1), 2)
    assert drawn.transition.obs.shape == (6, 0, 2) and drawn.steps_to_end.shape == (6, 0)


def test_protocols_without_logged_transitions_get_none_and_others_need_a_data_set() -> None:
    assert contexts.for_trials(None, trials_by("zero-shot"), "test", [0], keys(0)) is None
    contexts.check(None, trials_by("zero-shot"))
    with pytest.raises(nacre.NacreError, match="--data"):
        contexts.for_trials(None, trials_by("offline-own-context"), "test", [0], keys(0))
    with pytest.raises(nacre.NacreError, match="--data"):
        contexts.check(None, trials_by("offline-other-context"))


@pytest.mark.parametrize("terminated", [False, True])
def test_an_episode_of_ones_own_is_what_a_data_set_makes_of_it(data_set: DataSet, terminated: bool) -> None:
    number = 1 if terminated else 0
    episode = made_up.episode(0, "test", number)
    logs = data_set.logs("test", 0.9)
    first = 0 if number == 0 else len(made_up.episode(0, "test", 0).reward)
    there = offline.logged(logs, np.arange(first, first + len(episode.reward)), 2)
    own = contexts.of_episode(episode.obs, episode.action, episode.reward, terminated=terminated, discount=0.9)
    for one, other in zip(jax.tree.leaves(own), jax.tree.leaves(there), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "episode", [([[0, 0]], np.zeros((0, 2)), []), ([[0, 0]] * 2, [[0, 0]] * 2, [0, 0]), ([0, 0], [0], [0])]
)
def test_arrays_that_are_no_episode_are_refused(episode: Any) -> None:
    with pytest.raises(nacre.NacreError, match="no episode"):
        contexts.of_episode(*episode, discount=0.9)


COUNTING = Agent(
    begin=lambda params, task, key: {"seen": jnp.zeros(num_tasks(task)), "sum": jnp.zeros(num_tasks(task))},
    act=lambda params, memory, obs, key, explore: (params * jnp.ones_like(obs), memory),
    observe=lambda params, memory, one: {"seen": memory["seen"] + 1, "sum": memory["sum"] + one.reward},
    end_episode=lambda params, memory, key: memory | {"seen": memory["seen"] + 1000},
    explores=lambda episode, scored_episode: False,
)
TASKS = {"goal": np.array([[0.9, 0.9], [-0.9, 0.0], [0.0, -0.4]])}


def test_an_agent_absorbs_its_own_lanes_transitions_before_the_first_episode() -> None:
    logged = contexts.draw(logs_that_tell_their_task(), np.arange(3), 4, keys(0), 2)
    first, second = rollout.trial(made_up.FAMILY, COUNTING, 1.0, TASKS, jax.random.key(0), 2, logged)
    np.testing.assert_array_equal(first.memory_before["sum"], [0, 4, 8])
    np.testing.assert_array_equal(first.memory_before["seen"], [1004] * 3)
    np.testing.assert_array_equal(second.memory_before["seen"], [1004 + 20 + 1000] * 3)
    own = COUNTING._replace(
        absorb=lambda params, memory, logged, key: memory | {"seen": logged.steps_to_end.sum(axis=1)}
    )
    first, *_ = rollout.trial(made_up.FAMILY, own, 1.0, TASKS, jax.random.key(0), 1, logged)
    np.testing.assert_array_equal(first.memory_before["seen"], logged.steps_to_end.sum(axis=1))


def test_agents_side_by_side_absorb_what_each_would_alone() -> None:
    """Each pushes as hard as it liked what it absorbed."""
    liking = COUNTING._replace(
        act=lambda params, memory, obs, key, explore: (jnp.tanh(params * memory["sum"][:, None] + 0 * obs), memory)
    )
    draw = lambda keys: contexts.draw(logs_that_tell_their_task(), np.tile(np.arange(3), 2), 4, keys, 2)  # noqa: E731
    params, both = [jnp.float32(0.1), jnp.float32(-0.3)], keys(7, 8)
    together = rollout.evaluate_side_by_side(made_up.FAMILY, TASKS, liking, params, both, 1, 2, draw(both))
    for seed, evaluation in enumerate(together):
        own = both[seed : seed + 1]
        (alone,) = rollout.evaluate_side_by_side(
            made_up.FAMILY, TASKS, liking, params[seed : seed + 1], own, 1, 2, draw(own)
        )
        np.testing.assert_allclose(evaluation.returns, alone.returns, rtol=1e-5)
        np.testing.assert_array_equal(evaluation.context_transitions, np.full((2, 3), 4))


def test_what_was_seen_before_the_scored_episode_is_counted_though_robots_fall() -> None:
    hopper = nacre.make_family("hopper-params")
    tasks = hopper.sample_tasks(np.random.default_rng(0), 2)
    agent = COUNTING._replace(act=lambda params, memory, obs, key, explore: (jnp.ones((len(obs), 3)), memory))
    (evaluation,) = rollout.evaluate_side_by_side(hopper, tasks, agent, [1.0], keys(0), 3, 1)
    trial = rollout.trial(hopper, agent, 1.0, tasks, jax.random.key(0), 3)
    lengths = np.stack([np.asarray(one.episode.length) for one in trial])
    assert (lengths < hopper.horizon).any()
    np.testing.assert_array_equal(evaluation.context_transitions, lengths[None, :2].sum(axis=1))
