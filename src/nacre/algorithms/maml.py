"""MAML with a trust region (Finn et al. 2017) and ProMP (Rothfuss et al. 2019): parameters from which one step of
policy gradient on a few episodes of a task leads to a good policy for it.

Adaptation, the two outer objectives, meta-testing (the agent), meta-training. Settings: presets/maml.py. docs/maml.md
maps equations to these functions.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from nacre.algorithms.protocol import Exported
from nacre.families.family import Family, TaskSet, num_tasks
from nacre.learning import exporting, on_policy, trust_region
from nacre.learning.networks import GaussianPolicy, PolicyOutput
from nacre.learning.on_policy import Rollouts, log_density, masked_mean
from nacre.learning.trust_region import TrustRegion
from nacre.presets.maml import GradientSettings, MamlTrpoSettings, PrompSettings
from nacre.types import Agent, Key, Tasks, Transition, stream

MIN_EPISODES_KEPT = 21
"""Episodes of a trial that the agent remembers at least: the batch that it was meta-trained for, and the scored one."""

Metrics = dict[str, Float[Array, " update"]]

# ----------------------------------------------------------------------------------------------------------------------
# Adaptation: theta' = theta - alpha grad L(theta), on one task


class Step(NamedTuple):
    """The data of one inner (or the outer) step: what a policy did in a task, and how well that was."""

    rollouts: Rollouts
    advantage: Float[Array, "*tasks rollout time"]
    policy: PolicyOutput  # that acted, at every step


def assess(policy: GaussianPolicy, rollouts: Rollouts, config: GradientSettings) -> Step:
    """One task's rollouts with their advantages and the densities of the policy that acted."""
    advantage = on_policy.advantages(rollouts, config.discount, config.gae_lambda)
    return jax.lax.stop_gradient(Step(rollouts, advantage, policy(rollouts.obs)))


def ratio(policy: GaussianPolicy, step: Step) -> Array:
    """pi(a | s) / pi_old(a | s) at every step."""
    action = step.rollouts.action
    return jnp.exp(log_density(policy(step.rollouts.obs), action) - log_density(step.policy, action))


def inner_loss(policy: GaussianPolicy, step: Step, config: GradientSettings) -> Array:
    """-mean(A r), or -mean(A log pi): what adaptation descends, on one task."""
    if config.inner_objective == "likelihood_ratio":
        weight = ratio(policy, step)
    else:
        weight = log_density(policy(step.rollouts.obs), step.rollouts.action)
    return -masked_mean(step.advantage * weight, step.rollouts.real)


def adapt(policy: GaussianPolicy, step: Step, config: GradientSettings) -> GaussianPolicy:
    """The policy after one inner step on one task. The standard deviation adapts too."""
    gradient = jax.grad(inner_loss)(policy, step, config)
    if config.first_order:
        gradient = jax.lax.stop_gradient(gradient)
    return jax.tree.map(lambda p, g: p - config.inner_learning_rate * g, policy, gradient)


def acts_adapted(policy: GaussianPolicy, steps: Sequence[Step], config: GradientSettings) -> PolicyOutput:
    """What theta does on the last data of a task after adaptation on those before, as a function of theta."""
    for step in steps[:-1]:
        policy = adapt(policy, step, config)
    return policy(steps[-1].rollouts.obs)


# ----------------------------------------------------------------------------------------------------------------------
# The outer objectives. `steps` are the data of the inner steps in their order, then that of the adapted policies,
# each [task, rollout, time]


class Outcome(NamedTuple):
    """What parameters theta come to, after adaptation to every task and before."""

    surrogate: Array  # mean over tasks of -mean(A' r), r of the adapted policies
    clipped: Array  # the same with -mean(min(r A', clip(r) A'))
    kl: Array  # mean over tasks of KL(adapted policy that acted || adapted policy)
    inner_kl: Float[Array, " inner_step"]  # the same for the policies that acted before each inner step


def divergence(output: PolicyOutput, step: Step) -> Array:
    """KL(policy that acted || `output`) on the data of a step, mean over real steps."""
    return masked_mean(on_policy.kl_divergence(step.policy, output), step.rollouts.real)


def outcome(
    policy: GaussianPolicy, steps: Sequence[Step], config: GradientSettings, clip_ratio: float = 0.0
) -> Outcome:
    """All that the outer objectives are made of, as a function of theta through the inner steps."""

    def of_task(steps: Sequence[Step]) -> Outcome:
        adapted, divergences = policy, []
        for step in steps[:-1]:
            divergences.append(divergence(adapted(step.rollouts.obs), step))
            adapted = adapt(adapted, step, config)
        last, real = steps[-1], steps[-1].rollouts.real
        r, advantage = ratio(adapted, last), last.advantage
        clipped = jnp.minimum(r * advantage, jnp.clip(r, 1 - clip_ratio, 1 + clip_ratio) * advantage)
        kl = divergence(adapted(last.rollouts.obs), last)
        inner_kl = jnp.array(divergences) if divergences else jnp.zeros(0)
        return Outcome(-masked_mean(r * advantage, real), -masked_mean(clipped, real), kl, inner_kl)

    found: Outcome = on_policy.mean_over_tasks(of_task, steps)
    return found


class Learner(NamedTuple):
    """What is learnt, and what the outer steps carry along."""

    policy: GaussianPolicy  # theta
    optimiser: Any  # Adam's state (ProMP)
    inner_kl_weight: Float[Array, " inner_step"]  # eta (ProMP)


def trpo_update(learner: Learner, steps: Sequence[Step], config: MamlTrpoSettings) -> tuple[Learner, Metrics]:
    """MAML-TRPO's outer step: minimise the surrogate while the adapted policies' mean KL stays below its limit."""
    region = TrustRegion(config.max_kl, config.cg_iterations, config.cg_damping)
    policy, metrics = trust_region.step(
        lambda policy: outcome(policy, steps, config).surrogate,
        lambda policy, steps: acts_adapted(policy, steps, config),
        lambda output, steps: divergence(output, steps[-1]),
        steps,
        learner.policy,
        region,
    )
    return learner._replace(policy=policy), {name: value[None] for name, value in metrics.items()}


def promp_loss(
    policy: GaussianPolicy, steps: Sequence[Step], weight: Array, config: PrompSettings
) -> tuple[Array, Outcome]:
    """ProMP's outer objective: clipped, plus eta KL(pi_old || pi_theta) on the data before adaptation."""
    found = outcome(policy, steps, config, config.clip_ratio)
    return found.clipped + jnp.sum(weight * found.inner_kl), found


def promp_update(learner: Learner, steps: Sequence[Step], config: PrompSettings) -> tuple[Learner, Metrics]:
    """ProMP's outer steps: Adam, several times on the same data."""
    adam, weight = optax.adam(config.learning_rate), learner.inner_kl_weight

    def step(carry: tuple[GaussianPolicy, Any], _: None) -> tuple[tuple[GaussianPolicy, Any], dict[str, Array]]:
        policy, state = carry
        (loss, found), gradient = jax.value_and_grad(promp_loss, has_aux=True)(policy, steps, weight, config)
        change, state = adam.update(gradient, state)
        metrics = {"outer_loss": loss, "outer_kl": found.kl, "inner_kl": jnp.mean(found.inner_kl)}
        return (optax.apply_updates(policy, change), state), metrics

    start = (learner.policy, learner.optimiser)
    (policy, state), metrics = jax.lax.scan(step, start, length=config.num_outer_steps)
    if config.adaptive_inner_kl:
        moved, target = outcome(policy, steps, config).inner_kl, config.inner_kl_target
        factor = jnp.where(moved < target / 1.5, 0.5, jnp.where(moved > target * 1.5, 2.0, 1.0))
        weight = weight * factor
    return Learner(policy, state, weight), metrics


# ----------------------------------------------------------------------------------------------------------------------
# Meta-testing: the agent adapts after every episode, from theta, on all episodes of the trial


class Memory(NamedTuple):
    """What the agent remembers of a trial, each [lane, ...]."""

    policy: GaussianPolicy  # adapted so far
    output: PolicyOutput  # of it, for the last observation
    past: tuple[Rollouts, PolicyOutput]  # [lane, episode, time], episodes that have ended, and what acted in them
    now: tuple[Rollouts, PolicyOutput]  # [lane, time], the current episode
    num_steps: Int[Array, " lane"]  # of the current episode
    num_episodes: Int[Array, " lane"]


@functools.cache
def make_agent(family: Family, config: GradientSettings) -> Agent:
    """MAML or ProMP as an Agent. It samples its actions in all episodes but the scored one, as adaptation needs."""
    num_kept = max(config.num_evaluation_episodes, MIN_EPISODES_KEPT)

    def blank(*axes: int) -> tuple[Rollouts, PolicyOutput]:
        shape = (*axes, family.horizon)
        obs, action = jnp.zeros((*shape, family.obs_dim)), jnp.zeros((*shape, family.action_dim))
        return Rollouts(obs, action, jnp.zeros(shape), jnp.zeros(shape, bool)), PolicyOutput(action, action)

    def begin(params: GaussianPolicy, task: Any, key: Key) -> Memory:
        lanes = num_tasks(task)
        policy = jax.tree.map(lambda x: jnp.broadcast_to(x, (lanes, *x.shape)), params)
        zero = jnp.zeros(lanes, jnp.int32)
        nothing = jnp.zeros((lanes, family.action_dim))
        return Memory(policy, PolicyOutput(nothing, nothing), blank(lanes, num_kept), blank(lanes), zero, zero)

    def act(params: GaussianPolicy, memory: Memory, obs: Array, key: Key, explore: bool) -> tuple[Array, Memory]:
        # Before the scored episode theta acts, as in meta-training: what adaptation learns from must be its own.
        output = params(obs) if explore else jax.vmap(lambda policy, obs: policy(obs))(memory.policy, obs)
        return on_policy.draw_action(output, key, explore), memory._replace(output=output)

    def observe(params: GaussianPolicy, memory: Memory, transition: Transition) -> Memory:
        lane, time = jnp.arange(len(memory.num_steps)), memory.num_steps
        seen = (
            Rollouts(transition.obs, transition.action, transition.reward, jnp.ones(len(lane), bool)),
            memory.output,
        )
        now = jax.tree.map(lambda old, new: old.at[lane, time].set(new), memory.now, seen)
        return memory._replace(now=now, num_steps=time + 1)

    def end_episode(params: GaussianPolicy, memory: Memory, key: Key) -> Memory:
        lane, slot = jnp.arange(len(memory.num_steps)), memory.num_episodes % num_kept
        past = jax.tree.map(lambda old, new: old.at[lane, slot].set(new), memory.past, memory.now)
        num_episodes = memory.num_episodes + 1

        def adapted_to(first: int) -> GaussianPolicy:
            """The policy of every lane, adapted to the first episodes that are kept."""
            own = jax.tree.map(lambda x: x[:, :first], past)
            return jax.vmap(lambda rollouts, acted: adapt_to_trial(params, rollouts, acted, config))(*own)

        # Most trials are short: adaptation costs as much as the episodes it looks at, blank ones included.
        sizes = [min(size, num_kept) for size in (2, 8, num_kept)]
        fits = jnp.searchsorted(jnp.array(sizes[:-1]), jnp.max(num_episodes))
        policy = jax.lax.switch(fits, [functools.partial(adapted_to, size) for size in sizes])
        return Memory(policy, memory.output, past, blank(len(lane)), jnp.zeros_like(slot), num_episodes)

    return Agent(begin, act, observe, end_episode, lambda index, scored: index < scored, most_steps=family.horizon)


def frozen(memory: Memory, family: Family, config: GradientSettings) -> Exported:
    """The adapted policy in a memory, for programs without JAX."""
    policy, arrays = exporting.gaussian_policy(jax.tree.map(lambda x: x[0], memory.policy))
    return Exported({"kind": "task", "obs_dim": family.obs_dim, "policy": policy}, arrays)


def adapt_to_trial(
    policy: GaussianPolicy, rollouts: Rollouts, acted: PolicyOutput, config: GradientSettings
) -> GaussianPolicy:
    """theta adapted to one task's episodes so far [episode, time]; all inner steps use all of them.

    Theta acted in all of them, so the likelihood ratio is to theta.
    """
    step = Step(rollouts, on_policy.advantages(rollouts, config.discount, config.gae_lambda), acted)
    for _ in range(config.num_inner_steps):
        policy = adapt(policy, step, config)
    return policy


# ----------------------------------------------------------------------------------------------------------------------
# Meta-training


class State(NamedTuple):
    """All that a run needs to continue."""

    learner: Learner
    key: Key
    env_steps: np.int64  # rollouts before and after adaptation, evaluation excluded
    grad_steps: np.int64  # outer updates
    meta_iterations: np.int64  # completed


def init(family: Family, config: GradientSettings, seed: int) -> State:
    """The state before the first environment step."""
    policy_key, run_key = jax.random.split(jax.random.key(seed))
    policy = GaussianPolicy(
        family.obs_dim, family.action_dim, config.hidden_dim, config.num_hidden_layers, key=policy_key
    )
    learner = Learner(policy, optimiser=None, inner_kl_weight=jnp.zeros(config.num_inner_steps))
    if isinstance(config, PrompSettings):
        optimiser = optax.adam(config.learning_rate).init(policy)
        learner = Learner(policy, optimiser, jnp.full(config.num_inner_steps, config.inner_kl_weight))
    return State(learner, run_key, np.int64(0), np.int64(0), np.int64(0))


def agent_params(state: State) -> GaussianPolicy:
    """What acting needs, out of the state of a run."""
    return state.learner.policy


def transfer(into: State, source: State) -> State:
    """`into` with what `source` has learnt."""
    return into._replace(learner=into.learner._replace(policy=source.learner.policy))


def meta_train(
    family: Family, config: GradientSettings, tasks: TaskSet, states: Sequence[State]
) -> Iterator[tuple[list[State], list[Metrics]]]:
    """Continues the runs of one or more seeds: (states, metrics [update] of each) after every iteration."""
    return on_policy.iterate(functools.partial(iteration, family, config, tasks.train), states, config.iterations)


def iteration(family: Family, config: GradientSettings, tasks: Tasks, state: State) -> tuple[State, Metrics]:
    """One meta-iteration: tasks, rollouts before and after every inner step, the outer update."""
    number = int(state.meta_iterations)
    drawn = on_policy.draw_tasks(family, config, tasks, jax.random.fold_in(stream(state.key, "tasks"), number))
    key = jax.random.fold_in(stream(state.key, "collect"), number)
    policies = _repeated(state.learner.policy, config.tasks_per_iteration)
    steps: list[Step] = []
    env_steps, returns = 0, []
    for inner in range(config.num_inner_steps + 1):
        rollouts, num_steps = on_policy.collect(
            family, policies, drawn, config.rollouts_per_task, jax.random.fold_in(key, inner)
        )
        steps.append(_assess(policies, rollouts, config))
        returns.append(float(np.where(rollouts.real, rollouts.reward, 0).sum(axis=-1).mean()))
        env_steps += num_steps
        if inner < config.num_inner_steps:
            policies = _adapt(policies, steps[-1], config)
    steps = on_policy.without_padding(steps, [step.rollouts.real for step in steps])
    learner, metrics = _outer(state.learner, steps, config)
    num_updates = config.num_train_steps_per_iteration
    metrics |= {"return_before": jnp.full(num_updates, returns[0]), "return_after": jnp.full(num_updates, returns[-1])}
    after = state._replace(
        learner=learner,
        env_steps=state.env_steps + env_steps,
        grad_steps=state.grad_steps + num_updates,
        meta_iterations=state.meta_iterations + 1,
    )
    return after, metrics


@functools.partial(jax.jit, static_argnames="num")
def _repeated(policy: GaussianPolicy, num: int) -> GaussianPolicy:
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (num, *x.shape)), policy)


@functools.partial(jax.jit, static_argnames="config")
def _assess(policies: GaussianPolicy, rollouts: Rollouts, config: GradientSettings) -> Step:
    return jax.vmap(functools.partial(assess, config=config))(policies, rollouts)


@functools.partial(jax.jit, static_argnames="config")
def _adapt(policies: GaussianPolicy, step: Step, config: GradientSettings) -> GaussianPolicy:
    return jax.vmap(functools.partial(adapt, config=config))(policies, step)


@functools.partial(jax.jit, static_argnames="config")
def _outer(learner: Learner, steps: Sequence[Step], config: GradientSettings) -> tuple[Learner, Metrics]:
    if isinstance(config, PrompSettings):
        return promp_update(learner, steps, config)
    assert isinstance(config, MamlTrpoSettings)
    return trpo_update(learner, steps, config)
