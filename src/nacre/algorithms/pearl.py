"""PEARL: probabilistic embeddings for actor-critic RL (Rakelly et al. 2019, arXiv 1903.08254), in the paper's order.

The belief, the losses and one update, meta-testing (the agent), meta-training. Settings: presets/pearl.py.
docs/pearl.md maps equations and algorithm lines to these functions; docs/differences.md compares paper and reference.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from nacre.families.family import Family, TaskSet, num_tasks
from nacre.learning import collection, off_policy, soft_actor_critic
from nacre.learning import replay as rings
from nacre.learning.collection import Buffers, Phases
from nacre.learning.networks import MLP, RecurrentEncoder, TanhGaussianPolicy, sample_action
from nacre.learning.replay import Replay
from nacre.learning.soft_actor_critic import Networks, Optimisers, init_learner
from nacre.presets.pearl import PearlConfig
from nacre.types import Agent, Belief, Key, Tasks, Transition, select, stream

MIN_VARIANCE = 1e-7

# ----------------------------------------------------------------------------------------------------------------------
# The belief q(z | c): a product of one Gaussian factor per transition (paper, section 4.1)


class Factors(NamedTuple):
    """Natural parameters of Gaussian factors over z. The product of factors is their sum."""

    precision: Float[Array, "*lanes latent_dim"]
    weighted_mean: Float[Array, "*lanes latent_dim"]  # precision times mean


def what_is_seen(transition: Transition, config: PearlConfig) -> Array:
    """The encoder's input: obs, action, unscaled reward and perhaps next_obs."""
    seen = [transition.obs, transition.action, transition.reward[..., None]]
    if config.use_next_obs_in_context:
        seen.append(transition.next_obs)
    return jnp.concatenate(seen, axis=-1)


def encode(encoder: MLP, transition: Transition, config: PearlConfig) -> Factors:
    """The factor Psi(z | c_n) of every transition."""
    return as_factors(encoder(what_is_seen(transition, config)), config)


def as_factors(raw: Float[Array, "*lanes out"], config: PearlConfig) -> Factors:
    """The Gaussian factors that the encoder's outputs describe."""
    if not config.use_information_bottleneck:
        return Factors(jnp.ones_like(raw), raw)
    mean, variance = jnp.split(raw, 2, axis=-1)
    precision = 1.0 / jnp.maximum(jax.nn.softplus(variance), MIN_VARIANCE)
    return Factors(precision, precision * mean)


def posterior(total: Factors, config: PearlConfig) -> Belief:
    """The normalised product of factors, given their sum; the prior is a factor of it where the settings say so."""
    variance = 1.0 / (total.precision + 1.0 if config.use_prior_factor else total.precision)
    mean = variance * total.weighted_mean
    return Belief(mean, variance if config.use_information_bottleneck else jnp.zeros_like(variance))


def infer_posterior(encoder: MLP | RecurrentEncoder, context: Transition, config: PearlConfig) -> Belief:
    """q(z | c) from a context [*lanes, context, ...]: whatever the order of its transitions, unless recurrent."""
    if isinstance(encoder, RecurrentEncoder):
        return posterior(as_factors(encoder(what_is_seen(context, config)), config), config)
    factors = encode(encoder, context, config)
    return posterior(Factors(*(x.sum(axis=-2) for x in factors)), config)


def prior(shape: tuple[int, ...], config: PearlConfig) -> Belief:
    """N(0, I), the belief before any transition (a point at 0 without the information bottleneck)."""
    variance = jnp.ones(shape) if config.use_information_bottleneck else jnp.zeros(shape)
    return Belief(jnp.zeros(shape), variance)


def sample_z(belief: Belief, noise: Float[Array, "*lanes latent_dim"]) -> Float[Array, "*lanes latent_dim"]:
    """z ~ belief, reparameterised by standard normal noise."""
    return belief.mean + jnp.sqrt(belief.variance) * noise


def kl_to_prior(belief: Belief) -> Float[Array, ""]:
    """KL(q(z | c) || N(0, I)), summed over latent dimensions AND over tasks, as the reference has it."""
    mean, variance = belief
    return 0.5 * jnp.sum(variance + mean**2 - 1.0 - jnp.log(variance))


# ----------------------------------------------------------------------------------------------------------------------
# The losses (paper, Eq. 1, 3, 4) and one update. batch is [task, batch, ...], context is [task, context, ...]


class Noise(NamedTuple):
    """All the randomness of an update, standard normal."""

    z: Float[Array, "task latent_dim"]
    action: Float[Array, "task batch action_dim"]
    next_action: Float[Array, "task batch action_dim"] | None = None  # where there is no V


Metrics = dict[str, Float[Array, ""]]


def q_values(critics: tuple[MLP, ...], obs: Array, action: Array, z: Array) -> list[Array]:
    """Every critic's Q(s, a, z), each [task, batch]."""
    x = jnp.concatenate([obs, action], axis=-1)
    return [critic(x, z)[..., 0] for critic in critics]


def min_q_value(critics: tuple[MLP, ...], obs: Array, action: Array, z: Array) -> Array:
    """The smallest of the critics' Q(s, a, z), [task, batch]."""
    return functools.reduce(jnp.minimum, q_values(critics, obs, action, z))


def temperature(networks: Networks) -> Array | float:
    """What the policy's entropy is worth against return."""
    return 1.0 if networks.log_temperature is None else jnp.exp(networks.log_temperature)


def next_value(networks: Networks, next_obs: Array, z: Array, noise: Noise) -> Array:
    """The value [task, batch] that the critics' target bootstraps from."""
    if networks.target_value is not None:
        return networks.target_value(next_obs, z)[..., 0]
    assert networks.target_critics is not None and noise.next_action is not None
    action, log_pi = sample_action(networks.policy(next_obs, z), noise.next_action)
    return min_q_value(networks.target_critics, next_obs, action, z) - temperature(networks) * log_pi


def infer_z(encoder: MLP, context: Transition, noise: Noise, config: PearlConfig) -> tuple[Array, Array, Metrics]:
    """z [task, 1, latent_dim] drawn from the belief about each task, and the belief's KL."""
    belief = infer_posterior(encoder, context, config)
    bottleneck = config.use_information_bottleneck
    z = sample_z(belief, noise.z) if bottleneck else belief.mean
    kl = kl_to_prior(belief) if bottleneck else jnp.zeros((), z.dtype)
    mean_abs, variance = jnp.mean(jnp.abs(belief.mean)), jnp.mean(belief.variance)
    return z[:, None], kl, {"kl": kl, "posterior_mean_abs": mean_abs, "posterior_variance": variance}


def critic_loss(
    trained: tuple[MLP, tuple[MLP, ...]],
    networks: Networks,
    batch: Transition,
    context: Transition,
    noise: Noise,
    config: PearlConfig,
    infer: Callable[..., tuple[Array, Array, Metrics]] = infer_z,
) -> tuple[Array, tuple[Array, Metrics]]:
    """Bellman error of the critics plus the belief's KL; the only loss that trains the encoder. Also returns z."""
    encoder, critics = trained
    z, kl, inferred = infer(encoder, context, noise, config)
    bootstrap = next_value(networks, batch.next_obs, jax.lax.stop_gradient(z), noise)
    target = config.reward_scale * batch.training_reward + batch.discount * config.discount * bootstrap
    target = jax.lax.stop_gradient(target)
    q = q_values(critics, batch.obs, batch.action, z)
    bellman_error = functools.reduce(jnp.add, [jnp.mean((each - target) ** 2) for each in q])
    metrics = {"critic_loss": bellman_error, "q_mean": jnp.mean(q[0]), "q_target_mean": jnp.mean(target)} | inferred
    return bellman_error + config.kl_weight * kl, (jax.lax.stop_gradient(z), metrics)


def policy_loss(
    policy: TanhGaussianPolicy,
    critics: tuple[MLP, ...],
    obs: Array,
    z: Array,
    action_noise: Array,
    config: PearlConfig,
    temperature: Array | float = 1.0,
) -> tuple[Array, tuple[Array, Metrics]]:
    """log pi - min Q of a fresh action, plus the reference's two regularisers; z is data. Also returns V's target."""
    output = policy(obs, z)
    action, log_pi = sample_action(output, action_noise)
    min_q = min_q_value(critics, obs, action, z)
    mean_penalty = config.policy_mean_reg_weight * jnp.mean(output.mean**2)
    std_penalty = config.policy_std_reg_weight * jnp.mean(output.log_std**2)
    loss = jnp.mean(temperature * log_pi - min_q) + mean_penalty + std_penalty
    metrics = {"policy_loss": loss, "log_pi": jnp.mean(log_pi), "policy_std": jnp.mean(jnp.exp(output.log_std))}
    return loss, (jax.lax.stop_gradient(min_q - temperature * log_pi), metrics)


def value_loss(value: MLP, target: Array, obs: Array, z: Array) -> tuple[Array, Metrics]:
    """V against min Q - log pi of the fresh action; z is data."""
    loss = jnp.mean((value(obs, z)[..., 0] - target) ** 2)
    return loss, {"value_loss": loss}


def temperature_loss(log_temperature: Array, log_pi: Array, action_dim: int) -> tuple[Array, Metrics]:
    """Raises the temperature while the policy's entropy is below its target, -action_dim nats."""
    loss = -log_temperature * jax.lax.stop_gradient(log_pi - action_dim)
    return loss, {"temperature": jnp.exp(log_temperature)}


def update(
    networks: Networks,
    optimisers: Optimisers,
    batch: Transition,
    context: Transition,
    noise: Noise,
    config: PearlConfig,
    infer: Callable[..., tuple[Array, Array, Metrics]] = infer_z,
) -> tuple[Networks, Optimisers, Metrics]:
    """One training step: encoder and critics first; then policy and V against the new critics; then V's target.

    `infer` is where z comes from; methods that are told the task have another.
    """
    adam = soft_actor_critic.adam(config)

    def step(loss: Any, params: Any, state: Any, *args: Any) -> tuple[Any, Any, Any]:
        (_, extra), gradient = jax.value_and_grad(loss, has_aux=True)(params, *args)
        change, state = adam.update(gradient, state)
        return optax.apply_updates(params, change), state, extra

    trained, obs, alpha = (networks.encoder, networks.critics), batch.obs, temperature(networks)
    (encoder, critics), critic_state, (z, metrics) = step(
        critic_loss, trained, optimisers.critic, networks, batch, context, noise, config, infer
    )
    policy, policy_state, (v_target, policy_metrics) = step(
        policy_loss, networks.policy, optimisers.policy, critics, obs, z, noise.action, config, alpha
    )
    after = networks._replace(encoder=encoder, critics=critics, policy=policy)
    states = optimisers._replace(critic=critic_state, policy=policy_state)
    metrics |= policy_metrics

    tau = config.soft_target_tau
    if networks.value is not None:
        value, state, more = step(value_loss, networks.value, optimisers.value, v_target, obs, z)
        after = after._replace(value=value, target_value=optax.incremental_update(value, networks.target_value, tau))
        states, metrics = states._replace(value=state), metrics | more
    else:
        after = after._replace(target_critics=optax.incremental_update(critics, networks.target_critics, tau))
    if networks.log_temperature is not None:
        log_pi, action_dim = metrics["log_pi"], batch.action.shape[-1]
        log_alpha, state, more = step(
            temperature_loss, networks.log_temperature, optimisers.temperature, log_pi, action_dim
        )
        after = after._replace(log_temperature=log_alpha)
        states, metrics = states._replace(temperature=state), metrics | more
    return after, states, metrics


# ----------------------------------------------------------------------------------------------------------------------
# Meta-testing (paper, Algorithm 2): the agent that meets a new task by posterior sampling


class Params(NamedTuple):
    """What acting needs."""

    encoder: MLP | RecurrentEncoder
    policy: TanhGaussianPolicy


class Memory(NamedTuple):
    """What the agent remembers of a trial, each [lane, ...]. Its size does not grow with the context."""

    factors: Factors  # sum over the transitions seen, or what the recurrent encoder makes of them
    num_transitions: Int[Array, " lane"]
    num_episodes: Int[Array, " lane"]
    z: Float[Array, "lane latent_dim"]
    hidden: Any = ()  # the recurrent encoder's state; () without one


def belief(memory: Memory, config: PearlConfig) -> Belief:
    """The belief after all transitions of the trial so far; the prior before the first."""
    if config.use_prior_factor:
        return posterior(memory.factors, config)
    seen = memory.num_transitions > 0
    precision = jnp.where(seen[:, None], memory.factors.precision, 1.0)  # with no factor, the prior's
    return posterior(Factors(precision, memory.factors.weighted_mean), config)


@functools.cache
def make_agent(config: PearlConfig) -> Agent:
    """PEARL as an Agent. The same settings give the same functions, so that compiled code is reused."""

    def begin(params: Params, task: Any, key: Key) -> Memory:
        num_lanes = num_tasks(task)
        empty = jnp.zeros((num_lanes, config.latent_dim))
        z = sample_z(prior(empty.shape, config), jax.random.normal(key, empty.shape))
        zero = jnp.zeros(num_lanes, jnp.int32)
        hidden = params.encoder.start((num_lanes,)) if isinstance(params.encoder, RecurrentEncoder) else ()
        return Memory(Factors(empty, empty), zero, zero, z, hidden)

    def act(params: Params, memory: Memory, obs: Array, key: Key, explore: bool) -> tuple[Array, Memory]:
        output = params.policy(obs, memory.z)
        if not explore:
            return jnp.tanh(output.mean), memory
        action, _ = sample_action(output, jax.random.normal(key, output.mean.shape))
        return action, memory

    def observe(params: Params, memory: Memory, transition: Transition) -> Memory:
        seen = memory._replace(num_transitions=memory.num_transitions + 1)
        if isinstance(params.encoder, RecurrentEncoder):
            raw, hidden = params.encoder.step(what_is_seen(transition, config), memory.hidden)
            return seen._replace(factors=as_factors(raw, config), hidden=hidden)
        factors = encode(params.encoder, transition, config)
        return seen._replace(factors=jax.tree.map(jnp.add, memory.factors, factors))

    def end_episode(params: Params, memory: Memory, key: Key) -> Memory:
        num_episodes = memory.num_episodes + 1
        explores = num_episodes < config.num_exploration_episodes
        source = select(explores, prior(memory.z.shape, config), belief(memory, config))
        return memory._replace(num_episodes=num_episodes, z=sample_z(source, jax.random.normal(key, memory.z.shape)))

    return Agent(begin, act, observe, end_episode, explores=lambda index, scored_episode: False)


# ----------------------------------------------------------------------------------------------------------------------
# Meta-training (paper, Algorithm 1)


class State(NamedTuple):
    """All that a run needs to continue. Every random number follows from `key` and a counter."""

    networks: Networks
    optimisers: Optimisers
    rl_buffer: Replay  # everything, the critics' data
    context_buffer: Replay  # the encoder's data: each task's latest collection, or all of them (`context_source`)
    key: Key
    env_steps: np.int64  # initial collection included, evaluation excluded
    grad_steps: np.int64
    meta_iterations: np.int64  # completed


def init(family: Family, config: PearlConfig, seed: int) -> State:
    """The state before the first environment step, buffers sized for the whole run."""
    network_key, run_key = jax.random.split(jax.random.key(seed))
    networks, optimisers = init_learner(family.obs_dim, family.action_dim, config, network_key)
    rl, context = buffer_sizes(family, config)
    dims = (family.obs_dim, family.action_dim)
    return State(
        networks=networks,
        optimisers=optimisers,
        rl_buffer=rings.empty(config.num_train_tasks, *rl, *dims),
        context_buffer=rings.empty(config.num_train_tasks, *context, *dims),
        key=run_key,
        env_steps=np.int64(0),
        grad_steps=np.int64(0),
        meta_iterations=np.int64(0),
    )


class BufferSize(NamedTuple):
    """Transitions that a run's replay can hold."""

    capacity: int  # of one task
    total: int  # of all tasks together


def buffer_sizes(family: Family, config: PearlConfig) -> tuple[BufferSize, BufferSize]:
    """How large the RL buffer and the context buffer of a whole run are."""
    phases = iteration_phases(config)
    drawn = sum(collection.collected(family, num_steps) for num_steps in phases)
    context = collection.collected_as_context(family, phases)
    initial = collection.collected(family, config.num_initial_steps)
    of_initial, num_draws = config.num_train_tasks * initial, config.iterations * config.num_tasks_sample
    rl = BufferSize(config.replay_capacity, of_initial + num_draws * drawn)
    if config.keeps_all_context:
        return rl, BufferSize(config.replay_capacity, of_initial + num_draws * context)
    latest = max(initial, context)
    return rl, BufferSize(latest, config.num_train_tasks * latest)


def agent_params(state: State) -> Params:
    """What acting needs, out of the state of a run."""
    return Params(state.networks.encoder, state.networks.policy)


def compile_update(family: Family, config: PearlConfig, num_seeds: int) -> None:
    """Compiles a whole block of updates, before the buffers are made, so that memory does not hold both at once."""
    state = jax.eval_shape(functools.partial(init, family, config, 0))
    num_updates = min(off_policy.UPDATES_PER_CALL, config.num_train_steps_per_iteration)
    of_states = _learning([state] * num_seeds, family.obs_dim, config)
    off_policy.block.lower(**of_states, first=np.int32(0), num_updates=num_updates).compile()


def meta_train(
    family: Family, config: PearlConfig, tasks: TaskSet, states: Sequence[State]
) -> Iterator[tuple[list[State], list[Metrics]]]:
    """Continues the runs of one or more seeds, side by side, from states with equal numbers of updates.

    Yields (states, metrics [update] of each) after every block of updates. An iteration is complete when
    `meta_iterations` has risen. Asking for the next states uses up the ones before.
    """
    states = list(states)
    if states[0].env_steps == 0:
        num_groups = -(-config.num_train_tasks * config.num_initial_steps // collection.INITIAL_STEPS)
        for group in np.array_split(np.arange(config.num_train_tasks), num_groups):
            straight = config.num_steps_straight > 0
            phases = Phases(straight=config.num_initial_steps) if straight else Phases(prior=config.num_initial_steps)
            states = collect(family, config, tasks.train, states, np.tile(group, (len(states), 1)), phases)
    num_updates = config.num_train_steps_per_iteration
    while states[0].meta_iterations < config.iterations:
        done = int(states[0].grad_steps) - int(states[0].meta_iterations) * num_updates
        if done == 0:
            drawn = np.stack([_draw_tasks(state, config) for state in states])
            states = collect(family, config, tasks.train, states, drawn, iteration_phases(config))
        block = min(off_policy.UPDATES_PER_CALL, num_updates - done)
        states, metrics = train(states, config, family.obs_dim, block)
        if done + block == num_updates:
            states = [state._replace(meta_iterations=state.meta_iterations + 1) for state in states]
        yield states, metrics


def _draw_tasks(state: State, config: PearlConfig) -> np.ndarray:
    """The train tasks that the next iteration collects in, [draw]."""
    key = jax.random.fold_in(stream(state.key, "tasks"), int(state.meta_iterations))
    return np.asarray(jax.random.randint(key, (config.num_tasks_sample,), 0, config.num_train_tasks))


def iteration_phases(config: PearlConfig) -> Phases:
    """The collection of every iteration."""
    c = config
    return Phases(c.num_steps_straight, c.num_steps_prior, c.num_steps_posterior, c.num_extra_rl_steps_posterior)


def collect(
    family: Family, config: PearlConfig, tasks: Tasks, states: Sequence[State], drawn: np.ndarray, phases: Phases
) -> list[State]:
    """Algorithm 1's collection for the drawn tasks [seed, draw] of every run."""
    keys = [jax.random.fold_in(stream(state.key, "collect"), int(state.env_steps)) for state in states]
    posterior_z = functools.partial(_posterior_z, obs_dim=family.obs_dim, config=config)
    buffers, env_steps = collection.collect(
        family, _collecting_agent(config), posterior_z, [agent_params(state) for state in states], tasks,
        [Buffers(state.rl_buffer, state.context_buffer) for state in states], drawn, phases, jnp.stack(keys),
        keep_all_context=config.keeps_all_context,
    )  # fmt: skip
    return [
        state._replace(
            networks=soft_actor_critic.rescaled(state.networks, both.rl, family.obs_dim, config),
            rl_buffer=both.rl, context_buffer=both.context, env_steps=state.env_steps + steps,
        )
        for state, both, steps in zip(states, buffers, env_steps, strict=True)
    ]  # fmt: skip


def train(
    states: Sequence[State], config: PearlConfig, obs_dim: int, num_updates: int
) -> tuple[list[State], list[Metrics]]:
    """Algorithm 1's training: `num_updates` updates of every run in one compiled scan. Metrics are [update]."""
    learners, metrics = off_policy.block(
        **_learning(states, obs_dim, config), first=np.int32(states[0].grad_steps), num_updates=num_updates
    )
    after = [
        state._replace(networks=networks, optimisers=optimisers, grad_steps=state.grad_steps + num_updates)
        for state, (networks, optimisers) in zip(states, learners, strict=True)
    ]
    return after, metrics


def _learning(states: Sequence[State], obs_dim: int, config: PearlConfig) -> dict[str, Any]:
    """What a block of updates takes of the states."""
    draws, learns = _draw_and_learn(obs_dim, config)
    return {
        "learners": [(state.networks, state.optimisers) for state in states], "keys": [state.key for state in states],
        "data": [Buffers(state.rl_buffer, state.context_buffer) for state in states], "draw": draws, "learn": learns,
    }  # fmt: skip


@functools.cache
def _draw_and_learn(obs_dim: int, config: PearlConfig) -> tuple[Any, Any]:
    """The two halves of an update, the same objects for the same settings, so that compiled code is reused."""

    def learn(learner: tuple[Networks, Optimisers], drawn: Any) -> tuple[tuple[Networks, Optimisers], Metrics]:
        batch, context, noise = drawn
        networks, optimisers, metrics = update(*learner, batch, context, noise, config)
        return (networks, optimisers), metrics

    return functools.partial(draw, obs_dim=obs_dim, config=config), learn


def draw(buffers: Buffers, key: Key, obs_dim: int, config: PearlConfig) -> tuple[Transition, Transition, Noise]:
    """What one update of one run learns from: (batch, context, noise)."""
    task_key, batch_key, context_key, noise_key = jax.random.split(key, 4)
    task = rings.uniform_index(task_key, (config.meta_batch,), config.num_train_tasks)
    sample_batch = rings.sample if config.batch_order == "transitions" else rings.sample_sequences
    batch = sample_batch(buffers.rl, task, config.batch_size, obs_dim, batch_key)
    context = batch
    if config.context_source != "batch":
        source = buffers.rl if config.context_source == "replay" else buffers.context
        context = draw_context(source, task, context_key, obs_dim, config)
    return batch, context, draw_noise(noise_key, batch.action.shape, config)


def draw_noise(key: Key, actions: tuple[int, ...], config: PearlConfig) -> Noise:
    """The noise of an update whose batch has actions of this shape, [task, batch, action_dim], in one call."""
    shapes = [(config.meta_batch, config.latent_dim), actions] + ([] if config.use_value_network else [actions])
    sizes = [math.prod(shape) for shape in shapes]
    parts = jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    return Noise(*(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)))


def draw_context(ring: Replay, task: Any, key: Key, obs_dim: int, config: PearlConfig) -> Transition:
    """A context of each of these rings: single transitions, of all or of a window, or a stretch in their order."""
    if config.context_window > 0:
        return rings.sample_window(ring, task, config.context_batch_size, config.context_window, obs_dim, key)
    sample = rings.sample_sequences if config.context_in_order else rings.sample
    return sample(ring, task, config.context_batch_size, obs_dim, key)


@functools.cache
def _collecting_agent(config: PearlConfig) -> Agent:
    """The agent without its observing: meta-training takes the belief from the context buffer, not from a trial."""
    return make_agent(config)._replace(observe=lambda params, memory, transition: memory)


@functools.partial(jax.jit, static_argnames=("obs_dim", "config"))
def _posterior_z(params: Params, own: Replay, lane: Any, key: Key, obs_dim: int, config: PearlConfig) -> Array:
    """z drawn from the posterior of a fresh context batch of each lane's draw, [lane, latent_dim]."""
    context_key, z_key = jax.random.split(key)
    context = draw_context(own, lane, context_key, obs_dim, config)
    inferred = infer_posterior(params.encoder, context, config)
    return sample_z(inferred, jax.random.normal(z_key, inferred.mean.shape))
