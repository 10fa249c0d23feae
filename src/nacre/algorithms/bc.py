"""Behaviour cloning on the logs of several tasks, a baseline of MACAW: its policy, but every logged action weighs 1.

The meta version learns parameters from which a step on logged transitions of a task leads to what was done there. It
needs no rewards, so it shows what of a result is imitation. Settings: presets/multitask.py.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from nacre.algorithms.protocol import Exported, adapts_by_gradient
from nacre.families.family import Family, TaskSet
from nacre.learning import exporting, offline
from nacre.learning.advantage_weighting import act_and_features, adam_step, log_density
from nacre.learning.inner_loop import acting_agent, check_logs, init_policy, init_rates, inner_and_outer_rows, rates
from nacre.learning.offline import Logs, Metrics, Procedure, State, transfer  # noqa: F401  (of this method too)
from nacre.learning.weight_transform import Layers, Weights, all_weights, descend
from nacre.presets.multitask import BcSettings
from nacre.types import Agent, Key, Transition


class Networks(NamedTuple):
    """All that is learnt. Learning rates are softplus of what is stored."""

    policy: Layers
    policy_rates: Layers


def loss(weights: Weights, transition: Transition, config: BcSettings) -> Array:
    """E[-log pi(a | s)] on transitions [row] of one task."""
    mean, _ = act_and_features(weights, transition.obs)
    return -jnp.mean(log_density(mean, transition.action, config.policy_std))


def adapt(networks: Networks, transition: Transition, num_steps: int, config: BcSettings) -> Weights:
    """The policy's weights after `num_steps` steps, each on all of these transitions."""
    own_rates = rates(networks.policy, networks.policy_rates, config)
    return descend(networks.policy, own_rates, lambda weights: loss(weights, transition, config), num_steps)


def meta_loss(networks: Networks, drawn: Any, config: BcSettings) -> Array:
    """The mean over the drawn tasks, (inner, outer) [task, row], of the adapted policy's loss."""

    def of_task(inner: Transition, outer: Transition) -> Array:
        weights = adapt(networks, inner, config.num_inner_steps if config.meta else 0, config)
        return loss(weights, outer, config)

    return jnp.mean(jax.vmap(of_task)(*drawn))


def adams(config: BcSettings) -> tuple[Any, Any]:
    """Adam with the learning rate of each part."""
    return optax.adam(config.learning_rate), optax.adam(config.rates_learning_rate)


def init(family: Family, config: BcSettings, seed: int) -> State:
    """The state before the first update."""
    network_key, run_key = jax.random.split(jax.random.key(seed))
    networks, optimisers = _init_learner(family, config, network_key)
    return offline.begun(networks, optimisers, run_key)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _init_learner(family: Family, config: BcSettings, key: Key) -> tuple[Networks, Any]:
    policy = init_policy(family, config, key)
    networks = Networks(policy, init_rates(policy, config))
    return networks, tuple(adam.init(part) for adam, part in zip(adams(config), networks, strict=True))


@functools.cache
def make_agent(family: Family, config: BcSettings) -> Agent:
    """Behaviour cloning as an Agent: it adapts to the logged transitions that it is given."""
    num_steps = config.num_test_steps
    return acting_agent(
        lambda networks: all_weights(networks.policy),
        lambda networks, logged: adapt(networks, logged.transition, num_steps, config), config,
    )  # fmt: skip


def export(params: Networks, family: Family, config: BcSettings) -> Exported:
    """The agent for programs without JAX, of a policy that takes no gradient steps at meta-test."""
    if config.num_test_steps > 0:
        return adapts_by_gradient(params, family, config)
    return Exported(*exporting.plain_policy(all_weights(params.policy), family))


def frozen(memory: Any, family: Family, config: BcSettings) -> Exported:
    """The adapted policy in a memory, for programs without JAX."""
    return Exported(*exporting.plain_policy([rows[0] for rows in memory.policy], family))


def agent_params(state: State) -> Networks:
    """What acting needs, out of the state of a run."""
    networks: Networks = state.networks
    return networks


@functools.cache
def procedure(family: Family, config: BcSettings) -> Procedure:
    """Behaviour cloning's part of the training loop."""

    def choose(logs: Logs, key: Key) -> tuple[Any, Any]:
        task_key, row_key = jax.random.split(key)
        task = jax.random.randint(task_key, (config.meta_batch,), 0, logs.num_rows.shape[0])
        return inner_and_outer_rows(logs, task, family.horizon, config, row_key), None

    def learn(learner: Any, drawn: Any, _: Any) -> tuple[Any, Metrics]:
        networks, optimisers = learner
        found, gradients = jax.value_and_grad(meta_loss)(networks, drawn, config)
        each = zip(adams(config), gradients, optimisers, networks, strict=True)
        (policy, policy_state), (own_rates, rates_state) = (adam_step(*part) for part in each)
        return (Networks(policy, own_rates), (policy_state, rates_state)), {"policy_loss": found}

    return Procedure(choose, learn, family.obs_dim, with_returns=False)


def meta_train(
    family: Family, config: BcSettings, tasks: TaskSet, states: Sequence[State], logs: Logs
) -> Iterator[tuple[list[State], list[Metrics]]]:
    """Continues the runs of one or more seeds on the logs of the train tasks: (states, metrics) after every block."""
    check_logs(logs)
    return offline.meta_train(config, logs, states, procedure(family, config))
