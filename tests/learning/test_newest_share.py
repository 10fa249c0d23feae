"""Batches out of the newest transitions: which count, in rings that have overwritten their oldest too."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from nacre.algorithms import oracle
from nacre.errors import NacreError
from nacre.families.point import PointRobot
from nacre.learning import replay as rings
from nacre.learning.encoder_contexts import draw_batch
from nacre.presets.oracle import OracleSettings
from nacre.presets.pearl import PearlSettings
from nacre.types import Episode, Transition

LENGTH = 5


def filled(numbers: dict[int, int], capacity: int, obs_dim: int = 1, action_dim: int = 1) -> rings.Replay:
    """A ring for each task with this many episodes of LENGTH steps; rewards count a task's steps from 0."""
    replay = rings.empty(len(numbers), capacity, 1000, obs_dim, action_dim)
    insert = jax.jit(lambda *given: rings.insert(*given))
    for task, number in numbers.items():
        for episode in range(number):
            reward = np.arange(LENGTH, dtype=np.float32)[None] + LENGTH * episode
            obs, action = np.zeros((1, LENGTH, obs_dim), np.float32), np.zeros((1, LENGTH, action_dim), np.float32)
            steps = Transition(obs, action, reward, reward, np.ones_like(reward), obs)
            replay = insert(replay, np.array([task]), Episode(steps, np.array([LENGTH])))
    return replay


@functools.lru_cache
def drawn(capacity: int, share: float, least: int) -> list[set[int]]:
    """The rewards among 2000 transitions of a task with 4 and one with 12 episodes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rings, "PAGE", 5)
        replay = filled({0: 4, 1: 12}, capacity)
        steps = rings.sample_steps(replay, np.array([0, 1]), 2000, 1, 1, jax.random.key(0), share, least)
    return [set(np.asarray(of_task).astype(int).tolist()) for of_task in steps.first.reward]


@pytest.mark.parametrize(
    ("share", "least", "first_of_20", "first_of_60"),
    [(1.0, 1, 0, 0), (0.3, 1, 14, 42), (0.3, 10, 10, 42), (0.05, 10, 10, 50), (0.01, 1, 19, 59), (0.5, 500, 0, 0)],
)
def test_the_newest_of_each_ring_and_all_of_them(share, least, first_of_20, first_of_60):
    assert drawn(100, share, least) == [set(range(first_of_20, 20)), set(range(first_of_60, 60))]


def test_a_ring_that_has_overwritten_its_oldest_counts_from_its_newest():
    assert drawn(25, 0.2, 1) == [set(range(16, 20)), set(range(55, 60))]
    assert drawn(25, 1.0, 1) == [set(range(20)), set(range(35, 60))]


def test_pearls_batch_and_the_oracles_are_of_the_newest_and_no_smaller_than_a_collection():
    family = PointRobot()
    replay = filled({0: 40}, 1000, family.obs_dim, family.action_dim)  # 200 transitions; an episode has 20 at most
    pearl = PearlSettings(newest_share=0.1, num_prior_episodes=1, num_posterior_episodes=0, num_extra_rl_episodes=2)
    batch = draw_batch(replay, np.array([0] * 8), jax.random.key(0), family, pearl).first
    assert set(np.asarray(batch.reward).ravel().astype(int).tolist()) == set(range(140, 200))
    told = OracleSettings(newest_share=0.1, num_train_tasks=1, num_episodes=2)
    draw, _ = oracle._draw_and_learn(family, told)
    batch, *_ = draw((replay, np.zeros((1, family.task_dim), np.float32)), jax.random.key(0))
    assert set(np.asarray(batch.reward).ravel().astype(int).tolist()) == set(range(160, 200))


def test_a_batch_in_order_is_of_all():
    with pytest.raises(NacreError, match=r"newest_share is 0\.3.*--newest-share 1"):
        PearlSettings(newest_share=0.3, batch_order="trajectories")
    for wrong in (0.0, 1.5):
        with pytest.raises(NacreError, match="newest_share"):
            PearlSettings(newest_share=wrong)
