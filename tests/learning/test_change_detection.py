"""A detector of changes: what is usual, when it fires, and that the agent begins anew then."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nacre.learning import change_detection
from nacre.learning.change_detection import Params, Usual
from nacre.types import Agent, Transition


def sums(params: Any, memory: Any, transition: Transition) -> Any:
    return memory + transition.reward


COUNTING = Agent(
    begin=lambda params, task, key: jnp.zeros(2),
    act=lambda params, memory, obs, key, explore: (memory, memory),
    observe=sums,
    end_episode=lambda params, memory, key: memory,
    explores=lambda index, scored: False,
)
"""Remembers the sum of its rewards, and acts on it."""


def wrong(networks: Any, memory: Any, transition: Transition) -> Any:
    return transition.reward


def test_it_fires_where_the_sum_exceeds_the_threshold_and_the_agent_begins_anew() -> None:
    watching: Any = change_detection.watching(COUNTING, wrong, 1)
    params = Params((), None, Usual(1.0, 4.5))  # type: ignore[arg-type]
    key = jax.random.key(0)

    def episode(memory: Any, errors: list[list[float]]) -> Any:
        for error in errors:
            _, memory = watching.act(params, memory, jnp.zeros((2, 1)), key, False)
            reward = jnp.array(error)
            memory = watching.observe(params, memory, Transition(None, None, reward, reward, reward, None))
        return memory

    memory = watching.begin(params, {"goal": np.zeros((2, 3))}, key)
    deaf = episode(memory, [[9.0, 9.0]] * 3)  # the belief is not used yet
    assert deaf.num_fired.tolist() == [0, 0] and deaf.of_agent.tolist() == [27, 27]
    memory = watching.end_episode(params, deaf, key)
    stays, changes = 1.0, 3.0  # 2 above what is usual: 4 after two steps, 6 after three
    memory = episode(memory, [[stays, stays], [stays, changes], [stays, changes]])
    assert memory.num_fired.tolist() == [0, 0] and memory.total.tolist() == [0, 4]
    memory = episode(memory, [[stays, changes]])
    assert memory.num_fired.tolist() == [0, 1] and memory.first_fired.tolist() == [-1, 7]
    action, anew = watching.act(params, memory, jnp.zeros((2, 1)), key, False)
    assert action.tolist() == [31, 0]  # what it knew in the first lane, nothing in the second
    silent = episode(anew, [[stays, 99.0]] * 3)
    assert silent.num_fired.tolist() == [0, 1]  # it knows that it knows nothing
    again = episode(watching.end_episode(params, silent, key), [[stays, 99.0]])
    assert again.num_fired.tolist() == [0, 2] and again.first_fired.tolist() == [-1, 7]


def test_the_threshold_is_what_a_share_of_unchanged_trials_exceeds() -> None:
    errors = np.random.default_rng(0).exponential(size=(1000, 40))
    real = np.ones_like(errors, bool)
    usual = change_detection.usual(errors, real, 0.1)
    assert np.isclose(usual.wrong, 2.0, atol=0.05)  # the mean and the standard deviation are 1
    assert np.isclose((change_detection.largest_sums(errors, real, usual.wrong) > usual.threshold).mean(), 0.1)
    changed = errors + 3.0 * (np.arange(40) >= 20)
    assert (change_detection.largest_sums(changed, real, usual.wrong) > usual.threshold).all()
    short = change_detection.usual(errors[:, :20], real[:, :20], 0.1)
    padded = np.where(np.arange(40) < 20, errors, np.inf)
    assert change_detection.usual(padded, np.isfinite(padded), 0.1) == short
