"""An agent that says when its task has changed, and begins anew.

A critic predicts what a step earns: Q(s, a, z) = r + discount * Q(s', a', z). In a task that z does not stand for, it
is wrong. The detector adds up how far it is wrong, less what is usual (Page's cumulative sum, 1954), and fires where
the sum exceeds a threshold. nacre's own: the paper's tasks stay.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from nacre.learning.soft_actor_critic import Networks, min_q_value
from nacre.simulation.change import RESTARTING, restarted
from nacre.types import Agent, Belief, Key, Transition, fold_in, select

Wrong = Callable[[Networks, Any, Transition], Array]
"""(networks, memory, transition) -> how far the critics are wrong about a step, [lane]."""


class Usual(NamedTuple):
    """What trials whose task stays are like."""

    wrong: Any  # how far the critics may be wrong at a step before it adds to the sum
    threshold: Any  # the sum above which the detector fires


class Params(NamedTuple):
    """What an agent that watches acts by."""

    agent: Any
    networks: Networks
    usual: Usual


class Memory(NamedTuple):
    """What it remembers, each [lane]."""

    of_agent: Any
    total: Float[Array, " lane"]  # the cumulative sum
    fired: Bool[Array, " lane"]  # the agent is to begin anew before it acts again
    waits: Bool[Array, " lane"]  # it has fired in this episode, and waits for the next
    num_fired: Int[Array, " lane"]
    first_fired: Int[Array, " lane"]  # steps of the trial until it first fired; -1 where it has not
    num_steps: Int[Array, " lane"]
    num_episodes: Int[Array, " lane"]


@functools.cache
def wrong(believes: Callable[[Any], Belief], reward_scale: float, discount: float) -> Wrong:
    """The size of the critics' Bellman error by the belief's mean before the step, in units of the scaled reward.

    The reward is the one that the agent is told, also where critics were trained on another (sparse families).
    """

    def of_step(networks: Networks, memory: Any, transition: Transition) -> Array:
        z = believes(memory).mean
        next_action = jnp.tanh(networks.policy(transition.next_obs, z).mean)
        after = min_q_value(networks.critics, transition.next_obs, next_action, z)
        expected = min_q_value(networks.critics, transition.obs, transition.action, z)
        return jnp.abs(reward_scale * transition.reward + discount * transition.discount * after - expected)

    return of_step


@functools.cache
def watching(agent: Agent, wrong: Wrong, first_episode: int) -> Agent:
    """The agent with a detector that listens from this episode of a trial on, counted from 0."""

    def begin(params: Params, task: Any, key: Key) -> Memory:
        memory = agent.begin(params.agent, task, key)
        zeros = jnp.zeros(len(jax.tree.leaves(task)[0]))
        no, none = zeros > 0, zeros.astype(jnp.int32)
        return Memory(memory, zeros, no, no, none, none - 1, none, none)

    def anew(params: Params, memory: Memory, key: Key) -> Memory:
        nobody_told = {"unknown": jnp.zeros(len(memory.fired))}
        fresh = restarted(agent, params.agent, memory.of_agent, nobody_told, fold_in(key, RESTARTING))
        return memory._replace(
            of_agent=select(memory.fired, fresh, memory.of_agent), fired=jnp.zeros_like(memory.fired)
        )

    def act(params: Params, memory: Memory, obs: Array, key: Key, explore: bool) -> tuple[Array, Memory]:
        memory = anew(params, memory, key)
        action, of_agent = agent.act(params.agent, memory.of_agent, obs, key, explore)
        return action, memory._replace(of_agent=of_agent)

    def observe(params: Params, memory: Memory, transition: Transition) -> Memory:
        more = wrong(params.networks, memory.of_agent, transition) - params.usual.wrong
        listens = (memory.num_episodes >= first_episode) & ~memory.waits
        total = jnp.where(listens, jnp.maximum(memory.total + more, 0.0), 0.0)
        fired, num_steps = total > params.usual.threshold, memory.num_steps + 1
        return Memory(
            of_agent=agent.observe(params.agent, memory.of_agent, transition), total=jnp.where(fired, 0.0, total),
            fired=memory.fired | fired, waits=memory.waits | fired, num_fired=memory.num_fired + fired,
            first_fired=jnp.where(fired & (memory.num_fired == 0), num_steps, memory.first_fired),
            num_steps=num_steps, num_episodes=memory.num_episodes,
        )  # fmt: skip

    def end_episode(params: Params, memory: Memory, key: Key) -> Memory:
        memory = anew(params, memory, key)
        of_agent = agent.end_episode(params.agent, memory.of_agent, key)
        no_more = jnp.zeros_like(memory.waits)
        return memory._replace(of_agent=of_agent, waits=no_more, num_episodes=memory.num_episodes + 1)

    def restart(params: Params, memory: Memory, task: Any, key: Key) -> Memory:
        none = jnp.zeros_like(memory.total)
        of_agent = restarted(agent, params.agent, memory.of_agent, task, key)
        return memory._replace(of_agent=of_agent, total=none, fired=none > 0)

    return Agent(begin, act, observe, end_episode, agent.explores, restart=restart)


def usual(errors: np.ndarray, is_real: np.ndarray, false_alarms: float) -> Usual:
    """What is usual, of the critics' errors at every step [trial, step] of trials whose task stays: the mean plus one
    standard deviation, and the sum that a share `false_alarms` of these trials exceeds. Steps that are not real count
    nothing."""
    known = errors[is_real]
    most = float(known.mean() + known.std())
    return Usual(most, float(np.quantile(largest_sums(errors, is_real, most), 1 - false_alarms)))


def largest_sums(errors: np.ndarray, is_real: np.ndarray, usual: float) -> np.ndarray:
    """The largest cumulative sum of every trial, [trial]."""
    total, largest = np.zeros((2, len(errors)))
    for error, real in zip(errors.T, is_real.T, strict=True):
        total = np.where(real, np.maximum(total + error - usual, 0.0), total)
        largest = np.maximum(largest, total)
    return largest
