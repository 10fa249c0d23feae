"""What the tests of PEARL share: settings, made-up transitions, networks in NumPy, collections that are recorded."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.algorithms import pearl
from nacre.families.family import Family, JaxStep
from nacre.families.point import PointRobot
from nacre.learning import collection, off_policy, soft_actor_critic
from nacre.learning.collection import Phases
from nacre.learning.networks import MLP
from nacre.learning.replay import PAGE, Replay, unpack
from nacre.presets.pearl import PearlSettings
from nacre.types import Transition

FAMILY = PointRobot()
critic_loss = functools.partial(soft_actor_critic.critic_loss, objective=pearl.OBJECTIVE)
update = functools.partial(soft_actor_critic.update, objective=pearl.OBJECTIVE)
OBS_DIM, ACTION_DIM, LATENT_DIM = 2, 2, 3
SMALL = PearlSettings(
    num_train_tasks=3, num_test_tasks=2, iterations=2, num_initial_episodes=1, num_tasks_sample=3, num_prior_episodes=1,
    num_posterior_episodes=2, num_extra_rl_episodes=1, num_train_steps_per_iteration=400, meta_batch=3,
    batch_size=32, context_batch_size=32, latent_dim=LATENT_DIM, hidden_dim=32, num_hidden_layers=2,
    encoder_hidden_dim=32, reward_scale=5.0, discount=0.5, learning_rate=1e-2, kl_weight=0.01,
    num_evaluation_episodes=4, num_exploration_episodes=2,
)  # fmt: skip
GOALS = {"goal": np.array([[1.0, 0.0], [-0.5, 0.9], [-0.5, -0.9]])}
"""One goal a train task; every collection below is three lanes wide, so that it compiles once."""


def change(config: PearlSettings, **fields: Any) -> PearlSettings:
    return dataclasses.replace(config, **fields)


def made_up_transitions(seed: int, *shape: int) -> Transition:
    """Random numbers of the right shapes; the training reward is not the reward."""
    rng = np.random.default_rng(seed)

    def normal(*dims: int) -> np.ndarray:
        return rng.standard_normal((*shape, *dims)).astype(np.float32)

    action, discount = np.tanh(normal(ACTION_DIM)), (normal() > 0).astype(np.float32)
    return Transition(normal(OBS_DIM), action, normal(), normal(), discount, normal(OBS_DIM))


@functools.partial(jax.jit, static_argnames="config")
def fresh_networks(config: PearlSettings, seed: int) -> soft_actor_critic.Networks:
    return pearl.init_learner(OBS_DIM, ACTION_DIM, config, jax.random.key(seed))[0]


def forward(mlp: MLP, *inputs: Any) -> np.ndarray:
    """The network in NumPy, float64."""
    h = np.concatenate([np.asarray(x, np.float64) for x in inputs], axis=-1)
    for layer, (weight, bias) in enumerate(zip(mlp.weights, mlp.biases, strict=True)):
        h = (np.maximum(h, 0.0) if layer else h) @ np.asarray(weight, np.float64) + np.asarray(bias, np.float64)
    return h


def factors_by_hand(encoder: MLP, context: Transition) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of every transition's factor, in NumPy."""
    raw = forward(encoder, context.obs, context.action, np.asarray(context.reward)[..., None])
    mean, before_softplus = np.split(raw, 2, axis=-1)
    return mean, np.logaddexp(0.0, before_softplus)


def last_layer(mlp: MLP, weight: Any, bias: Any) -> MLP:
    weights, biases = (*mlp.weights[:-1], jnp.asarray(weight)), (*mlp.biases[:-1], jnp.asarray(bias))
    return eqx.tree_at(lambda m: (m.weights, m.biases), mlp, (weights, biases))


def louder(mlp: MLP, factor: float = 100.0) -> MLP:
    """The network with a larger last layer: at initialisation its outputs hardly depend on its inputs."""
    return last_layer(mlp, mlp.weights[-1] * factor, mlp.biases[-1] * factor)


def assert_trees_equal(a: Any, b: Any) -> None:
    leaves_a, leaves_b = (
        [
            np.asarray(jax.random.key_data(x) if jnp.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key) else x)
            for x in tree
        ]
        for tree in (jax.tree.leaves(a), jax.tree.leaves(b))
    )
    assert len(leaves_a) == len(leaves_b)
    for x, y in zip(leaves_a, leaves_b, strict=True):
        np.testing.assert_array_equal(x, y)


def copied(tree: Any) -> Any:
    """A copy whose buffers a compiled function may consume."""
    return jax.tree.map(lambda x: x.copy(), tree)


infer_posterior = jax.jit(pearl.infer_posterior, static_argnames="config")


BATCH = made_up_transitions(2, 2, 32)
LONG_CONTEXT = made_up_transitions(3, 2, 32)
Z_NOISE = jnp.asarray(np.random.default_rng(4).standard_normal((2, LATENT_DIM)), jnp.float32)
ACTION_NOISE = jnp.asarray(np.random.default_rng(5).standard_normal((2, 32, ACTION_DIM)), jnp.float32)
NOISE = pearl.Noise(Z_NOISE, ACTION_NOISE)


DOUBLE_Q = change(SMALL, use_value_network=False, automatic_temperature=True)


TASKS = FAMILY.task_set(1337, 3, 2)


def rows(replay: Replay, task: int) -> Transition:
    """All transitions in a task's ring that has not wrapped, oldest first."""
    pages, size = np.asarray(replay.pages)[task], int(replay.size[task])
    at = np.arange(size)
    return unpack(replay.pool[pages[at // PAGE] * PAGE + at % PAGE], OBS_DIM)


class Recorded(NamedTuple):
    """What one round of collection handed to `episode`, and got."""

    z: np.ndarray  # [lane, latent_dim]; of straight episodes the action, [lane, action_dim]
    goal: np.ndarray  # [lane, 2]
    transitions: Transition  # [lane, time, ...]
    length: np.ndarray  # [lane]


class Collected(NamedTuple):
    """A collection on top of the initial one, recorded."""

    before: pearl.State
    after: pearl.State
    rounds: list[Recorded]


DRAWN, PHASES = np.array([0, 2, 0]), Phases(prior=1, posterior=2, extra_rl_posterior=1)


def collect(
    state: pearl.State, drawn: np.ndarray, phases: Phases, config: PearlSettings = SMALL, family: Family = FAMILY
) -> pearl.State:
    """One run's collection."""
    procedure = pearl.procedure(family, config)
    return off_policy.collect(family, config, GOALS, [state], drawn[None], phases, procedure)[0]


def train(state: pearl.State, num_updates: int, config: PearlSettings = SMALL) -> tuple[pearl.State, pearl.Metrics]:
    """One run's updates."""
    (after,), (metrics,) = off_policy.train([state], pearl.procedure(FAMILY, config), num_updates)
    return after, metrics


@contextlib.contextmanager
def recording() -> Iterator[list[Recorded]]:
    """The rounds that are collected meanwhile."""
    rounds, original = [], collection.episode

    def recording_episode(family, agent, params, memory, task, key, *, explore):
        assert explore
        after, result = original(family, agent, params, memory, task, key, explore=explore)
        transitions, length, *_ = jax.device_get(result)
        z = np.asarray(getattr(memory, "z", memory))
        rounds.append(Recorded(z, task["goal"], transitions, length))
        return after, result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection, "episode", recording_episode)
        yield rounds


def collect_recorded(
    state: pearl.State, config: PearlSettings, drawn: np.ndarray, phases: Phases, family: Family = FAMILY
) -> Collected:
    before = copied(state)
    with recording() as rounds:
        after = collect(copied(state), drawn, phases, config, family)
    return Collected(before, after, rounds)


def sure_encoder(encoder: MLP, mean: float) -> MLP:
    """An encoder whose factors are N(mean, 1e-7) whatever they see: the posterior is at the mean, the prior is not."""
    bias = np.repeat(np.float32([mean, -40.0]), LATENT_DIM)
    return last_layer(encoder, np.zeros(encoder.weights[-1].shape, np.float32), bias)


def with_encoder(state: pearl.State, encoder: MLP) -> pearl.State:
    return state._replace(networks=state.networks._replace(encoder=encoder))


class Falling(PointRobot):
    """An episode ends at its tenth step where the goal lies below, and never where it lies above."""

    can_terminate: ClassVar[bool] = True

    def reset(self, key):
        position, obs = super().reset(key)
        return (position, 0), obs

    def step(self, state: Any, action: Any, task: Any) -> JaxStep:
        result = super().step(state[0], action, task)
        ends = (state[1] == 9) & (task["goal"][1] < 0)
        return result._replace(state=(result.state, state[1] + 1), terminated=ends)


def assert_all_networks_changed(start: pearl.State, end: pearl.State) -> None:
    for name in soft_actor_critic.Networks._fields:
        before, after = (jax.tree.leaves(getattr(state.networks, name)) for state in (start, end))
        changed = [(np.asarray(x) != np.asarray(y)).any() for x, y in zip(before, after, strict=True)]
        assert any(changed) or getattr(start.networks, name) is None, name


def assert_trees_close(a: Any, b: Any, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=rtol, atol=atol)
