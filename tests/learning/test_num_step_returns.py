"""n-step returns against episodes in plain Python: rewards of one episode only, discounted once a step."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from nacre.errors import NacreError
from nacre.families.point import PointRobot
from nacre.learning import replay as rings
from nacre.presets.pearl import PearlSettings
from nacre.types import Episode, Transition

HORIZON, DISCOUNT, STEPS = 6, 0.9, 3
LENGTHS = (6, 2, 3, 1, 6)
"""Of the episodes: the second and the fourth terminate, the third is cut by a time limit."""
TERMINATED = (False, True, False, True, False)


def episodes() -> list[list[tuple[float, float, float, float]]]:
    """(obs, training reward, discount, next obs) of every step of every episode; all observations of the third are
    those of the fourth, so that only what the replay knows can tell them apart."""
    played = []
    for number, (length, terminated) in enumerate(zip(LENGTHS, TERMINATED, strict=True)):
        rows = []
        for time in range(length):
            obs = 0.0 if number in (2, 3) else 10.0 * number + time
            after = 0.0 if number in (2, 3) else obs + 1
            ends = terminated and time == length - 1
            rows.append((obs, 1.0 + 10 * number + time, 0.0 if ends else 1.0, after))
        played.append(rows)
    return played


def filled(played: list[list[tuple[float, float, float, float]]], capacity: int) -> rings.Replay:
    """A ring of one task with these episodes, inserted one after another."""
    replay, insert = rings.empty(1, capacity, 1000, 1, 1), jax.jit(lambda *given: rings.insert(*given))
    for rows in played:
        padded = np.array(rows + [(99.0, 1e6, 1.0, 99.0)] * (HORIZON - len(rows)), np.float32)
        obs, reward, discount, after = (padded[None, :, [i]] for i in range(4))
        steps = Transition(obs, obs + 0.5, -reward[..., 0], reward[..., 0], discount[..., 0], after)
        replay = insert(replay, np.array([0]), Episode(steps, np.array([len(rows)])))
    return replay


def expected(rows: list[tuple[float, float, float, float]], time: int) -> tuple[float, float, float]:
    """(return, discount that multiplies gamma V, observation that it bootstraps from) of a step of an episode."""
    taken = rows[time : time + STEPS]
    total = sum(DISCOUNT**k * reward for k, (_, reward, _, _) in enumerate(taken))
    return total, DISCOUNT ** (len(taken) - 1) * taken[-1][2], taken[-1][3]


@pytest.mark.parametrize("capacity", [200, 8], ids=["all", "overwritten"])
def test_sums_the_rewards_that_follow_in_the_same_episode_and_no_others(capacity, monkeypatch):
    monkeypatch.setattr(rings, "PAGE", 4)
    played = episodes()
    replay = filled(played, capacity)
    drawn = rings.sample_steps(replay, np.array([0]), 2000, STEPS, 1, jax.random.key(0))
    batch = jax.tree.map(lambda x: np.asarray(x)[0], drawn.returns(DISCOUNT))
    wanted = {-rows[time][1]: (rows[time][0], *expected(rows, time)) for rows in played for time in range(len(rows))}
    held = sorted(wanted, reverse=True)[-replay.capacity :]  # rewards fall from episode to episode and step to step
    assert set(batch.reward.tolist()) == set(held)
    for reward, obs, action, total, discount, after in zip(
        batch.reward, batch.obs, batch.action, batch.training_reward, batch.discount, batch.next_obs, strict=True
    ):
        start, *rest = wanted[float(reward)]
        assert (obs, action) == (start, start + 0.5)
        np.testing.assert_allclose([total, discount, after[0]], rest, rtol=1e-6)


def test_one_step_returns_are_the_transitions_that_sample_draws():
    replay, key = filled(episodes(), 200), jax.random.key(1)
    plain = rings.sample(replay, np.array([0]), 50, 1, key)
    jax.tree.map(
        np.testing.assert_array_equal,
        rings.sample_steps(replay, np.array([0]), 50, 1, 1, key).returns(DISCOUNT),
        plain,
    )


def test_a_batch_in_order_has_no_n_step_returns():
    with pytest.raises(NacreError, match="num_step_returns is 3"):
        PearlSettings(num_step_returns=3, batch_order="trajectories")


def test_more_steps_than_an_episode_has_are_refused():
    family = PointRobot()
    dataclasses.replace(PearlSettings(), num_step_returns=family.horizon).check_family(family)
    with pytest.raises(NacreError, match="has at most 20 steps; set --num-step-returns"):
        dataclasses.replace(PearlSettings(), num_step_returns=family.horizon + 1).check_family(family)
