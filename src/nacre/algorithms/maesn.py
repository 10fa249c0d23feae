"""MAESN (Gupta et al. 2018): exploration by a latent variable that is drawn once an episode, and whose distribution
adapts to a task by policy gradient.

The model, adaptation, the outer objective, meta-testing (the agent), meta-training. Settings: presets/maesn.py.
docs/maesn.md maps equations to these functions.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from nacre.algorithms.protocol import Exported
from nacre.families.family import Family, TaskSet, num_tasks, take
from nacre.learning import exporting, on_policy, trust_region
from nacre.learning.networks import GaussianPolicy, PolicyOutput
from nacre.learning.on_policy import Rollouts, log_density, masked_mean
from nacre.learning.trust_region import TrustRegion
from nacre.presets.maesn import MaesnSettings
from nacre.simulation.rollout import episode
from nacre.types import Agent, Belief, Key, Tasks, Transition, stream, with_fixed_memory

MIN_EPISODES_KEPT = 50
"""Episodes of a trial that the agent remembers at least."""

LOG_STD_RANGE = (-5.0, 2.0)
"""Where the adapted log standard deviation of z stays in a trial."""

Metrics = dict[str, Float[Array, " update"]]

# ----------------------------------------------------------------------------------------------------------------------
# The model: pi(a | s, z), z ~ N(mu, exp(log_std)^2), with a mu and a log_std for every train task


class Latent(NamedTuple):
    """A diagonal Gaussian over z."""

    mean: Float[Array, "*tasks latent_dim"]
    log_std: Float[Array, "*tasks latent_dim"]


class Model(NamedTuple):
    """Everything that is learnt."""

    policy: GaussianPolicy
    latents: Latent  # [train task, latent_dim]
    step_sizes: Latent  # of adaptation, [latent_dim]


def latent_prior(latent_dim: int) -> Latent:
    """N(0, I): where every new task begins."""
    return Latent(jnp.zeros(latent_dim), jnp.zeros(latent_dim))


def draw_z(latent: Latent, noise: Array) -> Array:
    """z ~ latent, reparameterised by standard normal noise."""
    return latent.mean + jnp.exp(latent.log_std) * noise


def act_on(policy: GaussianPolicy, obs: Array, z: Array) -> PolicyOutput:
    """pi(. | s, z) for obs [*lanes, time, obs_dim] and z [*lanes, latent_dim]; or both without time."""
    if obs.ndim > z.ndim:
        z = jnp.broadcast_to(z[..., None, :], (*obs.shape[:-1], z.shape[-1]))
    return policy(jnp.concatenate([obs, z], axis=-1))


# ----------------------------------------------------------------------------------------------------------------------
# Adaptation: a policy-gradient step on the latent distribution alone


def adapt(
    latent: Latent, z: Float[Array, "episode latent_dim"], returns: Float[Array, " episode"],
    played: Bool[Array, " episode"], step_sizes: Latent, weight: Array | float = 1.0,
) -> Latent:  # fmt: skip
    """(mu, log sigma) after one step up mean(A_0 log N(z; mu, sigma)), on one task's episodes.

    A_0 is the advantage of an episode's first step: its return less the mean return, over their standard deviation.
    `weight` [episode] is for z that another distribution drew. All three means are weighted means.
    """
    share = jnp.where(played, weight, 0.0)
    share = share / jnp.maximum(jnp.sum(share), on_policy.ADVANTAGE_EPSILON)
    centred = jnp.where(played, returns - jnp.sum(share * returns), 0.0)
    advantage = centred / (jnp.sqrt(jnp.sum(share * centred**2)) + on_policy.ADVANTAGE_EPSILON)

    def loss(latent: Latent) -> Array:
        density = log_density(PolicyOutput(latent.mean, latent.log_std), z)
        return -jnp.sum(share * advantage * density)

    gradient = jax.grad(loss)(latent)
    return jax.tree.map(lambda x, a, g: x - a * g, latent, step_sizes, gradient)


# ----------------------------------------------------------------------------------------------------------------------
# The outer objective, on drawn tasks [task, rollout, time]


class Before(NamedTuple):
    """The episodes before adaptation: what the inner step needs of them. Of one task: without the first axis."""

    z: Float[Array, "task rollout latent_dim"]
    returns: Float[Array, "task rollout"]


class After(NamedTuple):
    """The episodes of the adapted distributions. Of one task: without the first axis."""

    rollouts: Rollouts
    noise: Float[Array, "task rollout latent_dim"]  # that z was drawn by
    advantage: Float[Array, "task rollout time"]
    policy: PolicyOutput  # that acted, at every step


class Outcome(NamedTuple):
    """What parameters come to after adaptation."""

    surrogate: Array  # mean over tasks of -mean(r A')
    kl: Array  # mean over tasks of KL(policy that acted || policy)
    latent_kl: Array  # mean over tasks of KL(N(mu_i, sigma_i) || N(0, I)), before adaptation


class Drawn(NamedTuple):
    """The drawn tasks: which they are, and their episodes. Of one task: without the first axis."""

    number: Int[Array, " task"]  # among the train tasks
    before: Before
    after: After


def acts_adapted(model: Model, task: Drawn) -> PolicyOutput:
    """What the policy does in a task's last episodes with z of the adapted distribution, as a function of the model."""
    returns = task.before.returns
    own = jax.tree.map(lambda x: x[task.number], model.latents)
    adapted = adapt(own, task.before.z, returns, jnp.ones(returns.shape, bool), model.step_sizes)
    return act_on(model.policy, task.after.rollouts.obs, draw_z(adapted, task.after.noise))


def divergence(policy: PolicyOutput, task: Drawn) -> Array:
    """KL(policy that acted || policy), mean over a task's real steps."""
    return masked_mean(on_policy.kl_divergence(task.after.policy, policy), task.after.rollouts.real)


def outcome(model: Model, drawn: Drawn) -> Outcome:
    """As a function of the model through the inner step: of policy, latent distributions and learning rates."""

    def of_task(task: Drawn) -> Outcome:
        policy, after = acts_adapted(model, task), task.after
        ratio = jnp.exp(log_density(policy, after.rollouts.action) - log_density(after.policy, after.rollouts.action))
        surrogate = -masked_mean(ratio * after.advantage, after.rollouts.real)
        own = jax.tree.map(lambda x: x[task.number], model.latents)
        from_prior = on_policy.kl_divergence(PolicyOutput(*own), PolicyOutput(*latent_prior(len(own.mean))))
        return Outcome(surrogate, divergence(policy, task), from_prior)

    found: Outcome = on_policy.mean_over_tasks(of_task, drawn)
    return found


@functools.partial(jax.jit, static_argnames="config")
def update(model: Model, drawn: Drawn, config: MaesnSettings) -> tuple[Model, Metrics]:
    """The outer step, in a trust region of the adapted policies, on everything that is learnt."""

    def loss(model: Model) -> Array:
        found = outcome(model, drawn)
        return found.surrogate + config.kl_weight * found.latent_kl

    region = TrustRegion(config.max_kl, config.cg_iterations, config.cg_damping)
    new, metrics = trust_region.step(loss, acts_adapted, divergence, drawn, model, region)
    metrics["latent_kl"] = outcome(model, drawn).latent_kl
    metrics["latent_std"] = jnp.mean(jnp.exp(new.latents.log_std))
    return new, {name: value[None] for name, value in metrics.items()}


# ----------------------------------------------------------------------------------------------------------------------
# Meta-testing: the agent adapts its latent distribution after every episode, from N(0, I), on all episodes so far


class Memory(NamedTuple):
    """What the agent remembers of a trial, each [lane, ...]."""

    latent: Latent
    z: Float[Array, "lane latent_dim"]
    past_z: Float[Array, "lane episode latent_dim"]
    past_density: Float[Array, "lane episode"]  # log density of z under what drew it
    past_returns: Float[Array, "lane episode"]
    reward: Float[Array, " lane"]  # discounted, of the current episode
    num_steps: Int[Array, " lane"]  # of it
    num_episodes: Int[Array, " lane"]


class Params(NamedTuple):
    """What acting needs."""

    policy: GaussianPolicy
    step_sizes: Latent


def belief(memory: Memory, config: MaesnSettings) -> Belief:
    """The latent distribution as adapted so far."""
    return Belief(memory.latent.mean, jnp.exp(2 * memory.latent.log_std))


def adapt_in_trial(
    latent: Latent, past_z: Array, past_density: Array, past_returns: Array, played: Array, step_sizes: Latent
) -> Latent:
    """One step of every lane on all of its episodes. Those that another distribution drew have truncated importance
    weights."""

    def of_lane(latent: Latent, z: Array, density: Array, returns: Array, played: Array) -> Latent:
        under_latent = log_density(PolicyOutput(*latent), z)
        return adapt(latent, z, returns, played, step_sizes, jnp.exp(jnp.minimum(under_latent - density, 0.0)))

    adapted = jax.vmap(of_lane)(latent, past_z, past_density, past_returns, played)
    return adapted._replace(log_std=jnp.clip(adapted.log_std, *LOG_STD_RANGE))


def _num_kept(config: MaesnSettings) -> int:
    """Episodes of a trial that the agent remembers."""
    return max(config.num_evaluation_episodes, MIN_EPISODES_KEPT)


@functools.cache
def make_agent(family: Family, config: MaesnSettings) -> Agent:
    """MAESN as an Agent. It samples its actions in all episodes but the scored one."""
    num_kept = _num_kept(config)

    def begin(params: Params, task: Any, key: Key) -> Memory:
        lanes = num_tasks(task)
        latent = jax.tree.map(lambda x: jnp.broadcast_to(x, (lanes, *x.shape)), latent_prior(config.latent_dim))
        z = draw_z(latent, jax.random.normal(key, latent.mean.shape))
        zero, none = jnp.zeros(lanes), jnp.zeros(lanes, jnp.int32)
        kept = jnp.zeros((lanes, num_kept))
        return Memory(latent, z, kept[..., None] * z[:, None], kept, kept, zero, none, none)

    def act(params: Params, memory: Memory, obs: Array, key: Key, explore: bool) -> tuple[Array, Memory]:
        return on_policy.draw_action(act_on(params.policy, obs, memory.z), key, explore), memory

    def observe(params: Params, memory: Memory, transition: Transition) -> Memory:
        worth = config.discount**memory.num_steps * transition.reward
        return memory._replace(reward=memory.reward + worth, num_steps=memory.num_steps + 1)

    def end_episode(params: Params, memory: Memory, key: Key) -> Memory:
        lane, slot = jnp.arange(len(memory.z)), memory.num_episodes % num_kept
        past_z = memory.past_z.at[lane, slot].set(memory.z)
        drawn_by = log_density(PolicyOutput(*memory.latent), memory.z)
        past_density = memory.past_density.at[lane, slot].set(drawn_by)
        past_returns = memory.past_returns.at[lane, slot].set(memory.reward)
        num_episodes = memory.num_episodes + 1
        played = jnp.arange(num_kept) < num_episodes[:, None]
        start = jax.tree.map(lambda x: jnp.broadcast_to(x, memory.z.shape), latent_prior(config.latent_dim))
        latent = jax.lax.fori_loop(
            0, config.num_adaptation_steps,
            lambda _, latent: adapt_in_trial(latent, past_z, past_density, past_returns, played, params.step_sizes),
            start,
        )  # fmt: skip
        z = draw_z(latent, jax.random.normal(key, memory.z.shape))
        zero = jnp.zeros_like(memory.reward)
        return Memory(latent, z, past_z, past_density, past_returns, zero, jnp.zeros_like(slot), num_episodes)

    return Agent(begin, act, observe, end_episode, explores=lambda index, scored_episode: index < scored_episode)


def export(params: Params, family: Family, config: MaesnSettings) -> Exported:
    """The agent for programs without JAX."""
    policy, arrays = exporting.gaussian_policy(params.policy)
    words = {
        "kind": "latent", "obs_dim": family.obs_dim, "latent_dim": config.latent_dim, "policy": policy,
        "discount": config.discount, "kept": _num_kept(config), "adaptation_steps": config.num_adaptation_steps,
        "log_std_range": list(LOG_STD_RANGE),
    }  # fmt: skip
    rates = {f"rates.{name}": np.array(x, np.float32) for name, x in params.step_sizes._asdict().items()}
    return Exported(words, arrays | rates)


# ----------------------------------------------------------------------------------------------------------------------
# Meta-training


class State(NamedTuple):
    """All that a run needs to continue."""

    model: Model
    key: Key
    env_steps: np.int64  # rollouts before and after adaptation, evaluation excluded
    grad_steps: np.int64  # outer updates
    meta_iterations: np.int64  # completed


def init(family: Family, config: MaesnSettings, seed: int) -> State:
    """The state before the first environment step: every task's latent distribution is N(0, I)."""
    policy_key, run_key = jax.random.split(jax.random.key(seed))
    policy = GaussianPolicy(
        family.obs_dim + config.latent_dim, family.action_dim, config.hidden_dim, config.num_hidden_layers,
        activation="relu", key=policy_key,
    )  # fmt: skip
    latents = Latent(*jnp.zeros((2, config.num_train_tasks, config.latent_dim)))
    step_sizes = Latent(*jnp.full((2, config.latent_dim), config.inner_learning_rate))
    return State(Model(policy, latents, step_sizes), run_key, np.int64(0), np.int64(0), np.int64(0))


def agent_params(state: State) -> Params:
    """What acting needs, out of the state of a run."""
    return Params(state.model.policy, state.model.step_sizes)


def transfer(into: State, source: State) -> State:
    """`into` with what `source` has learnt. The latents are of train tasks, so they begin at the prior anew."""
    return into._replace(model=source.model._replace(latents=into.model.latents))


def meta_train(
    family: Family, config: MaesnSettings, tasks: TaskSet, states: Sequence[State]
) -> Iterator[tuple[list[State], list[Metrics]]]:
    """Continues the runs of one or more seeds: (states, metrics [update] of each) after every iteration."""
    return on_policy.iterate(functools.partial(iteration, family, config, tasks.train), states, config.iterations)


def iteration(family: Family, config: MaesnSettings, tasks: Tasks, state: State) -> tuple[State, Metrics]:
    """One meta-iteration: episodes before and after adaptation in every drawn task, then the outer step."""
    number = int(state.meta_iterations)
    task_key = jax.random.fold_in(stream(state.key, "tasks"), number)
    drawn = jax.random.randint(task_key, (config.tasks_per_iteration,), 0, config.num_train_tasks)
    keys = jax.random.split(jax.random.fold_in(stream(state.key, "collect"), number), 4)
    model, own = state.model, take(tasks, np.asarray(drawn))
    shape = (config.tasks_per_iteration, config.rollouts_per_task, config.latent_dim)

    latents = _of_tasks(model.latents, drawn)
    z = draw_z(jax.tree.map(lambda x: x[:, None], latents), jax.random.normal(keys[0], shape))
    first, num_steps = _collect(family, model.policy, own, z, keys[1])
    before = Before(z, discounted_returns(first, config.discount))

    adapted = _adapt(latents, before, model.step_sizes)
    noise = jax.random.normal(keys[2], shape)
    z = draw_z(jax.tree.map(lambda x: x[:, None], adapted), noise)
    second, more_steps = _collect(family, model.policy, own, z, keys[3])
    after = _assess(model.policy, second, z, noise, config)
    model, metrics = update(model, Drawn(drawn, before, after), config)

    gained = [float(np.where(one.real, one.reward, 0).sum(axis=-1).mean()) for one in (first, second)]
    metrics |= {"return_before": jnp.full(1, gained[0]), "return_after": jnp.full(1, gained[1])}
    return state._replace(
        model=model,
        env_steps=state.env_steps + num_steps + more_steps,
        grad_steps=state.grad_steps + 1,
        meta_iterations=state.meta_iterations + 1,
    ), metrics


def discounted_returns(rollouts: Rollouts, discount: float) -> Float[Array, "*tasks rollout"]:
    """Discounted return of every episode."""
    weight = discount ** jnp.arange(rollouts.reward.shape[-1])
    return jnp.sum(jnp.where(rollouts.real, rollouts.reward, 0.0) * weight, axis=-1)


@functools.cache
def _latent_agent() -> Agent:
    """Acts on the z in its memory."""

    def act(policy: GaussianPolicy, z: Array, obs: Array, key: Key, explore: bool) -> Array:
        return on_policy.draw_action(act_on(policy, obs, z), key, explore)

    return with_fixed_memory(act, explores=True)


def _collect(
    family: Family, policy: GaussianPolicy, tasks: Tasks, z: Float[Array, "task rollout latent_dim"], key: Key
) -> tuple[Rollouts, int]:
    """One episode of every z in its task, all side by side: (rollouts, environment steps)."""
    num, each, latent_dim = z.shape
    lanes = take(tasks, np.repeat(np.arange(num), each))
    _, played = episode(family, _latent_agent(), policy, z.reshape(-1, latent_dim), lanes, key, explore=True)
    return on_policy.as_rollouts(played, num), int(np.sum(played.length))


@jax.jit
def _of_tasks(latents: Latent, drawn: Array) -> Latent:
    return jax.tree.map(lambda x: x[drawn], latents)


@jax.jit
def _adapt(latents: Latent, before: Before, step_sizes: Latent) -> Latent:
    played = jnp.ones(before.returns.shape, bool)
    return jax.vmap(functools.partial(adapt, step_sizes=step_sizes))(latents, before.z, before.returns, played)


@functools.partial(jax.jit, static_argnames="config")
def _assess(policy: GaussianPolicy, rollouts: Rollouts, z: Array, noise: Array, config: MaesnSettings) -> After:
    advantages = functools.partial(on_policy.advantages, discount=config.discount, gae_lambda=config.gae_lambda)
    return After(rollouts, noise, jax.vmap(advantages)(rollouts), act_on(policy, rollouts.obs, z))
