"""RL2 (Duan et al. 2016, Wang et al. 2016): a recurrent policy whose hidden state learns the task, trained by PPO.

The network, the loss, meta-testing (the agent), meta-training. Settings: presets/rl2.py. docs/rl2.md maps equations to
these functions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from nacre.algorithms.protocol import Exported
from nacre.families.family import Family, TaskSet, num_tasks, take
from nacre.learning import exporting, on_policy
from nacre.learning.networks import MIN_LOG_STD, PolicyOutput, full_precision
from nacre.learning.on_policy import Rollouts, log_density, masked_mean
from nacre.presets.rl2 import Rl2Settings
from nacre.simulation.rollout import trial
from nacre.types import Agent, Episode, Key, Tasks, Transition, select, stream

Metrics = dict[str, Float[Array, " update"]]
Hidden = Any
"""The cell's state: arrays [lane, hidden_dim], one (GRU) or two (LSTM)."""

# ----------------------------------------------------------------------------------------------------------------------
# The network: pi(a | s, previous a, previous r, whether an episode has just ended; hidden state)


class RecurrentPolicy(eqx.Module):
    """A recurrent cell with a linear head for the mean; the log standard deviation is the same in all states."""

    cell: eqx.nn.LSTMCell | eqx.nn.GRUCell
    weight: Float[Array, "hidden_dim action_dim"]
    bias: Float[Array, " action_dim"]
    log_std: Float[Array, " action_dim"]

    def __init__(self, obs_dim: int, action_dim: int, config: Rl2Settings, *, key: Key):
        cell_key, head_key = jax.random.split(key)
        kind = eqx.nn.LSTMCell if config.cell == "lstm" else eqx.nn.GRUCell
        self.cell = kind(obs_dim + action_dim + 2, config.hidden_dim, key=cell_key)
        shape = (config.hidden_dim, action_dim)
        self.weight = jax.random.uniform(head_key, shape, minval=-1, maxval=1) * math.sqrt(6 / sum(shape))
        self.bias, self.log_std = jnp.zeros(action_dim), jnp.zeros(action_dim)

    def start(self, num_lanes: int) -> Hidden:
        """The hidden state at the beginning of a trial."""
        zero = jnp.zeros((num_lanes, self.cell.hidden_size), self.weight.dtype)
        return (zero, zero) if isinstance(self.cell, eqx.nn.LSTMCell) else zero

    def __call__(self, seen: Float[Array, "lane in"], hidden: Hidden) -> tuple[PolicyOutput, Hidden]:
        """One control step of all lanes."""
        with full_precision():
            hidden = jax.vmap(self.cell)(seen, hidden)
            top = hidden[0] if isinstance(hidden, tuple) else hidden
            mean = top @ self.weight + self.bias
        return PolicyOutput(mean, jnp.broadcast_to(jnp.maximum(self.log_std, MIN_LOG_STD), mean.shape)), hidden


def what_is_seen(obs: Array, action: Array, reward: Array, ended: Array) -> Array:
    """The network's input: the observation, and the action and reward before it; whether an episode ended there."""
    return jnp.concatenate([obs, action, reward[..., None], ended[..., None]], axis=-1)


# ----------------------------------------------------------------------------------------------------------------------
# The loss, on whole trials [lane, time]


class Trials(NamedTuple):
    """What one trial in every lane gave, its episodes one after another. Real steps first, in order; then padding."""

    seen: Float[Array, "lane time in"]
    action: Float[Array, "lane time action_dim"]
    real: Bool[Array, "lane time"]
    advantage: Float[Array, "lane time"]


def densities(policy: RecurrentPolicy, seen: Array, action: Array, real: Array, backpropagation_steps: int) -> Array:
    """log pi of every action of the trials [lane, time], with gradients that go back a number of steps at most."""

    def step(hidden: Hidden, now: tuple[Array, ...]) -> tuple[Hidden, Array]:
        time, seen, action, real = now
        held = jax.tree.map(lambda h: jnp.where(time % backpropagation_steps == 0, jax.lax.stop_gradient(h), h), hidden)
        output, new = policy(seen, held)
        return select(real, new, held), log_density(output, action)

    times = jnp.arange(seen.shape[1])
    along_time = (times, *(x.swapaxes(0, 1) for x in (seen, action, real)))
    return jax.lax.scan(step, policy.start(len(seen)), along_time)[1].T


def ppo_loss(
    policy: RecurrentPolicy, trials: Trials, old: Float[Array, "lane time"], config: Rl2Settings
) -> tuple[Array, dict[str, Array]]:
    """-mean(min(r A, clip(r) A)), r the ratio of the new density of an action to `old`, log pi when it was drawn."""
    new = densities(policy, trials.seen, trials.action, trials.real, config.backpropagation_steps)
    ratio, advantage = jnp.exp(new - old), trials.advantage
    clipped = jnp.clip(ratio, 1 - config.clip_ratio, 1 + config.clip_ratio)
    loss = -masked_mean(jnp.minimum(ratio * advantage, clipped * advantage), trials.real)
    metrics = {
        "policy_loss": loss,
        "approximate_kl": masked_mean(old - new, trials.real),
        "clipped_share": masked_mean((ratio != clipped).astype(ratio.dtype), trials.real),
        "policy_std": jnp.mean(jnp.exp(policy.log_std)),
    }
    return loss, metrics


def assess(rollouts: Rollouts, config: Rl2Settings) -> Float[Array, "trial episode time"]:
    """The advantages in one task's trials [trial, episode, time], credited over a trial or within each episode.

    The baseline and the scale of the advantages are of all these trials together.
    """
    trials, episodes, horizon = rollouts.reward.shape
    span = (trials, episodes * horizon) if config.credit == "trial" else (trials * episodes, horizon)
    credited = jax.tree.map(lambda x: x.reshape(*span, *x.shape[3:]), rollouts)
    return on_policy.advantages(credited, config.discount, config.gae_lambda).reshape(rollouts.reward.shape)


# ----------------------------------------------------------------------------------------------------------------------
# Meta-testing: the agent


class Memory(NamedTuple):
    """What the agent remembers of a trial, each [lane, ...]."""

    hidden: Hidden
    action: Float[Array, "lane action_dim"]  # of the last step, 0 before the first
    reward: Float[Array, " lane"]
    ended: Float[Array, " lane"]  # 1 where that step was the last of an episode


@functools.cache
def make_agent(family: Family, config: Rl2Settings) -> Agent:
    """RL2 as an Agent: the hidden state is carried through all episodes of a trial."""

    def begin(params: RecurrentPolicy, task: Any, key: Key) -> Memory:
        lanes = num_tasks(task)
        zero = jnp.zeros(lanes)
        return Memory(params.start(lanes), jnp.zeros((lanes, family.action_dim)), zero, zero)

    def act(params: RecurrentPolicy, memory: Memory, obs: Array, key: Key, explore: bool) -> tuple[Array, Memory]:
        output, hidden = params(what_is_seen(obs, memory.action, memory.reward, memory.ended), memory.hidden)
        return on_policy.draw_action(output, key, explore), memory._replace(hidden=hidden)

    def observe(params: RecurrentPolicy, memory: Memory, transition: Transition) -> Memory:
        return memory._replace(action=transition.action, reward=transition.reward, ended=jnp.zeros_like(memory.ended))

    def end_episode(params: RecurrentPolicy, memory: Memory, key: Key) -> Memory:
        return memory._replace(ended=jnp.ones_like(memory.ended))

    return Agent(begin, act, observe, end_episode, explores=lambda index, scored_episode: config.sample_in_trials)


def export(params: RecurrentPolicy, family: Family, config: Rl2Settings) -> Exported:
    """The agent for programs without JAX."""
    cell, cell_arrays = exporting.cell("cell", params.cell)
    head, head_arrays = exporting.dense("policy", [params.weight], [params.bias])
    policy, policy_arrays = exporting.with_log_std(head, head_arrays, params.log_std)
    words = {"kind": "recurrent", "obs_dim": family.obs_dim, "cell": cell, "policy": policy}
    return Exported(words, cell_arrays | policy_arrays)


# ----------------------------------------------------------------------------------------------------------------------
# Meta-training


class State(NamedTuple):
    """All that a run needs to continue."""

    policy: RecurrentPolicy
    optimiser: Any
    key: Key
    env_steps: np.int64  # evaluation excluded
    grad_steps: np.int64
    meta_iterations: np.int64  # completed


def init(family: Family, config: Rl2Settings, seed: int) -> State:
    """The state before the first environment step."""
    policy_key, run_key = jax.random.split(jax.random.key(seed))
    policy = RecurrentPolicy(family.obs_dim, family.action_dim, config, key=policy_key)
    optimiser = optax.adam(config.learning_rate).init(policy)
    return State(policy, optimiser, run_key, np.int64(0), np.int64(0), np.int64(0))


def agent_params(state: State) -> RecurrentPolicy:
    """What acting needs, out of the state of a run."""
    return state.policy


def transfer(into: State, source: State) -> State:
    """`into` with what `source` has learnt."""
    return into._replace(policy=source.policy)


def meta_train(
    family: Family, config: Rl2Settings, tasks: TaskSet, states: Sequence[State]
) -> Iterator[tuple[list[State], list[Metrics]]]:
    """Continues the runs of one or more seeds: (states, metrics [update] of each) after every iteration."""
    return on_policy.iterate(functools.partial(iteration, family, config, tasks.train), states, config.iterations)


def iteration(family: Family, config: Rl2Settings, tasks: Tasks, state: State) -> tuple[State, Metrics]:
    """One meta-iteration: `trials_per_task` trials in every drawn task, then PPO on all of them."""
    number = int(state.meta_iterations)
    drawn = on_policy.draw_tasks(family, config, tasks, jax.random.fold_in(stream(state.key, "tasks"), number))
    drawn = take(drawn, np.repeat(np.arange(config.tasks_per_iteration), config.trials_per_task))
    key = jax.random.fold_in(stream(state.key, "collect"), number)
    agent = _sampling_agent(family, config)
    played = [one.episode for one in trial(family, agent, state.policy, drawn, key, config.episodes_per_trial)]
    trials = without_padding(gather(played, config))
    policy, optimiser, metrics = _train(state.policy, state.optimiser, trials, config)
    after = state._replace(
        policy=policy,
        optimiser=optimiser,
        env_steps=state.env_steps + sum(int(np.sum(one.length)) for one in played),
        grad_steps=state.grad_steps + config.num_epochs,
        meta_iterations=state.meta_iterations + 1,
    )
    first, last = (jnp.full(config.num_epochs, float(one.returns().mean())) for one in (played[0], played[-1]))
    return after, metrics | {"return_first": first, "return_last": last}


@functools.cache
def _sampling_agent(family: Family, config: Rl2Settings) -> Agent:
    return make_agent(family, config)._replace(explores=lambda index, scored_episode: True)


@functools.partial(jax.jit, static_argnames="config")
def gather(played: Sequence[Episode], config: Rl2Settings) -> Trials:
    """The episodes of a trial in every lane as sequences, with what the network saw when it acted."""
    each = [on_policy.as_rollouts(one, len(one.length)) for one in played]  # [lane, 1, time]
    rollouts = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *each)  # [lane, episode, time]
    lanes, episodes, horizon = rollouts.reward.shape
    of_tasks = jax.tree.map(lambda x: x.reshape(-1, config.trials_per_task, *x.shape[1:]), rollouts)
    advantage = jax.vmap(functools.partial(assess, config=config))(of_tasks).reshape(lanes, episodes, horizon)
    told = jnp.where(rollouts.real, jnp.stack([one.transitions.reward for one in played], axis=1), 0.0)
    ended = jnp.zeros_like(told).at[:, 1:, 0].set(1.0)  # an episode ended right before
    flat = [x.reshape(lanes, episodes * horizon, *x.shape[3:]) for x in (*rollouts, advantage, told, ended)]
    order = jnp.argsort(~flat[3], axis=1, stable=True)
    lane = jnp.arange(lanes)[:, None]
    obs, action, _, real, advantage, told, ended = (x[lane, order] for x in flat)
    before_action, before_reward = (jnp.zeros_like(x).at[:, 1:].set(x[:, :-1]) for x in (action, told))
    return Trials(what_is_seen(obs, before_action, before_reward, ended), action, real, advantage)


def without_padding(trials: Trials) -> Trials:
    """Cuts what follows the longest trial's last step, as far as halving the time does."""
    steps = on_policy.halved(trials.real.shape[1], int(jnp.max(jnp.sum(trials.real, axis=1))))
    return jax.tree.map(lambda x: x[:, :steps], trials)


@functools.partial(jax.jit, static_argnames="config")
def _train(
    policy: RecurrentPolicy, optimiser: Any, trials: Trials, config: Rl2Settings
) -> tuple[RecurrentPolicy, Any, Metrics]:
    adam = optax.adam(config.learning_rate)
    old = densities(policy, trials.seen, trials.action, trials.real, config.backpropagation_steps)

    def step(carry: tuple[RecurrentPolicy, Any], _: None) -> tuple[tuple[RecurrentPolicy, Any], dict[str, Array]]:
        policy, state = carry
        (_, metrics), gradient = jax.value_and_grad(ppo_loss, has_aux=True)(policy, trials, old, config)
        change, state = adam.update(gradient, state)
        return (optax.apply_updates(policy, change), state), metrics

    (policy, optimiser), metrics = jax.lax.scan(step, (policy, optimiser), length=config.num_epochs)
    return policy, optimiser, metrics
