"""The oracle: soft actor-critic that is told the task, the upper line of a comparison; on one task, single-task SAC.

PEARL's losses with z := the task's parameters, and no encoder, belief or context. Settings: presets/oracle.py.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nacre.algorithms import pearl
from nacre.algorithms.pearl import Metrics, Noise
from nacre.families.family import Family, TaskSet
from nacre.learning import collection, off_policy, soft_actor_critic
from nacre.learning import replay as rings
from nacre.learning.collection import Buffers, Phases
from nacre.learning.networks import TanhGaussianPolicy, sample_action
from nacre.learning.replay import Replay
from nacre.learning.soft_actor_critic import Networks, Optimisers
from nacre.presets.oracle import OracleConfig
from nacre.types import Agent, Key, Tasks, stream


def task_dim(family: Family) -> int:
    """Numbers that describe a task."""
    return sum(max(1, size) for size in family.parameters.values())


def features(tasks: Any) -> Float[Array, "task task_dim"]:
    """The parameters of every task side by side, in the order of their names."""
    columns = [jnp.asarray(tasks[name], jnp.float32) for name in sorted(tasks)]
    return jnp.concatenate([values.reshape(values.shape[0], -1) for values in columns], axis=-1)


def given_z(encoder: Any, task: Array, noise: Noise, config: Any) -> tuple[Array, Array, Metrics]:
    """In the place of PEARL's inference: z is the task [task, task_dim]."""
    return task[:, None], jnp.zeros((), task.dtype), {}


# ----------------------------------------------------------------------------------------------------------------------
# The agent: knows the task from the beginning


class Memory(NamedTuple):
    """What the agent knows of a trial."""

    z: Float[Array, "lane task_dim"]


@functools.cache
def make_agent(family: Family, config: OracleConfig) -> Agent:
    """The oracle as an Agent, the only one whose `begin` reads the task."""

    def begin(params: TanhGaussianPolicy, task: Any, key: Key) -> Memory:
        return Memory(features(task))

    def act(params: TanhGaussianPolicy, memory: Memory, obs: Array, key: Key, explore: bool) -> tuple[Array, Memory]:
        output = params(obs, memory.z)
        if not explore:
            return jnp.tanh(output.mean), memory
        return sample_action(output, jax.random.normal(key, output.mean.shape))[0], memory

    return Agent(
        begin, act,
        observe=lambda params, memory, transition: memory,
        end_episode=lambda params, memory, key: memory,
        explores=lambda index, scored_episode: False,
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------------
# Training


class State(NamedTuple):
    """All that a run needs to continue."""

    networks: Networks  # without an encoder
    optimisers: Optimisers
    rl_buffer: Replay
    key: Key
    env_steps: np.int64
    grad_steps: np.int64
    meta_iterations: np.int64  # completed


def num_trained(config: OracleConfig) -> int:
    """How many tasks there are to train on."""
    return config.num_train_tasks if config.single_task < 0 else 1


def init(family: Family, config: OracleConfig, seed: int) -> State:
    """The state before the first environment step, the buffer sized for the whole run."""
    network_key, run_key = jax.random.split(jax.random.key(seed))
    networks, optimisers = _init_learner(family, config, network_key)
    initial, drawn = (collection.collected(family, num) for num in (config.num_initial_steps, config.num_steps))
    total = num_trained(config) * initial + config.iterations * config.num_tasks_sample * drawn
    sizes = (num_trained(config), config.replay_capacity, total, family.obs_dim, family.action_dim)
    counters = (np.int64(0), np.int64(0), np.int64(0))
    return State(networks, optimisers, rings.empty(*sizes), run_key, *counters)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _init_learner(family: Family, config: OracleConfig, key: Key) -> tuple[Networks, Optimisers]:
    settings = config.as_pearl(task_dim(family))
    networks = soft_actor_critic.init_networks(family.obs_dim, family.action_dim, settings, key)
    networks = networks._replace(encoder=None)  # type: ignore[arg-type]  # there is nothing to infer
    return networks, soft_actor_critic.init_optimisers(networks, settings)


def agent_params(state: State) -> TanhGaussianPolicy:
    """What acting needs, out of the state of a run."""
    return state.networks.policy


def meta_train(
    family: Family, config: OracleConfig, tasks: TaskSet, states: Sequence[State]
) -> Iterator[tuple[list[State], list[Metrics]]]:
    """As `pearl.meta_train`: collection, then updates, (states, metrics [update] of each) after every block."""
    states, own = list(states), tasks.train
    draw, learn = _draw_and_learn(family, config)
    described = features(own)
    if states[0].env_steps == 0:
        num_groups = -(-num_trained(config) * config.num_initial_steps // collection.INITIAL_STEPS)
        for group in np.array_split(np.arange(num_trained(config)), num_groups):
            states = _collect(family, config, own, states, np.tile(group, (len(states), 1)), config.num_initial_steps)
    num_updates = config.num_train_steps_per_iteration
    while states[0].meta_iterations < config.iterations:
        done = int(states[0].grad_steps) - int(states[0].meta_iterations) * num_updates
        if done == 0:
            drawn = np.stack([_draw_tasks(state, config) for state in states])
            states = _collect(family, config, own, states, drawn, config.num_steps)
        size = min(off_policy.UPDATES_PER_CALL, num_updates - done)
        learners, metrics = off_policy.block(
            learners=[(state.networks, state.optimisers) for state in states],
            data=[(state.rl_buffer, described) for state in states], keys=[state.key for state in states],
            first=np.int32(states[0].grad_steps), draw=draw, learn=learn, num_updates=size,
        )  # fmt: skip
        ended = done + size == num_updates
        states = [
            state._replace(
                networks=networks, optimisers=optimisers, grad_steps=state.grad_steps + size,
                meta_iterations=state.meta_iterations + ended,
            )
            for state, (networks, optimisers) in zip(states, learners, strict=True)
        ]  # fmt: skip
        yield states, metrics


def _draw_tasks(state: State, config: OracleConfig) -> np.ndarray:
    key = jax.random.fold_in(stream(state.key, "tasks"), int(state.meta_iterations))
    return np.asarray(jax.random.randint(key, (config.num_tasks_sample,), 0, num_trained(config)))


def _collect(
    family: Family, config: OracleConfig, tasks: Tasks, states: Sequence[State], drawn: np.ndarray, num_steps: int
) -> list[State]:
    keys = jnp.stack([jax.random.fold_in(stream(state.key, "collect"), int(state.env_steps)) for state in states])
    buffers, env_steps = collection.collect(
        family, make_agent(family, config), None, [agent_params(state) for state in states], tasks,
        [Buffers(state.rl_buffer, None) for state in states], drawn, Phases(prior=num_steps), keys,
    )  # fmt: skip
    settings = config.as_pearl(task_dim(family))
    return [
        state._replace(
            networks=soft_actor_critic.rescaled(state.networks, both.rl, family.obs_dim, settings),
            rl_buffer=both.rl, env_steps=state.env_steps + steps,
        )
        for state, both, steps in zip(states, buffers, env_steps, strict=True)
    ]  # fmt: skip


@functools.cache
def _draw_and_learn(family: Family, config: OracleConfig) -> tuple[Any, Any]:
    settings = config.as_pearl(task_dim(family))

    def draw(data: tuple[Replay, Array], key: Key) -> tuple[Any, Array, Noise]:
        replay, described = data
        task_key, batch_key, noise_key = jax.random.split(key, 3)
        task = rings.uniform_index(task_key, (config.meta_batch,), num_trained(config))
        batch = rings.sample(replay, task, config.batch_size, family.obs_dim, batch_key)
        return batch, described[task], pearl.draw_noise(noise_key, batch.action.shape, settings)

    def learn(learner: tuple[Networks, Optimisers], drawn: Any) -> tuple[tuple[Networks, Optimisers], Metrics]:
        batch, task, noise = drawn
        networks, optimisers, metrics = pearl.update(*learner, batch, task, noise, settings, given_z)
        return (networks, optimisers), metrics

    return draw, learn
