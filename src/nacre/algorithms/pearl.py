"""PEARL: probabilistic embeddings for actor-critic RL (Rakelly et al. 2019, arXiv 1903.08254), in the paper's order.

The belief, the losses and one update, meta-testing (the agent), meta-training. Settings: presets/pearl.py.
docs/pearl.md maps equations and algorithm lines to these functions; docs/differences.md compares paper and reference.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from nacre import replay as rings
from nacre.families.family import Family, TaskSet, num_tasks, take
from nacre.networks import MLP, TanhGaussianPolicy, sample_action
from nacre.presets.pearl import PearlConfig
from nacre.replay import Replay
from nacre.rollout import begin, episode
from nacre.types import Agent, Belief, Key, Tasks, Transition, select, stream

MIN_VARIANCE = 1e-7
UPDATES_PER_CALL = 50
"""Updates in one compiled scan: few enough to show progress and stop soon, enough that Python costs nothing."""

INITIAL_STEPS = 50_000
"""Environment steps of the initial collection that run side by side, for the sake of memory."""

# ----------------------------------------------------------------------------------------------------------------------
# The belief q(z | c): a product of one Gaussian factor per transition (paper, section 4.1)


class Factors(NamedTuple):
    """Natural parameters of Gaussian factors over z. The product of factors is their sum."""

    precision: Float[Array, "*lanes latent_dim"]
    weighted_mean: Float[Array, "*lanes latent_dim"]  # precision times mean


def encode(encoder: MLP, transition: Transition, config: PearlConfig) -> Factors:
    """The factor Psi(z | c_n) of every transition: it sees obs, action, unscaled reward and perhaps next_obs."""
    seen = [transition.obs, transition.action, transition.reward[..., None]]
    if config.use_next_obs_in_context:
        seen.append(transition.next_obs)
    raw = encoder(jnp.concatenate(seen, axis=-1))
    if not config.use_information_bottleneck:
        return Factors(jnp.ones_like(raw), raw)
    mean, variance = jnp.split(raw, 2, axis=-1)
    precision = 1.0 / jnp.maximum(jax.nn.softplus(variance), MIN_VARIANCE)
    return Factors(precision, precision * mean)


def posterior(total: Factors, config: PearlConfig) -> Belief:
    """The normalised product of factors, given their sum. There is no prior factor in it."""
    variance = 1.0 / total.precision
    mean = variance * total.weighted_mean
    return Belief(mean, variance if config.use_information_bottleneck else jnp.zeros_like(variance))


def infer_posterior(encoder: MLP, context: Transition, config: PearlConfig) -> Belief:
    """q(z | c) from a context [*lanes, context, ...]: whatever the order of its transitions."""
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


class Networks(NamedTuple):
    """Everything that is learnt. The two critics start different."""

    encoder: MLP
    policy: TanhGaussianPolicy
    critics: tuple[MLP, MLP]
    value: MLP
    target_value: MLP


class Optimisers(NamedTuple):
    """Adam's state, for the losses in the order of their steps."""

    critic: Any  # encoder and critics
    policy: Any
    value: Any


class Noise(NamedTuple):
    """All the randomness of an update, standard normal."""

    z: Float[Array, "task latent_dim"]
    action: Float[Array, "task batch action_dim"]


Metrics = dict[str, Float[Array, ""]]


def q_values(critics: tuple[MLP, MLP], obs: Array, action: Array, z: Array) -> tuple[Array, Array]:
    """Q1 and Q2 of (s, a, z), each [task, batch]."""
    x = jnp.concatenate([obs, action], axis=-1)
    q1, q2 = (critic(x, z)[..., 0] for critic in critics)
    return q1, q2


def critic_loss(
    trained: tuple[MLP, tuple[MLP, MLP]],
    target_value: MLP,
    batch: Transition,
    context: Transition,
    z_noise: Array,
    config: PearlConfig,
) -> tuple[Array, tuple[Array, Metrics]]:
    """Bellman error of both critics plus the belief's KL; the only loss that trains the encoder. Also returns z."""
    encoder, critics = trained
    belief = infer_posterior(encoder, context, config)
    z = sample_z(belief, z_noise)[:, None] if config.use_information_bottleneck else belief.mean[:, None]
    next_value = target_value(batch.next_obs, jax.lax.stop_gradient(z))[..., 0]
    target = config.reward_scale * batch.training_reward + batch.discount * config.discount * next_value
    target = jax.lax.stop_gradient(target)
    q1, q2 = q_values(critics, batch.obs, batch.action, z)
    bellman_error = jnp.mean((q1 - target) ** 2) + jnp.mean((q2 - target) ** 2)
    kl = kl_to_prior(belief) if config.use_information_bottleneck else jnp.zeros_like(bellman_error)
    metrics = {
        "critic_loss": bellman_error,
        "kl": kl,
        "q_mean": jnp.mean(q1),
        "q_target_mean": jnp.mean(target),
        "posterior_mean_abs": jnp.mean(jnp.abs(belief.mean)),
        "posterior_variance": jnp.mean(belief.variance),
    }
    return bellman_error + config.kl_weight * kl, (jax.lax.stop_gradient(z), metrics)


def policy_loss(
    policy: TanhGaussianPolicy, critics: tuple[MLP, MLP], obs: Array, z: Array, action_noise: Array, config: PearlConfig
) -> tuple[Array, tuple[Array, Metrics]]:
    """log pi - min Q of a fresh action, plus the reference's two regularisers; z is data. Also returns V's target."""
    output = policy(obs, z)
    action, log_pi = sample_action(output, action_noise)
    min_q = jnp.minimum(*q_values(critics, obs, action, z))
    mean_penalty = config.policy_mean_reg_weight * jnp.mean(output.mean**2)
    std_penalty = config.policy_std_reg_weight * jnp.mean(output.log_std**2)
    loss = jnp.mean(log_pi - min_q) + mean_penalty + std_penalty
    metrics = {"policy_loss": loss, "log_pi": jnp.mean(log_pi), "policy_std": jnp.mean(jnp.exp(output.log_std))}
    return loss, (jax.lax.stop_gradient(min_q - log_pi), metrics)


def value_loss(value: MLP, target: Array, obs: Array, z: Array) -> tuple[Array, Metrics]:
    """V against min Q - log pi of the fresh action; z is data."""
    loss = jnp.mean((value(obs, z)[..., 0] - target) ** 2)
    return loss, {"value_loss": loss}


def update(
    networks: Networks,
    optimisers: Optimisers,
    batch: Transition,
    context: Transition,
    noise: Noise,
    config: PearlConfig,
) -> tuple[Networks, Optimisers, Metrics]:
    """One training step: encoder and critics first; then policy and V against the new critics; then V's target."""
    adam = _adam(config)

    def step(loss: Any, params: Any, state: Any, *args: Any) -> tuple[Any, Any, Any]:
        (_, extra), gradient = jax.value_and_grad(loss, has_aux=True)(params, *args)
        change, state = adam.update(gradient, state)
        return optax.apply_updates(params, change), state, extra

    trained = (networks.encoder, networks.critics)
    (encoder, critics), critic_state, (z, critic_metrics) = step(
        critic_loss, trained, optimisers.critic, networks.target_value, batch, context, noise.z, config
    )
    policy, policy_state, (v_target, policy_metrics) = step(
        policy_loss, networks.policy, optimisers.policy, critics, batch.obs, z, noise.action, config
    )
    value, value_state, value_metrics = step(value_loss, networks.value, optimisers.value, v_target, batch.obs, z)

    target_value = optax.incremental_update(value, networks.target_value, config.soft_target_tau)
    return (
        Networks(encoder, policy, critics, value, target_value),
        Optimisers(critic_state, policy_state, value_state),
        critic_metrics | policy_metrics | value_metrics,
    )


def _adam(config: PearlConfig) -> optax.GradientTransformation:
    if config.learning_rate_decay == 1.0:  # without a schedule's counter, as in the paper
        return optax.adam(config.learning_rate)
    num_updates = config.iterations * config.num_train_steps_per_iteration
    last = config.learning_rate * config.learning_rate_decay
    return optax.adam(optax.linear_schedule(config.learning_rate, last, num_updates))


# ----------------------------------------------------------------------------------------------------------------------
# Meta-testing (paper, Algorithm 2): the agent that meets a new task by posterior sampling


class Params(NamedTuple):
    """What acting needs."""

    encoder: MLP
    policy: TanhGaussianPolicy


class Memory(NamedTuple):
    """What the agent remembers of a trial, each [lane, ...]. Its size does not grow with the context."""

    factors: Factors  # sum over the transitions seen
    num_transitions: Int[Array, " lane"]
    num_episodes: Int[Array, " lane"]
    z: Float[Array, "lane latent_dim"]


def belief(memory: Memory, config: PearlConfig) -> Belief:
    """The belief after all transitions of the trial so far; the prior before the first."""
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
        return Memory(Factors(empty, empty), zero, zero, z)

    def act(params: Params, memory: Memory, obs: Array, key: Key, explore: bool) -> tuple[Array, Memory]:
        output = params.policy(obs, memory.z)
        if not explore:
            return jnp.tanh(output.mean), memory
        action, _ = sample_action(output, jax.random.normal(key, output.mean.shape))
        return action, memory

    def observe(params: Params, memory: Memory, transition: Transition) -> Memory:
        factors = encode(params.encoder, transition, config)
        total = jax.tree.map(jnp.add, memory.factors, factors)
        return memory._replace(factors=total, num_transitions=memory.num_transitions + 1)

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
    context_buffer: Replay  # the latest collection of each task, the encoder's data
    key: Key
    env_steps: np.int64  # initial collection included, evaluation excluded
    grad_steps: np.int64
    meta_iterations: np.int64  # completed


def init(family: Family, config: PearlConfig, seed: int) -> State:
    """The state before the first environment step, buffers sized for the whole run."""
    network_key, run_key = jax.random.split(jax.random.key(seed))
    networks, optimisers = _init_learner(family.obs_dim, family.action_dim, config, network_key)
    rl_total, context_capacity = buffer_sizes(family, config)
    dims = (family.obs_dim, family.action_dim)
    num_train = config.num_train_tasks
    return State(
        networks=networks,
        optimisers=optimisers,
        rl_buffer=rings.empty(num_train, config.replay_capacity, rl_total, *dims),
        context_buffer=rings.empty(num_train, context_capacity, num_train * context_capacity, *dims),
        key=run_key,
        env_steps=np.int64(0),
        grad_steps=np.int64(0),
        meta_iterations=np.int64(0),
    )


def init_networks(obs_dim: int, action_dim: int, config: PearlConfig, key: Key) -> Networks:
    """Fresh networks; V's target starts as V."""
    encoder_key, policy_key, q1_key, q2_key, value_key = jax.random.split(key, 5)
    c, hidden = config, (config.hidden_dim, config.num_hidden_layers)
    seen = obs_dim * (2 if c.use_next_obs_in_context else 1) + action_dim + 1
    encoded = c.latent_dim * (2 if c.use_information_bottleneck else 1)
    value = MLP(obs_dim + c.latent_dim, *hidden, 1, 3e-3, key=value_key)
    q_dim = obs_dim + action_dim + c.latent_dim
    return Networks(
        encoder=MLP(seen, c.encoder_hidden_dim, c.num_hidden_layers, encoded, 3e-3, key=encoder_key),
        policy=TanhGaussianPolicy(obs_dim, c.latent_dim, action_dim, *hidden, key=policy_key),
        critics=(MLP(q_dim, *hidden, 1, 3e-3, key=q1_key), MLP(q_dim, *hidden, 1, 3e-3, key=q2_key)),
        value=value,
        target_value=jax.tree.map(jnp.copy, value),
    )


def init_optimisers(networks: Networks, config: PearlConfig) -> Optimisers:
    """Adam before its first step."""
    adam = _adam(config)
    return Optimisers(
        adam.init((networks.encoder, networks.critics)), adam.init(networks.policy), adam.init(networks.value)
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _init_learner(obs_dim: int, action_dim: int, config: PearlConfig, key: Key) -> tuple[Networks, Optimisers]:
    networks = init_networks(obs_dim, action_dim, config, key)
    return networks, init_optimisers(networks, config)


def buffer_sizes(family: Family, config: PearlConfig) -> tuple[int, int]:
    """(transitions in all of a run, transitions of one task's context). A phase may overshoot by part of an episode."""

    def collected(num_steps: int) -> int:
        overshoot = family.horizon - 1 if family.can_terminate else -num_steps % family.horizon
        return num_steps + overshoot if num_steps else 0

    phases = iteration_phases(config)
    drawn = sum(map(collected, phases))
    context = drawn - collected(phases.extra_rl_posterior)
    initial = collected(config.num_initial_steps)
    total = config.num_train_tasks * initial + config.iterations * config.num_tasks_sample * drawn
    return total, max(initial, context)


def agent_params(state: State) -> Params:
    """What acting needs, out of the state of a run."""
    return Params(state.networks.encoder, state.networks.policy)


def compile_update(family: Family, config: PearlConfig) -> None:
    """Compiles a whole block of updates, before the buffers are made, so that memory does not hold both at once."""
    state = jax.eval_shape(functools.partial(init, family, config, 0))
    _train.lower(
        state.networks, state.optimisers, state.rl_buffer, state.context_buffer, state.key, np.int32(0),
        obs_dim=family.obs_dim, config=config, num_updates=min(UPDATES_PER_CALL, config.num_train_steps_per_iteration),
    ).compile()  # fmt: skip


def meta_train(family: Family, config: PearlConfig, tasks: TaskSet, state: State) -> Iterator[tuple[State, Metrics]]:
    """Continues a run from `state`; yields (state, metrics [update]) after every block of updates.

    An iteration is complete when `meta_iterations` has risen. Asking for the next state uses up the one before.
    """
    if state.env_steps == 0:
        num_groups = -(-config.num_train_tasks * config.num_initial_steps // INITIAL_STEPS)
        for group in np.array_split(np.arange(config.num_train_tasks), num_groups):
            straight = config.num_steps_straight > 0
            phases = Phases(straight=config.num_initial_steps) if straight else Phases(prior=config.num_initial_steps)
            state = collect(family, config, tasks.train, state, group, phases)
    num_updates = config.num_train_steps_per_iteration
    while state.meta_iterations < config.iterations:
        done = int(state.grad_steps) - int(state.meta_iterations) * num_updates
        if done == 0:
            key = jax.random.fold_in(stream(state.key, "tasks"), int(state.meta_iterations))
            drawn = np.asarray(jax.random.randint(key, (config.num_tasks_sample,), 0, config.num_train_tasks))
            state = collect(family, config, tasks.train, state, drawn, iteration_phases(config))
        block = min(UPDATES_PER_CALL, num_updates - done)
        state, metrics = train(state, config, family.obs_dim, block)
        if done + block == num_updates:
            state = state._replace(meta_iterations=state.meta_iterations + 1)
        yield state, metrics


class Phases(NamedTuple):
    """Environment steps per drawn task of a collection, in its order; whole episodes until they are reached."""

    straight: int = 0  # one random action held for an episode; both buffers
    prior: int = 0  # z from the prior; both buffers
    posterior: int = 0  # z from the posterior; both buffers
    extra_rl_posterior: int = 0  # z from the posterior; RL buffer only


def iteration_phases(config: PearlConfig) -> Phases:
    """The collection of every iteration."""
    c = config
    return Phases(c.num_steps_straight, c.num_steps_prior, c.num_steps_posterior, c.num_extra_rl_steps_posterior)


def collect(
    family: Family, config: PearlConfig, tasks: Tasks, state: State, drawn: np.ndarray, phases: Phases
) -> State:
    """Algorithm 1's collection for all drawn tasks side by side.

    Each draw infers its posterior from its own context. A task drawn twice keeps the context of its last draw and
    all of its RL data.
    """
    params = agent_params(state)
    rl_buffer, context_buffer = state.rl_buffer, _clear(state.context_buffer, drawn)
    dims = (family.obs_dim, family.action_dim)
    own = rings.empty(len(drawn), context_buffer.capacity, len(drawn) * context_buffer.capacity, *dims)
    last_draw = np.array([draw not in drawn[i + 1 :] for i, draw in enumerate(drawn)])
    key = jax.random.fold_in(stream(state.key, "collect"), int(state.env_steps))
    env_steps = 0

    for phase, (kind, num_steps) in enumerate(phases._asdict().items()):
        agent = _straight_agent(family.action_dim) if kind == "straight" else _collecting_agent(config)
        from_posterior, into_context = kind.endswith("posterior"), kind != "extra_rl_posterior"
        missing, rounds = np.full(len(drawn), num_steps), 0
        while (missing > 0).any():
            round_key = jax.random.fold_in(jax.random.fold_in(key, phase), rounds)
            begin_key, context_key, episode_key = jax.random.split(round_key, 3)
            # With z from the prior, the episodes of a draw do not depend on each other; with the posterior they do.
            num_episodes = (missing > 0) if from_posterior else -(-np.maximum(missing, 0) // family.horizon)
            lane = np.repeat(np.arange(len(drawn)), num_episodes)
            task = take(tasks, drawn[lane])
            memory = begin(agent, params, task, begin_key)
            if from_posterior and rounds > 0:
                memory = memory._replace(z=_posterior_z(params, own, lane, family.obs_dim, context_key, config))
            _, result = episode(family, agent, params, memory, task, episode_key, explore=True)
            rl_buffer = _insert(rl_buffer, drawn[lane], result)
            if into_context:
                own = _insert(own, lane, result)
                kept = result._replace(length=np.where(last_draw[lane], np.asarray(result.length), 0))
                context_buffer = _insert(context_buffer, drawn[lane], kept)
            missing = missing - np.bincount(lane, np.asarray(result.length), len(drawn)).astype(int)
            env_steps += int(np.sum(result.length))
            rounds += 1
    return state._replace(rl_buffer=rl_buffer, context_buffer=context_buffer, env_steps=state.env_steps + env_steps)


def train(state: State, config: PearlConfig, obs_dim: int, num_updates: int) -> tuple[State, Metrics]:
    """Algorithm 1's training: `num_updates` updates in one compiled scan. Metrics come back [update]."""
    networks, optimisers, metrics = _train(
        state.networks, state.optimisers, state.rl_buffer, state.context_buffer, stream(state.key, "train"),
        np.int32(state.grad_steps), obs_dim=obs_dim, config=config, num_updates=num_updates,
    )  # fmt: skip
    state = state._replace(networks=networks, optimisers=optimisers, grad_steps=state.grad_steps + num_updates)
    return state, metrics


@functools.partial(
    jax.jit, static_argnames=("obs_dim", "config", "num_updates"), donate_argnames=("networks", "optimisers")
)
def _train(
    networks: Networks, optimisers: Optimisers, rl_buffer: Replay, context_buffer: Replay, key: Key, first: Any,
    *, obs_dim: int, config: PearlConfig, num_updates: int,
) -> tuple[Networks, Optimisers, Metrics]:  # fmt: skip
    def body(carry: tuple[Networks, Optimisers], grad_step: Array) -> tuple[tuple[Networks, Optimisers], Metrics]:
        keys = jax.random.split(jax.random.fold_in(key, grad_step), 5)
        task = jax.random.randint(keys[0], (config.meta_batch,), 0, config.num_train_tasks)
        batch = rings.sample(rl_buffer, task, config.batch_size, obs_dim, keys[1])
        context = rings.sample(context_buffer, task, config.context_batch_size, obs_dim, keys[2])
        z_shape = (config.meta_batch, config.latent_dim)
        noise = Noise(jax.random.normal(keys[3], z_shape), jax.random.normal(keys[4], batch.action.shape))
        networks, optimisers, metrics = update(*carry, batch, context, noise, config)
        return (networks, optimisers), metrics

    (networks, optimisers), metrics = jax.lax.scan(
        body, (networks, optimisers), first + jnp.arange(num_updates, dtype=jnp.int32)
    )
    return networks, optimisers, metrics


@functools.cache
def _collecting_agent(config: PearlConfig) -> Agent:
    """The agent without its observing: meta-training takes the belief from the context buffer, not from a trial."""
    return make_agent(config)._replace(observe=lambda params, memory, transition: memory)


@functools.cache
def _straight_agent(action_dim: int) -> Agent:
    """Holds one random action, tanh of a standard normal, for a whole episode; its memory is that action."""

    def begin(params: Params, task: Any, key: Key) -> Array:
        return jnp.tanh(jax.random.normal(key, (num_tasks(task), action_dim)))

    return Agent(
        begin=begin,
        act=lambda params, memory, obs, key, explore: (memory, memory),
        observe=lambda params, memory, transition: memory,
        end_episode=lambda params, memory, key: memory,
        explores=lambda index, scored_episode: True,
    )


@functools.partial(jax.jit, static_argnames=("obs_dim", "config"))
def _posterior_z(params: Params, own: Replay, lane: Any, obs_dim: int, key: Key, config: PearlConfig) -> Array:
    """z drawn from the posterior of a fresh context batch of each lane's draw, [lane, latent_dim]."""
    context_key, z_key = jax.random.split(key)
    context = rings.sample(own, lane, config.context_batch_size, obs_dim, context_key)
    inferred = infer_posterior(params.encoder, context, config)
    return sample_z(inferred, jax.random.normal(z_key, inferred.mean.shape))


_insert = jax.jit(rings.insert, donate_argnums=0)
_clear = jax.jit(rings.clear, donate_argnums=0)
