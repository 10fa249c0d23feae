"""The oracle: soft actor-critic that is told the task, an upper baseline; on one task, single-task SAC.

PEARL's losses with z := the task's parameters, and no encoder, belief or context. Settings: presets/oracle.py.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nacre.algorithms.protocol import Exported
from nacre.families.family import Family, TaskSet, num_tasks
from nacre.learning import action_noise, exporting, off_policy, soft_actor_critic
from nacre.learning import replay as rings
from nacre.learning.collection import Phases
from nacre.learning.networks import TanhGaussianPolicy, sample_action
from nacre.learning.off_policy import Draw, Learn, Procedure, State, transfer  # noqa: F401  (of this method too)
from nacre.learning.soft_actor_critic import Inferred, Metrics, Networks, Noise, Objective, Optimisers
from nacre.presets.oracle import OracleSettings
from nacre.types import Agent, Key, with_fixed_memory


def features(tasks: Any) -> Float[Array, "task task_dim"]:
    """The parameters of every task side by side, in the order of their names."""
    return jnp.concatenate([jnp.float32(tasks[x]).reshape(len(tasks[x]), -1) for x in sorted(tasks)], axis=-1)


def given_z(encoder: Any, task: Array, noise: Noise, config: OracleSettings) -> Inferred:
    """Replaces PEARL's inference: z is the task [task, task_dim]."""
    return Inferred(task[:, None], jnp.zeros((), task.dtype), {})


OBJECTIVE = Objective(infer=given_z)


class Memory(NamedTuple):
    """The agent's memory in a trial; z does not change after the beginning."""

    z: Float[Array, "lane task_dim"]
    noise: Any = ()  # where the noise of its actions is correlated in time: that of the last step


def make_agent(family: Family, config: OracleSettings) -> Agent:
    """The oracle as an Agent, the only one whose `begin` reads the task."""
    return _agent(family, "white")


@functools.cache
def _agent(family: Family, noise: str) -> Agent:
    def begin(params: TanhGaussianPolicy, task: Any, key: Key) -> Memory:
        return Memory(features(task), action_noise.begin(noise, (num_tasks(task), family.action_dim), key))

    def act(params: TanhGaussianPolicy, memory: Memory, obs: Array, key: Key, explore: bool) -> tuple[Array, Memory]:
        output = params(obs, memory.z)
        if not explore:
            return jnp.tanh(output.mean), memory
        drawn, kept = action_noise.draw(memory.noise, output.mean.shape, key)
        return sample_action(output, drawn)[0], memory._replace(noise=kept)

    return with_fixed_memory(lambda *given: None, begin)._replace(act=act)  # which changes the noise alone


def export(params: TanhGaussianPolicy, family: Family, config: OracleSettings) -> Exported:
    """The agent for programs without JAX."""
    policy, arrays = exporting.squashed_policy(params)
    words = {"kind": "task", "obs_dim": family.obs_dim, "policy": policy, "task": dict(family.parameters)}
    return Exported(words, arrays)


def init(family: Family, config: OracleSettings, seed: int) -> State:
    """The state before the first environment step, with a buffer large enough for the whole run."""
    network_key, run_key = jax.random.split(jax.random.key(seed))
    networks, optimisers = _init_learner(family, config, network_key)
    sizes = (config.num_trained, config.replay_capacity, config.env_steps(family), family.obs_dim, family.action_dim)
    return off_policy.fresh_state(networks, optimisers, rings.empty(*sizes), None, run_key)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _init_learner(family: Family, config: OracleSettings, key: Key) -> tuple[Networks, Optimisers]:
    networks = soft_actor_critic.init_networks(family.obs_dim, family.action_dim, family.task_dim, config, key)
    return networks, soft_actor_critic.init_optimisers(networks, config)


def agent_params(state: State) -> TanhGaussianPolicy:
    """The part of a run's state that acting needs."""
    return state.networks.policy


def meta_train(
    family: Family, config: OracleSettings, tasks: TaskSet, states: Sequence[State]
) -> Iterator[tuple[list[State], list[Metrics]]]:
    """Continues the runs of one or more seeds: (states, metrics [update] of each) after every block of updates."""
    described = features(tasks.train)
    states = [x._replace(networks=soft_actor_critic.with_task_scale(x.networks, described)) for x in states]
    draw, learn = _draw_and_learn(family, config)
    procedure = Procedure(
        agent=_agent(family, config.action_noise), params=agent_params, posterior_z=None, keep_all_context=False,
        num_tasks=config.num_trained, initial=Phases(prior=config.num_initial_episodes),
        collection=Phases(prior=config.num_episodes),
        data=lambda state: (state.rl_buffer, described), draw=draw, learn=learn,
    )  # fmt: skip
    return off_policy.meta_train(family, config, tasks.train, states, procedure)


@functools.cache
def _draw_and_learn(family: Family, config: OracleSettings) -> tuple[Draw, Learn]:
    def draw(data: tuple[rings.Replay, Array], key: Key) -> tuple[Any, Array, Noise]:
        replay, described = data
        task_key, batch_key, noise_key = jax.random.split(key, 3)
        task = rings.uniform_index(task_key, (config.meta_batch,), config.num_trained)
        sizes = (config.batch_size, config.num_step_returns, family.obs_dim)
        batch = rings.sample_steps(replay, task, *sizes, batch_key, *config.newest(family)).returns(config.discount)
        return batch, described[task], off_policy.draw_noise(noise_key, batch.action.shape, family.task_dim, config)

    return draw, off_policy.learner(config, OBJECTIVE)
