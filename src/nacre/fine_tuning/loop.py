"""Rounds of online fine-tuning: every task acts, collects and learns for itself, all of them side by side.

A task gets the random numbers that it would get alone: each follows from its key and the number of the round.
"""

from __future__ import annotations

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nacre.families.family import Family, num_tasks
from nacre.learning import fine_tuning
from nacre.learning.fine_tuning import FineTuning, Networks, Replay
from nacre.presets.fine_tuning import FineTuneSettings
from nacre.simulation.rollout import play
from nacre.types import Agent, Episode, Key, Logged, Tasks, Transition, fold_in, streams, with_fixed_memory


class Problem(NamedTuple):
    """What does not change from round to round."""

    family: Family
    tasks: Tasks  # [task, ...]
    method: FineTuning
    settings: FineTuneSettings
    discount: float


class State(NamedTuple):
    """All that fine-tuning needs to continue."""

    networks: Networks  # every leaf [task, ...], as those below
    optimisers: Networks
    replay: Replay
    keys: Key
    rounds: int  # completed


class Round(NamedTuple):
    """What happened in a round."""

    returns: np.ndarray  # [task] mean over the deterministic episodes, which were played before the updates
    noisy_returns: np.ndarray  # [task] of the episode that was collected
    steps: np.ndarray  # [task] environment steps collected
    seconds: tuple[float, float]  # of all episodes, of the updates


def begin(problem: Problem, params: Any, logged: Logged | None, num_steps: int, seed: int) -> State:
    """The state before the first round: networks after `num_steps` steps on the logged transitions [task, row], with
    which the replay begins. None: there are none."""
    family, number = problem.family, num_tasks(problem.tasks)
    given = _nothing(family, number) if logged is None else logged
    networks = fine_tuning.adapted(problem.method, params, given, num_steps)
    num_rows = 0 if logged is None else given.transition.reward.shape[1]
    replay = fine_tuning.replay_of(given, max(num_rows, 1) + problem.settings.rounds * family.horizon)
    keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(seed)))(jnp.arange(number))
    optimisers = fine_tuning.optimisers(networks, problem.settings)
    return State(networks, optimisers, replay._replace(size=jnp.full(number, num_rows, jnp.int32)), keys, 0)


def _nothing(family: Family, number: int) -> Logged:
    """A row of zeros for each task."""

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros((number, 1, *shape), np.float32)

    obs = zeros(family.obs_dim)
    return Logged(
        Transition(obs, zeros(family.action_dim), zeros(), zeros(), zeros(), obs), zeros(), zeros(), obs, zeros()
    )


def play_round(problem: Problem, state: State) -> tuple[State, Round]:
    """The state after one more round: episodes, then, past the first rounds, updates. Uses up the state given."""
    started, settings = time.monotonic(), problem.settings
    returns = scored_returns(problem, state.networks, state)
    collected = _play(problem, state.networks, state, "collect", 1, explore=True)
    replay = fine_tuning.insert(state.replay, collected, problem.discount)
    networks, optimisers, played = state.networks, state.optimisers, time.monotonic()
    if state.rounds >= settings.rounds_before_updates:
        networks, optimisers = fine_tuning.update(
            networks, optimisers, replay, fold_in(streams(state.keys, "train"), state.rounds),
            method=problem.method, settings=settings, obs_dim=problem.family.obs_dim,
        )  # fmt: skip
        jax.block_until_ready(networks)
    seconds = (played - started, time.monotonic() - played)
    after = State(networks, optimisers, replay, state.keys, state.rounds + 1)
    return after, Round(returns, collected.returns(), np.asarray(collected.length), seconds)


def scored_returns(problem: Problem, networks: Networks, state: State) -> np.ndarray:
    """The mean return [task] of these networks' deterministic episodes, as this round would play them."""
    number = problem.settings.episodes_per_round
    played = _play(problem, networks, state, "evaluate", number, explore=False)
    return played.returns().reshape(-1, number).mean(axis=1)


def _play(problem: Problem, networks: Networks, state: State, use: str, number: int, *, explore: bool) -> Episode:
    keys = fold_in(streams(state.keys, use), state.rounds)
    agent = _agent(problem.method)
    return play(problem.family, agent, networks.policy, problem.tasks, keys, number, explore=explore)


@functools.cache
def _agent(method: FineTuning) -> Agent:
    """Acts with a policy, which is its parameters; it remembers nothing."""
    return with_fixed_memory(lambda params, memory, *given: method.act(params, *given))
