"""Offline meta-RL with a task variable z that is inferred from a context of logged transitions: PEARL offline, FOCAL.

The encoder and its objectives, meta-testing (the agent), meta-training. A method is an encoder objective (`OBJECTIVES`)
over an actor-critic given z (learning/backbones.py), so a new method is another objective. The training loop is in
learning/offline.py, settings in presets/offline_context.py. docs/offline-context.md maps equations to functions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from nacre.algorithms.protocol import Algorithm, Exported
from nacre.errors import NacreError
from nacre.families.family import Family, TaskSet, num_tasks
from nacre.learning import backbones, exporting, offline
from nacre.learning.networks import MLP, TanhGaussianPolicy
from nacre.learning.offline import Logs, Procedure, State, transfer, uniform_rows
from nacre.learning.replay import uniform_index
from nacre.learning.soft_actor_critic import Inferred, Metrics
from nacre.presets import protocols
from nacre.presets.offline_context import PRESETS, FocalSettings, OfflineContextSettings
from nacre.types import Agent, Belief, Key, Logged, Transition, select

__all__ = ["agent_params", "belief", "export", "init", "make_agent", "meta_train", "transfer", "variant"]

# ----------------------------------------------------------------------------------------------------------------------
# The encoder: z is the mean of what it says of every transition


def what_is_seen(transition: Transition, config: OfflineContextSettings) -> Array:
    """The encoder's input: obs, action, unscaled reward and perhaps next_obs."""
    seen = [transition.obs, transition.action, transition.reward[..., None]]
    if config.use_next_obs_in_context:
        seen.append(transition.next_obs)
    return jnp.concatenate(seen, axis=-1)


def init_encoder(obs_dim: int, action_dim: int, config: OfflineContextSettings, key: Key) -> MLP:
    """A fresh encoder of single transitions."""
    seen = obs_dim * (2 if config.use_next_obs_in_context else 1) + action_dim + 1
    size = (config.encoder_hidden_dim, config.num_encoder_hidden_layers)
    return MLP(seen, *size, config.latent_dim, 3e-3, precision=config.precision, key=key)


def encode(encoder: MLP, transition: Transition, config: OfflineContextSettings) -> Float[Array, "*lanes latent_dim"]:
    """tanh of the encoder's output for every transition."""
    return jnp.tanh(encoder(what_is_seen(transition, config)))


# ----------------------------------------------------------------------------------------------------------------------
# Encoder objectives. context is [task, context, ...], task [task] numbers the tasks


class EncoderObjective(NamedTuple):
    """What trains the encoder.

    `loss`: (encoder, context, task, key, settings) -> (z [task, latent_dim], a loss of the encoder's own, metrics).
    `encoder` is whatever `init` makes, all of it trained: it may hold decoders and classifiers as well.
    """

    loss: Callable[[Any, Transition, Any, Key, Any], tuple[Array, Array, Metrics]]
    critic_trains_encoder: bool  # whether the critics' gradient reaches the encoder
    init: Callable[[int, int, Any, Key], Any] = init_encoder  # (obs_dim, action_dim, settings, key) -> encoder
    encode: Callable[[Any, Transition, Any], Array] = encode  # (encoder, transitions, settings) -> z is their mean


def critic_loss_alone(
    encoder: Any, context: Transition, task: Int[Array, " task"], key: Key, config: OfflineContextSettings
) -> tuple[Float[Array, "task latent_dim"], Float[Array, ""], Metrics]:
    """Offline PEARL: the encoder has no loss of its own; z is a point, without noise and KL."""
    z = jnp.mean(encode(encoder, context, config), axis=-2)
    return z, jnp.zeros((), z.dtype), {"z_mean_abs": jnp.mean(jnp.abs(z))}


def focal_loss(
    encoder: Any, context: Transition, task: Int[Array, " task"], key: Key, config: FocalSettings
) -> tuple[Float[Array, "task latent_dim"], Float[Array, ""], Metrics]:
    """FOCAL: contexts of the same task attract, those of different tasks repel each other."""
    z = jnp.mean(encode(encoder, context, config), axis=-2)
    same, different = metric_terms(z, task, config)
    metrics = {"z_mean_abs": jnp.mean(jnp.abs(z)), "attraction": same, "repulsion": different}
    loss = config.focal_weight * (same + different)
    return z, loss, metrics | {"encoder_loss": loss}


def metric_terms(
    z: Float[Array, "task latent_dim"], task: Int[Array, " task"], config: FocalSettings
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(attraction, repulsion): means of sqrt(d) over the pairs of the same task, and of 1 / (d^(power / 2) + epsilon)
    over the others. d is the mean over latent dimensions of the squared difference; constants as in FOCAL's code."""
    first, second = np.triu_indices(task.shape[0], k=1)
    squared = jnp.mean((z[first] - z[second]) ** 2, axis=-1)
    same = task[first] == task[second]

    def mean_over(pairs: Array, values: Array) -> Array:
        return jnp.sum(jnp.where(pairs, values, 0.0)) / (jnp.sum(pairs) + 1e-3)

    attraction = jnp.sqrt(squared + 1e-3)
    distance = squared if config.focal_power == 2.0 else (squared + 1e-8) ** (config.focal_power / 2)
    return mean_over(same, attraction), mean_over(~same, 1.0 / (distance + config.focal_epsilon))


OBJECTIVES = {
    "critic": EncoderObjective(critic_loss_alone, critic_trains_encoder=True),
    "focal": EncoderObjective(focal_loss, critic_trains_encoder=False),
}
"""By the name that a method's settings have for it (`encoder_objective`)."""


def objective_of(config: OfflineContextSettings) -> EncoderObjective:
    """The encoder objective of these settings."""
    return OBJECTIVES[config.encoder_objective]


def infer(
    encoder: Any, context: Transition, task: Array, key: Key, config: OfflineContextSettings,
    objective: EncoderObjective,
) -> Inferred:  # fmt: skip
    """z [task, 1, latent_dim], without gradient unless the critics train the encoder; and the encoder's own loss."""
    z, loss, metrics = objective.loss(encoder, context, task, key, config)
    if not objective.critic_trains_encoder:
        z = jax.lax.stop_gradient(z)
    return Inferred(z[:, None], loss, metrics)


# ----------------------------------------------------------------------------------------------------------------------
# Meta-testing: the agent, by the protocol that the settings name (docs/protocols.md)


class Params(NamedTuple):
    """What acting needs."""

    encoder: Any
    policy: TanhGaussianPolicy


class Memory(NamedTuple):
    """What the agent remembers of a trial, each [lane, ...]. Its size does not grow with the context."""

    total: Float[Array, "lane latent_dim"]  # sum of the encodings of the context
    num_transitions: Int[Array, " lane"]  # in the context
    num_episodes: Int[Array, " lane"]
    z: Float[Array, "lane latent_dim"]
    is_anew: Bool[Array, " lane"]  # it was restarted: all that follows is context, not exploring episodes alone


def mean_encoding(memory: Memory) -> Float[Array, "lane latent_dim"]:
    """z as the context so far has it; 0 while it is empty."""
    return memory.total / jnp.maximum(memory.num_transitions, 1)[:, None]


def belief(memory: Memory, config: OfflineContextSettings) -> Belief:
    """The point that the context so far says z is: a belief without variance."""
    z = mean_encoding(memory)
    return Belief(z, jnp.zeros_like(z))


@functools.cache
def make_agent(family: Family, config: OfflineContextSettings, objective: EncoderObjective | None = None) -> Agent:
    """The method as an Agent. The same settings give the same functions, so that compiled code is reused."""
    encoding, protocol = (objective or objective_of(config)).encode, protocols.parse(config.protocol)
    num_exploration = config.num_exploration_episodes if protocol.explores else 0
    is_np, is_zero_shot = protocol.explores and protocol.re_infers, protocol.one_episode
    num_random_steps = protocol.num_uniform_steps(config.num_exploration_episodes, family.horizon)

    def begin(params: Params, task: Any, key: Key) -> Memory:
        return _empty(num_tasks(task), config)

    def absorb(params: Params, memory: Memory, logged: Logged, key: Key) -> Memory:
        encoded = encoding(params.encoder, logged.transition, config)
        number = memory.num_transitions + encoded.shape[1]
        memory = memory._replace(total=memory.total + encoded.sum(axis=1), num_transitions=number)
        return memory._replace(z=mean_encoding(memory))

    def act(params: Params, memory: Memory, obs: Array, key: Key, explore: bool) -> tuple[Array, Memory]:
        output = params.policy(obs, memory.z)
        if not explore:
            return jnp.tanh(output.mean), memory
        noise_key, random_key = jax.random.split(key)
        action = backbones.sample(output, jax.random.normal(noise_key, output.mean.shape), config)
        if num_random_steps:
            uniform = jax.random.uniform(random_key, action.shape, action.dtype, -1.0, 1.0)
            action = jnp.where((memory.num_transitions < num_random_steps)[:, None], uniform, action)
        return action, memory

    def observe(params: Params, memory: Memory, transition: Transition) -> Memory:
        if num_exploration == 0 and not is_zero_shot:
            return memory
        total = memory.total + encoding(params.encoder, transition, config)
        seen = memory._replace(total=total, num_transitions=memory.num_transitions + 1)
        seen = seen._replace(z=mean_encoding(seen)) if protocol.re_infers else seen
        return seen if is_zero_shot else select((memory.num_episodes < num_exploration) | memory.is_anew, seen, memory)

    def end_episode(params: Params, memory: Memory, key: Key) -> Memory:
        if is_zero_shot:  # every episode is a trial of its own
            return _empty(memory.z.shape[0], config)
        memory = memory._replace(num_episodes=memory.num_episodes + 1)
        if protocol.re_infers or not protocol.explores:
            return memory
        return memory._replace(z=select(memory.num_episodes >= num_exploration, mean_encoding(memory), memory.z))

    def restart(params: Params, memory: Memory, task: Any, key: Key) -> Memory:
        empty = _empty(memory.z.shape[0], config)
        return empty._replace(num_episodes=memory.num_episodes, is_anew=jnp.ones_like(empty.is_anew))

    def explores(index: int, scored_episode: int) -> bool:
        sampled = is_np or config.stochastic_exploration
        return sampled and index < min(num_exploration, scored_episode)

    return Agent(begin, act, observe, end_episode, explores, absorb, restart)


def export(
    params: Params, family: Family, config: OfflineContextSettings, objective: EncoderObjective | None = None
) -> Exported:
    """The agent for programs without JAX. Raises NacreError for an objective that encodes in a way of its own."""
    if (objective or objective_of(config)).encode is not encode:
        raise NacreError("agents with an encoder of this kind cannot be exported; act with agent.session().")
    protocol = protocols.parse(config.protocol)
    if backbones.BACKBONES[config.backbone].squashed:
        policy, policy_arrays = exporting.squashed_policy(params.policy)
    else:
        policy, policy_arrays = exporting.squashed_policy(params.policy, "clipped", backbones.LOG_STD_LIMITS)
    encoder, encoder_arrays = exporting.encoder(params.encoder)
    words = {
        "kind": "embedding", "obs_dim": family.obs_dim, "latent_dim": config.latent_dim, "policy": policy,
        "encoder": encoder, "explores": protocol.explores, "re_infers": protocol.re_infers,
        "one_episode": protocol.one_episode,
        "uniform_steps": protocol.num_uniform_steps(config.num_exploration_episodes, family.horizon),
        "exploration_episodes": config.num_exploration_episodes if protocol.explores else 0,
    }  # fmt: skip
    return Exported(words, policy_arrays | encoder_arrays)


def _empty(num_lanes: int, config: OfflineContextSettings) -> Memory:
    """The memory of a trial that has seen nothing: z is 0."""
    zero, none = jnp.zeros((num_lanes, config.latent_dim)), jnp.zeros(num_lanes, jnp.int32)
    return Memory(zero, none, none, zero, jnp.zeros(num_lanes, bool))


# ----------------------------------------------------------------------------------------------------------------------
# Meta-training


def init(family: Family, config: OfflineContextSettings, seed: int, objective: EncoderObjective | None = None) -> State:
    """The state before the first update."""
    network_key, run_key = jax.random.split(jax.random.key(seed))
    networks, optimisers = _init_learner(
        family.obs_dim, family.action_dim, config, objective or objective_of(config), network_key
    )
    return offline.begun(networks, optimisers, run_key)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _init_learner(
    obs_dim: int, action_dim: int, config: OfflineContextSettings, objective: EncoderObjective, key: Key
) -> tuple[backbones.Networks, backbones.Optimisers]:
    make_encoder = functools.partial(objective.init, obs_dim, action_dim, config)
    networks = backbones.init_networks(obs_dim, action_dim, config, key, make_encoder)
    return networks, backbones.init_optimisers(networks)


def agent_params(state: State) -> Params:
    """What acting needs, out of the state of a run."""
    return Params(state.networks.encoder, state.networks.policy)


def meta_train(
    family: Family, config: OfflineContextSettings, tasks: TaskSet, states: Sequence[State], logs: Logs,
    objective: EncoderObjective | None = None,
) -> Iterator[tuple[list[State], list[Metrics]]]:  # fmt: skip
    """Continues the runs of one or more seeds: (states, metrics [update] of each) after every block of updates.

    Raises NacreError where an update's tasks cannot all be distinct.
    """
    num_logged = _num_tasks(logs, config)
    if config.task_draw == "distinct" and config.meta_batch > num_logged:
        raise NacreError(
            f"an update needs {config.meta_batch} distinct tasks, but the data set has {num_logged} train tasks; set "
            f"--meta-batch {num_logged} or less, or --task-draw replacement."
        )
    states = with_reward_scales(config, logs, family, states)
    return offline.meta_train(
        config, logs, states, procedure(family.obs_dim, config, objective or objective_of(config))
    )


def with_reward_scales(
    config: OfflineContextSettings, logs: Logs, family: Family, states: Sequence[State]
) -> list[State]:
    """Before the first update with the scale of these logs: a run that starts from another brings that one's."""
    if states[0].grad_steps > 0:
        return list(states)
    scale = jnp.asarray(reward_scale(logs, family) if config.normalise_rewards else 1.0, jnp.float32)
    return [state._replace(networks=state.networks._replace(reward_scale=scale)) for state in states]


def reward_scale(logs: Logs, family: Family) -> float:
    """horizon / range, where range is the largest less the smallest return of a logged episode of a task, averaged over
    tasks (as IQL's code scales rewards, there for one task); 1 where all episodes of a task return the same."""
    last = np.asarray(logs.last_row)
    at = np.flatnonzero(last == np.arange(len(last)))  # last rows of the episodes
    reward = np.asarray(logs.rows[:, -family.obs_dim - 2], np.float64)  # the training reward: see `replay.pack`
    returns = np.diff(np.cumsum(reward)[at], prepend=0.0)
    ranges = []
    for first, number in zip(np.asarray(logs.first_row), np.asarray(logs.num_rows), strict=True):
        own = returns[(at >= first) & (at < first + number)]
        ranges.append(own.max() - own.min())
    spread = float(np.mean(ranges))
    return family.horizon / spread if spread > 0 else 1.0


def _num_tasks(logs: Logs, config: OfflineContextSettings) -> int:
    """Tasks to draw from: all that are logged, or the first so many."""
    logged: int = logs.first_row.shape[0]
    return min(config.num_train_tasks or logged, logged)


@functools.cache
def procedure(obs_dim: int, config: OfflineContextSettings, objective: EncoderObjective) -> Procedure:
    """What these methods add to the loop of offline methods."""
    return Procedure(
        choose=functools.partial(choose, config=config),
        learn=functools.partial(learn, config=config, objective=objective), obs_dim=obs_dim, with_returns=False,
    )  # fmt: skip


def choose(logs: Logs, key: Key, config: OfflineContextSettings) -> tuple[Any, Any]:
    """Rows of one update, of single transitions: ({"batch", "context"} [task, number], (tasks, a key for the rest))."""
    task_key, batch_key, context_key, rest_key = jax.random.split(key, 4)
    number = _num_tasks(logs, config)
    if config.task_draw == "distinct":
        task = jax.random.permutation(task_key, number)[: config.meta_batch]
    else:
        task = uniform_index(task_key, (config.meta_batch,), number)
    batch = uniform_rows(logs, task, config.batch_size, batch_key)
    context = uniform_rows(logs, task, config.context_batch_size, context_key)
    return {"batch": batch, "context": context}, (task, rest_key)


def learn(
    learner: tuple[backbones.Networks, backbones.Optimisers], drawn: dict[str, Transition], rest: tuple[Any, Key],
    config: OfflineContextSettings, objective: EncoderObjective,
) -> tuple[tuple[backbones.Networks, backbones.Optimisers], Metrics]:  # fmt: skip
    """One update of encoder, actor and critics."""
    task, key = rest
    encoder_key, key = jax.random.split(key)
    inferred = functools.partial(
        infer, context=drawn["context"], task=task, key=encoder_key, config=config, objective=objective
    )
    networks, optimisers, metrics = backbones.update(*learner, drawn["batch"], inferred, key, config)
    return (networks, optimisers), metrics


# ----------------------------------------------------------------------------------------------------------------------
# Variants


def variant(objective: EncoderObjective, settings: type[OfflineContextSettings], **changes: Any) -> Algorithm:
    """A method with another encoder objective; `changes` replace further parts of `Algorithm`, such as `presets`.

    `nacre.register_algorithm("mine", offline_context.variant(EncoderObjective(my_loss, False), MySettings))`.
    """
    method = Algorithm(
        settings=settings, presets=PRESETS, agent_params=agent_params, belief=belief, transfer=transfer, offline=True,
        init=functools.partial(init, objective=objective),
        make_agent=functools.partial(make_agent, objective=objective),
        export=functools.partial(export, objective=objective),
        meta_train=functools.partial(meta_train, objective=objective),
    )  # fmt: skip
    return dataclasses.replace(method, **changes)
