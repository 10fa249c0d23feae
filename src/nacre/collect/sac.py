"""Soft actor-critic from scratch in every task at once: tasks that share nothing are the leading axis of one program.

Every task has networks, optimisers, a replay and a key of its own, and gets the random numbers that it would get alone.
A round plays each task for a horizon's steps, then makes as many updates, on CPUs of a few tasks on each core. Losses:
`learning/soft_actor_critic.py` (clipped double Q-learning with a learnt temperature, Haarnoja et al. 2018, 1812.05905).
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nacre.collect.settings import SacSettings
from nacre.families.family import Family
from nacre.learning import soft_actor_critic
from nacre.learning.networks import TanhGaussianPolicy, sample_action
from nacre.learning.replay import pack, row_width, uniform_index, unpack
from nacre.learning.soft_actor_critic import Inferred, Noise, Objective
from nacre.simulation.rollout import play
from nacre.types import Agent, Episode, Key, Tasks, fold_in, stream, streams, with_fixed_memory

TASKS_AT_A_TIME = 4
"""Tasks whose updates are one program on a CPU, at most: the activations of more of them outgrow a core's cache."""


def no_z(encoder: Any, context: Any, noise: Noise, config: Any) -> Inferred:
    """In the place of PEARL's inference: nothing, because a policy knows one task only."""
    return Inferred(jnp.zeros((1, 0)), jnp.zeros(()), {})


OBJECTIVE = Objective(infer=no_z)

# ----------------------------------------------------------------------------------------------------------------------
# Agents


def _act(params: TanhGaussianPolicy, memory: Any, obs: Array, key: Key, explore: bool) -> Array:
    output = params(obs, jnp.zeros((1, 0)))
    if not explore:
        return jnp.tanh(output.mean)
    return sample_action(output, jax.random.normal(key, output.mean.shape))[0]


POLICY = with_fixed_memory(_act)
"""Acts with a policy without z, which are its parameters; it remembers nothing."""


@functools.cache
def uniform(action_dim: int) -> Agent:
    """Takes uniformly random actions, whatever its parameters."""

    def act(params: Any, memory: Any, obs: Array, key: Key, explore: bool) -> Array:
        return jax.random.uniform(key, (obs.shape[0], action_dim), minval=-1.0, maxval=1.0)

    return with_fixed_memory(act)


# ----------------------------------------------------------------------------------------------------------------------
# State


class Rows(NamedTuple):
    """All transitions of every task, in the order of their collection."""

    rows: Float[Array, "task capacity width"]  # packed, as in `learning/replay.py`
    size: Int[Array, " task"]


class State(NamedTuple):
    """All that the training of every task needs to continue. Every random number follows from `keys` and counters."""

    learner: Any  # (networks, optimisers), every leaf [task, ...]
    replay: Rows
    keys: Key  # [task]
    rounds: int  # completed

    @property
    def policy(self) -> TanhGaussianPolicy:
        """The policies, every leaf [task, ...]."""
        policy: TanhGaussianPolicy = self.learner[0].policy
        return policy


def task_keys(seed: int, number: int) -> Key:
    """A key for every task."""
    return jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(seed)))(jnp.arange(number))


def begin(family: Family, settings: SacSettings, keys: Key) -> State:
    """The state before the first step, one task a key."""
    capacity = settings.rounds(family) * family.horizon + family.horizon - 1
    rows = jnp.zeros((keys.size, capacity, row_width(family.obs_dim, family.action_dim)), jnp.float32)
    replay = Rows(rows, jnp.zeros(keys.size, jnp.int32))
    return State(_init(keys, obs_dim=family.obs_dim, action_dim=family.action_dim, settings=settings), replay, keys, 0)


@functools.partial(jax.jit, static_argnames=("obs_dim", "action_dim", "settings"))
def _init(keys: Key, *, obs_dim: int, action_dim: int, settings: SacSettings) -> Any:
    config = settings.learner()

    def of_task(key: Key) -> Any:
        networks = soft_actor_critic.init_networks(obs_dim, action_dim, 0, config, stream(key, "tasks"))
        networks = networks._replace(log_temperature=jnp.full((), math.log(settings.initial_temperature), jnp.float32))
        return networks, soft_actor_critic.init_optimisers(networks, config)

    return jax.vmap(of_task)(keys)


# ----------------------------------------------------------------------------------------------------------------------
# A round


class Round(NamedTuple):
    """What happened in a round."""

    episodes: list[Episode]  # [task, ...] each; one of length 0: that task had taken its steps
    q_mean: np.ndarray  # [update, task], what a critic expects; no update in the first, random rounds
    seconds: float  # of the updates


def train_round(family: Family, settings: SacSettings, tasks: Tasks, state: State) -> tuple[State, Round]:
    """The state after one more round. Uses up the state given."""
    episodes: list[Episode] = []
    missing = (state.rounds + 1) * family.horizon - np.asarray(state.replay.size)
    random = state.rounds < settings.random_rounds(family)
    agent = uniform(family.action_dim) if random else POLICY
    while (missing > 0).any():
        keys = fold_in(fold_in(streams(state.keys, "collect"), state.rounds), len(episodes))
        played = play(family, agent, state.policy, tasks, keys, 1, explore=True)
        played = played._replace(length=np.where(missing > 0, played.length, 0))
        state = state._replace(replay=_insert(state.replay, played))
        missing = missing - played.length
        episodes.append(played)
    if settings.normalise_inputs and not random:
        state = state._replace(
            learner=_rescaled(state.learner, state.replay, obs_dim=family.obs_dim, settings=settings)
        )
    started, q_mean = time.monotonic(), np.zeros((0, state.keys.size))  # no update while actions are random
    if not random:
        first = (state.rounds - settings.random_rounds(family)) * family.horizon
        learner, q_mean = learnt(family, settings, state, first)
        state = state._replace(learner=learner)
    round_ = Round(episodes, q_mean, time.monotonic() - started)
    return state._replace(rounds=state.rounds + 1), round_


def a_device_per_core() -> None:
    """Lets the tasks of `learnt` be shared out to all cores, in a process that has not computed anything yet; in
    another one it changes nothing, and JAX divides single operations between the cores."""
    with contextlib.suppress(RuntimeError):  # its devices are there already
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


def learnt(family: Family, settings: SacSettings, state: State, first: int) -> tuple[Any, np.ndarray]:
    """(learner, mean Q [update, task]) after a round's updates, the first of number `first`.

    Tasks learn in groups, which devices share. On CPUs a group is small.
    """
    devices, number = jax.local_devices(), state.keys.size
    most = TASKS_AT_A_TIME if jax.default_backend() == "cpu" else number
    num_groups = min(number, -(-max(number / most, 1) // len(devices)) * len(devices))
    groups = np.array_split(np.arange(number), int(num_groups))

    def learn(device: Any, own: list[np.ndarray]) -> list[Any]:
        done = []
        for group in own:
            parts = _of_tasks((state.learner, state.replay, state.keys), group)
            after = block(
                *jax.device_put(parts, device), np.int32(first),
                settings=settings, obs_dim=family.obs_dim, num_updates=family.horizon,
            )  # fmt: skip
            done.append(jax.device_put(jax.block_until_ready(after), devices[0]))
        return done

    with ThreadPoolExecutor(len(devices)) as pool:
        shares = list(pool.map(learn, devices, [groups[i :: len(devices)] for i in range(len(devices))]))
    in_order = [shares[i % len(devices)][i // len(devices)] for i in range(len(groups))]
    return _joined([learner for learner, _ in in_order]), np.concatenate(
        [np.asarray(q_mean) for _, q_mean in in_order], axis=1
    )


@jax.jit
def _of_tasks(tree: Any, group: Any) -> Any:
    """What belongs to these tasks, by their numbers; every leaf is [task, ...]."""
    return jax.tree.map(lambda x: x[group], tree)


@jax.jit
def _joined(parts: list[Any]) -> Any:
    """Parts with leaves [task, ...], one behind the other."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


@functools.partial(jax.jit, donate_argnums=0)
def _insert(replay: Rows, played: Episode) -> Rows:
    """The replay with every task's episode behind what it holds."""
    rows = pack(played.transitions)
    number, capacity = replay.rows.shape[:2]
    time = jnp.arange(rows.shape[1])
    at = jnp.where(time < played.length[:, None], replay.size[:, None] + time, capacity)  # out of bounds: dropped
    rows = replay.rows.at[jnp.arange(number)[:, None], at].set(rows, mode="drop")
    return Rows(rows, replay.size + played.length.astype(jnp.int32))


@functools.partial(jax.jit, static_argnames=("obs_dim", "settings"), donate_argnums=0)
def _rescaled(learner: Any, replay: Rows, *, obs_dim: int, settings: SacSettings) -> Any:
    """The learner with inputs scaled by all that each task has collected."""

    def of_task(networks: Any, rows: Array, size: Array) -> Any:
        real = (jnp.arange(rows.shape[0]) < size)[:, None]
        mean = jnp.sum(jnp.where(real, rows, 0.0), axis=0) / size
        variance = jnp.sum(jnp.where(real, (rows - mean) ** 2, 0.0), axis=0) / size
        moments = unpack(mean, obs_dim), unpack(jnp.sqrt(variance), obs_dim)
        return soft_actor_critic.with_scales(networks, *moments, settings.learner())

    networks, optimisers = learner
    return jax.vmap(of_task)(networks, *replay), optimisers


@functools.partial(jax.jit, static_argnames=("settings", "obs_dim", "num_updates"), donate_argnums=0)
def block(
    learner: Any, replay: Rows, keys: Key, first: Any, *, settings: SacSettings, obs_dim: int, num_updates: int
) -> tuple[Any, Float[Array, "update task"]]:
    """(learner, mean Q of every batch) after `num_updates` updates of every task, the first of number `first`. The
    learner given is used up."""
    config = settings.learner()
    action_dim = replay.rows.shape[-1] - 2 * obs_dim - 3

    def update(learner: Any, replay: Rows, key: Key) -> tuple[Any, Array]:
        networks, optimisers = learner
        row_key, noise_key = jax.random.split(key)
        at = uniform_index(row_key, (settings.batch_size,), replay.size)
        noise = Noise(jnp.zeros((1, 0)), *jax.random.normal(noise_key, (2, settings.batch_size, action_dim)))
        batch = unpack(replay.rows[at], obs_dim)
        networks, optimisers, metrics = soft_actor_critic.update(
            networks, optimisers, batch, None, noise, config, OBJECTIVE
        )
        return (networks, optimisers), metrics["q_mean"]

    def body(learner: Any, number: Array) -> tuple[Any, Array]:
        return jax.vmap(update)(learner, replay, fold_in(train_keys, number))

    train_keys = streams(keys, "train")
    return jax.lax.scan(body, learner, first + jnp.arange(num_updates, dtype=jnp.int32))


def deterministic_returns(family: Family, state: State, tasks: Tasks, num_episodes: int) -> np.ndarray:
    """Returns of the policies' mean actions, [task, episode]."""
    keys = fold_in(streams(state.keys, "evaluate"), state.rounds)
    return (
        play(family, POLICY, state.policy, tasks, keys, num_episodes, explore=False).returns().reshape(-1, num_episodes)
    )


def random_returns(family: Family, state: State, tasks: Tasks, num_episodes: int) -> np.ndarray:
    """Returns of uniformly random actions, [task, episode]."""
    keys = fold_in(streams(state.keys, "evaluate"), 2**30)
    played = play(family, uniform(family.action_dim), state.policy, tasks, keys, num_episodes, explore=True)
    return played.returns().reshape(-1, num_episodes)
