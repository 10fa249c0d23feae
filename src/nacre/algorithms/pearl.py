"""PEARL: probabilistic embeddings for actor-critic RL (Rakelly et al. 2019, arXiv 1903.08254), in the paper's order.

The belief, the objective, meta-testing (the agent), meta-training. The losses of the soft actor-critic, given z, are in
learning/soft_actor_critic.py, the training loop in learning/off_policy.py. Settings: presets/pearl.py.
docs/pearl.md maps equations and algorithm lines to functions; docs/differences.md compares paper and reference.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nacre.algorithms.protocol import Algorithm, Exported
from nacre.families.family import Family, TaskSet, num_tasks
from nacre.learning import action_noise, exporting, off_policy, relabelling, soft_actor_critic
from nacre.learning import replay as rings
from nacre.learning.buffer_sizes import buffer_sizes, initial_phases
from nacre.learning.collection import Buffers, Phases, without_observing
from nacre.learning.encoder_contexts import draw_batch, draw_context, fresh_encoder
from nacre.learning.hypotheses import Tried, of_telling, planned
from nacre.learning.networks import MLP, RecurrentEncoder, TanhGaussianPolicy, sample_action
from nacre.learning.off_policy import Procedure, State, transfer
from nacre.learning.replay import Replay
from nacre.learning.soft_actor_critic import Inferred, Metrics, Networks, Noise, Objective, Optimisers
from nacre.presets import protocols
from nacre.presets.pearl import PearlSettings
from nacre.presets.pearl_presets import PRESETS
from nacre.types import Agent, Belief, Key, Transition, select, stream

MIN_VARIANCE = 1e-7

# ----------------------------------------------------------------------------------------------------------------------
# The belief q(z | c): a product of one Gaussian factor per transition (paper, section 4.1)


class Factors(NamedTuple):
    """Natural parameters of Gaussian factors over z. The product of factors is their sum."""

    precision: Float[Array, "*lanes latent_dim"]
    weighted_mean: Float[Array, "*lanes latent_dim"]  # precision times mean


def what_is_seen(transition: Transition, config: PearlSettings) -> Array:
    """The encoder's input: obs, action, unscaled reward and perhaps next_obs."""
    seen = [transition.obs, transition.action, transition.reward[..., None]]
    if config.use_next_obs_in_context:
        seen.append(transition.next_obs)
    return jnp.concatenate(seen, axis=-1)


def encode(encoder: MLP, transition: Transition, config: PearlSettings) -> Factors:
    """The factor Psi(z | c_n) of every transition."""
    return as_factors(encoder(what_is_seen(transition, config)), config)


def as_factors(raw: Float[Array, "*lanes out"], config: PearlSettings) -> Factors:
    """The Gaussian factors that the encoder's outputs describe."""
    if not config.use_information_bottleneck:
        return Factors(jnp.ones_like(raw), raw)
    mean, variance = jnp.split(raw, 2, axis=-1)
    precision = 1.0 / jnp.maximum(jax.nn.softplus(variance), MIN_VARIANCE)
    return Factors(precision, precision * mean)


def posterior(total: Factors, config: PearlSettings) -> Belief:
    """The normalised product of factors, given their sum; the prior is a factor of it where the settings say so."""
    variance = 1.0 / (total.precision + 1.0 if config.use_prior_factor else total.precision)
    mean = variance * total.weighted_mean
    return Belief(mean, variance if config.use_information_bottleneck else jnp.zeros_like(variance))


def product_of(belief: Belief, config: PearlSettings) -> Factors:
    """The sum of factors whose posterior this belief is."""
    precision = 1.0 / belief.variance if config.use_information_bottleneck else jnp.ones_like(belief.mean)
    return Factors(precision - 1.0 if config.use_prior_factor else precision, precision * belief.mean)


def infer_posterior(encoder: MLP | RecurrentEncoder, context: Transition, config: PearlSettings) -> Belief:
    """q(z | c), Eq. 2, of a context [*lanes, context, ...]: in any order of its transitions, unless recurrent."""
    if isinstance(encoder, RecurrentEncoder):
        return posterior(as_factors(encoder(what_is_seen(context, config)), config), config)
    factors = encode(encoder, context, config)
    return posterior(Factors(*(x.sum(axis=-2) for x in factors)), config)


def prior(shape: tuple[int, ...], config: PearlSettings) -> Belief:
    """N(0, I), the belief before any transition (a point at 0 without the information bottleneck)."""
    return Belief(jnp.zeros(shape), jnp.full(shape, float(config.use_information_bottleneck)))


def sample_z(belief: Belief, noise: Float[Array, "*lanes latent_dim"]) -> Float[Array, "*lanes latent_dim"]:
    """z ~ belief, reparameterised by standard normal noise."""
    return belief.mean + jnp.sqrt(belief.variance) * noise


def kl_to_prior(belief: Belief) -> Float[Array, ""]:
    """KL(q(z | c) || N(0, I)), summed over latent dimensions AND over tasks, as the reference has it."""
    return 0.5 * jnp.sum(belief.variance + belief.mean**2 - 1.0 - jnp.log(belief.variance))


# ----------------------------------------------------------------------------------------------------------------------
# The objective (paper, Eq. 1 and 3): the critics' Bellman error and the belief's KL train the encoder; z is data to
# policy and V. batch is [task, batch, ...], context is [task, context, ...]


def infer_z(encoder: MLP | RecurrentEncoder, context: Transition, noise: Noise, config: PearlSettings) -> Inferred:
    """z [task, 1, latent_dim] drawn from the belief about each task, and the weighted KL, free below `free_nats`."""
    belief = infer_posterior(encoder, context, config)
    z = sample_z(belief, noise.z) if config.use_information_bottleneck else belief.mean
    kl = kl_to_prior(belief) if config.use_information_bottleneck else jnp.zeros((), z.dtype)
    size, variance = jnp.mean(jnp.abs(belief.mean)), jnp.mean(belief.variance)
    metrics = {"kl": kl, "posterior_mean_abs": size, "posterior_variance": variance}
    return Inferred(z[:, None], config.kl_weight * jnp.maximum(kl, config.free_nats * len(z)), metrics)


OBJECTIVE = Objective(infer=infer_z)
"""PEARL's losses. `variant` makes a method of them with a part replaced."""


# ----------------------------------------------------------------------------------------------------------------------
# Meta-testing (paper, Algorithm 2): the agent that meets a new task by posterior sampling


class Params(NamedTuple):
    """What acting needs."""

    encoder: MLP | RecurrentEncoder
    policy: TanhGaussianPolicy
    hypotheses: Any = ()  # where trials explore by them: Hypotheses
    rewards: MLP | None = None  # where it predicts them


class Memory(NamedTuple):
    """What the agent remembers of a trial, each [lane, ...]. Its size does not grow with the context."""

    factors: Factors  # sum over the transitions seen, or what the recurrent encoder makes of them
    num_transitions: Int[Array, " lane"]
    num_episodes: Int[Array, " lane"]
    z: Float[Array, "lane latent_dim"]
    hidden: Any = ()  # the recurrent encoder's state; () without one
    tried: Any = ()  # where it explores by hypotheses: Tried
    errors: Any = ()  # where it goes by predicted rewards: summed squared errors of every hypothesis
    noise: Any = ()  # where the noise of its actions is correlated in time: that of the last step


def belief(memory: Memory, config: PearlSettings) -> Belief:
    """The belief after all transitions of the trial so far; the prior before the first."""
    is_prior = (memory.num_transitions == 0)[:, None] & (not config.use_prior_factor)  # which is no factor then
    return posterior(memory.factors._replace(precision=jnp.where(is_prior, 1.0, memory.factors.precision)), config)


def make_agent(family: Family, config: PearlSettings) -> Agent:
    """PEARL as an Agent. Agents that act alike are made of the same functions, so that compiled code is reused.

    Logged transitions are absorbed as an episode of them would be. By the protocols that infer z at every step, it is
    the belief's mean: 0 before the first step. `resample` does so in episodes that do not explore (nacre's own).
    """
    return _agent(family, config.of_agent())


@functools.cache
def _agent(family: Family, config: PearlSettings) -> Agent:
    protocol = protocols.parse(config.protocol)
    num_exploring = config.num_exploration_episodes if protocol.explores else 0
    num_uniform_steps = protocol.num_uniform_steps(config.num_exploration_episodes, family.horizon)
    added = jnp.add if config.forgetting == 1.0 else lambda total, factor: config.forgetting * total + factor

    def begin(params: Params, task: Any, key: Key) -> Memory:
        zero = jnp.zeros(num_tasks(task), jnp.int32)
        empty = jnp.zeros((len(zero), config.latent_dim))
        hidden = params.encoder.start((len(zero),)) if isinstance(params.encoder, RecurrentEncoder) else ()
        z = sample_z(prior(empty.shape, config), jax.random.normal(key, empty.shape))
        errors = jnp.zeros((len(zero), len(params.hypotheses.z))) if config.by_rewards else ()
        noise = action_noise.begin(config.action_noise, (len(zero), family.action_dim), key)
        memory = Memory(Factors(empty, empty), zero, zero, z, hidden, errors=errors, noise=noise)
        return trying(params, memory, params.hypotheses.begin(len(zero), key)) if config.by_hypotheses else memory

    def trying(params: Params, memory: Memory, tried: Tried) -> Memory:
        z = select(memory.num_episodes < num_exploring, params.hypotheses.now(tried), memory.z)
        return memory._replace(z=z, tried=tried)

    def act(params: Params, memory: Memory, obs: Array, key: Key, explore: bool) -> tuple[Array, Memory]:
        if protocol.re_infers and (explore or protocol.one_episode):
            memory = memory._replace(z=belief(memory, config).mean)
        elif config.resample != "episode" and not explore:
            memory = memory._replace(z=select(memory.num_episodes < num_exploring, memory.z, z_now(memory, key)))
        output = params.policy(obs, memory.z)
        if not explore:
            return jnp.tanh(output.mean), memory
        uniform_key, key = jax.random.split(key) if num_uniform_steps > 0 else (key, key)
        noise, kept = action_noise.draw(memory.noise, output.mean.shape, key)
        action, memory = sample_action(output, noise)[0], memory._replace(noise=kept)
        if num_uniform_steps > 0:
            uniform = jax.random.uniform(uniform_key, action.shape, minval=-1.0, maxval=1.0)
            action = select(memory.num_transitions < num_uniform_steps, uniform, action)
        return action, memory

    def z_now(memory: Memory, key: Key) -> Array:
        found, noise = belief(memory, config), jax.random.normal(key, memory.z.shape)
        return found.mean if config.resample == "mean" else sample_z(found, noise)

    def observe(params: Params, memory: Memory, transition: Transition) -> Memory:
        seen = memory._replace(num_transitions=memory.num_transitions + 1)
        if config.by_hypotheses:
            seen = trying(params, seen, params.hypotheses.after_step(seen.tried))
        if config.by_rewards:
            errors, found = params.hypotheses.judged(config.forgetting * memory.errors, params.rewards, transition)
            return seen._replace(errors=errors, factors=product_of(found, config))
        if isinstance(params.encoder, RecurrentEncoder):
            raw, hidden = params.encoder.step(what_is_seen(transition, config), memory.hidden)
            return seen._replace(factors=as_factors(raw, config), hidden=hidden)
        factors = encode(params.encoder, transition, config)
        return seen._replace(factors=jax.tree.map(added, memory.factors, factors))

    def end_episode(params: Params, memory: Memory, key: Key) -> Memory:
        num_episodes = memory.num_episodes + 1
        explores, noise = num_episodes < num_exploring, jax.random.normal(key, memory.z.shape)
        source = select(explores, prior(memory.z.shape, config), belief(memory, config))
        memory = memory._replace(num_episodes=num_episodes, z=sample_z(source, noise))
        return trying(params, memory, params.hypotheses.after_episode(memory.tried)) if config.by_hypotheses else memory

    def restart(params: Params, memory: Memory, task: Any, key: Key) -> Memory:
        return begin(params, task, key)._replace(num_episodes=memory.num_episodes)

    return Agent(
        begin, act, observe, end_episode, restart=restart,
        explores=lambda index, scored_episode: protocol.re_infers and index < num_exploring,
    )  # fmt: skip


def export(params: Params, family: Family, config: PearlSettings) -> Exported:
    """The agent for programs without JAX."""
    beliefs = product_of(params.hypotheses.beliefs, config) if config.by_rewards else None
    return Exported(*exporting.posterior_sampling(params, family, config, MIN_VARIANCE, beliefs))


# ----------------------------------------------------------------------------------------------------------------------
# Meta-training (paper, Algorithm 1)


def init(family: Family, config: PearlSettings, seed: int) -> State:
    """The state before the first environment step, buffers sized for the whole run."""
    network_key, run_key = jax.random.split(jax.random.key(seed))
    networks, optimisers = init_learner(family.obs_dim, family.action_dim, config, network_key)
    number, dims = config.num_train_tasks, (family.obs_dim, family.action_dim)
    rl_buffer, context_buffer = (rings.empty(number, *size, *dims) for size in buffer_sizes(family, config))
    return off_policy.fresh_state(networks, optimisers, rl_buffer, context_buffer, run_key)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def init_learner(obs_dim: int, action_dim: int, config: PearlSettings, key: Key) -> tuple[Networks, Optimisers]:
    """Fresh networks, encoder included, and Adam before its first step."""
    make_encoder = functools.partial(fresh_encoder, obs_dim=obs_dim, action_dim=action_dim, config=config)
    networks = soft_actor_critic.init_networks(obs_dim, action_dim, config.latent_dim, config, key, make_encoder)
    return networks, soft_actor_critic.init_optimisers(networks, config)


def agent_params(state: State) -> Params:
    """What acting needs, out of the state of a run."""
    return Params(state.networks.encoder, state.networks.policy, rewards=state.networks.rewards)


@functools.partial(jax.jit, static_argnames=("family", "config"))
def hypotheses(state: State, family: Family, config: PearlSettings) -> Belief:
    """What a fresh context of every train task, drawn from the replay, makes the agent believe of it."""
    ring = state.rl_buffer if config.context in ("replay", "batch") else state.context_buffer
    assert ring is not None  # read to act
    context = draw_context(ring, jnp.arange(config.num_train_tasks), stream(state.key, "evaluate"), family, config)
    believed = infer_posterior(state.networks.encoder, context, config)
    return of_telling(believed, context.reward) if family.sparse else believed


def exploring_params(params: Params, hypotheses: Belief, family: Family, config: PearlSettings) -> Params:
    """The same parameters for trials that explore by these hypotheses."""
    return params._replace(hypotheses=planned(hypotheses, config.num_exploration_episodes, family.horizon))


def compile_update(family: Family, config: PearlSettings, num_seeds: int, objective: Objective = OBJECTIVE) -> None:
    """Compiles a whole block of updates, before the buffers are made, so that memory does not hold both at once."""
    tasks = family.task_set(0, config.num_train_tasks, config.num_test_tasks)  # of the right shapes
    p = relabelling.with_relabelling(procedure(family, config, objective), family, config.num_relabelled_tasks, tasks)
    off_policy.compile_block(lambda: init(family, config, 0), p, num_seeds, config.num_train_steps_per_iteration)


def meta_train(
    family: Family, config: PearlSettings, tasks: TaskSet, states: Sequence[State], objective: Objective = OBJECTIVE
) -> Iterator[tuple[list[State], list[Metrics]]]:
    """Continues the runs of one or more seeds: (states, metrics [update] of each) after every block of updates."""
    p = relabelling.with_relabelling(procedure(family, config, objective), family, config.num_relabelled_tasks, tasks)
    return off_policy.meta_train(family, config, tasks.train, states, p)


@functools.cache
def procedure(family: Family, config: PearlSettings, objective: Objective = OBJECTIVE) -> Procedure:
    """What PEARL adds to the loop of off-policy methods."""
    return Procedure(
        agent=without_observing(_agent(family, config.of_collection())),
        posterior_z=functools.partial(_posterior_z, family=family, config=config), params=agent_params,
        keep_all_context=config.keeps_all_context, num_tasks=config.num_train_tasks,
        initial=initial_phases(config), collection=Phases(*config.episodes_per_draw),
        data=lambda state: (Buffers(state.rl_buffer, state.context_buffer), None),
        draw=functools.partial(draw, family=family, config=config), learn=off_policy.learner(config, objective),
    )  # fmt: skip


def draw(data: Any, key: Key, family: Family, config: PearlSettings) -> tuple[Transition, Transition, Noise]:
    """What one update of one run learns from: (batch, context, noise). data: (Buffers, RelabellingTasks or None)."""
    buffers, tasks = data
    task_key, batch_key, context_key, noise_key, relabelling_key = jax.random.split(key, 5)
    task = rings.uniform_index(task_key, (config.meta_batch,), config.num_train_tasks)
    steps = draw_batch(buffers.rl, task, batch_key, family, config)
    source = buffers.rl if config.context == "replay" else buffers.context
    context = steps.first if config.context == "batch" else draw_context(source, task, context_key, family, config)
    number = config.num_relabelled_tasks
    told = relabelling.relabel(family, tasks, task, number, relabelling_key, steps.transitions, context)
    batch, context = steps._replace(transitions=told[0]).returns(config.discount), told[1]
    return batch, context, off_policy.draw_noise(noise_key, batch.action.shape, config.latent_dim, config)


@functools.partial(jax.jit, static_argnames=("family", "config"))
def _posterior_z(params: Params, own: Replay, lane: Any, key: Key, family: Family, config: PearlSettings) -> Array:
    """z drawn from the posterior of a fresh context batch of each lane's draw, [lane, latent_dim]."""
    context_key, z_key = jax.random.split(key)
    inferred = infer_posterior(params.encoder, draw_context(own, lane, context_key, family, config), config)
    return sample_z(inferred, jax.random.normal(z_key, inferred.mean.shape))


# ----------------------------------------------------------------------------------------------------------------------
# PEARL as an algorithm, and its variants


def variant(objective: Objective = OBJECTIVE, **changes: Any) -> Algorithm:
    """PEARL with another objective; `changes` replace further parts of `Algorithm`, such as `settings`.

    `nacre.register_algorithm("pearl-huber", pearl.variant(pearl.OBJECTIVE._replace(critic_error=huber)))`.
    """
    pearl = Algorithm(
        settings=PearlSettings, presets=PRESETS, init=init, make_agent=make_agent, agent_params=agent_params,
        meta_train=functools.partial(meta_train, objective=objective), belief=belief, transfer=transfer,
        compile=functools.partial(compile_update, objective=objective), hypotheses=hypotheses,
        exploring_params=exploring_params, export=export, several_devices=True, critics=attrgetter("networks"),
    )  # fmt: skip
    return dataclasses.replace(pearl, **changes)
