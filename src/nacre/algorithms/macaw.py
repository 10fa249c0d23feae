"""MACAW, offline meta-RL with advantage weighting (Mitchell, Rafailov, Peng, Levine, Finn, ICML 2021).

From logs of several tasks it learns a policy and a value network, and how fast each of their arrays adapts, such that
one step of gradient descent on a few hundred logged transitions of a new task leads to networks for that task.

Losses, adaptation, the outer update, meta-testing (the agent), meta-training. Settings: presets/macaw.py. docs/macaw.md
maps equations to these functions.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from nacre.algorithms.protocol import Exported
from nacre.families.family import Family, TaskSet
from nacre.learning import exporting, fine_tuning, offline
from nacre.learning.advantage_weighting import (
    act_and_features,
    action_weights,
    adam_step,
    advantage,
    expected_after_end,
    policy_loss,
    value_loss,
)
from nacre.learning.fine_tuning import FineTuning
from nacre.learning.inner_loop import (
    acting_agent,
    check_logs,
    in_parts,
    init_policy,
    init_rates,
    inner_and_outer_rows,
    network_dims,
    rates,
    transformed_layers,
)
from nacre.learning.offline import Logs, Metrics, Procedure, State, transfer  # noqa: F401  (of this method too)
from nacre.learning.weight_transform import Layers, Weights, all_weights, descend, mlp
from nacre.presets.macaw import MacawSettings
from nacre.types import Agent, Key, Logged

HEAD_UNITS = 32
"""Hidden units of the advantage head."""


class Networks(NamedTuple):
    """All that is learnt. Learning rates and the head's weight are softplus of what is stored."""

    value: Layers
    policy: Layers
    head: Layers  # of the advantage; () without one
    value_rates: Layers
    policy_rates: Layers
    head_rates: Layers
    head_weight: Float[Array, ""]


# ----------------------------------------------------------------------------------------------------------------------
# The advantage head's loss; the others are in learning/advantage_weighting.py


def head_loss(head: Weights, features: Array, logged: Logged, target: Array, config: MacawSettings) -> Array:
    """L_ADV = E[(A_theta(s, a) - A)^2]."""
    action = logged.transition.action
    if config.head_rectifies_action:
        action = jax.nn.relu(action)
    guess = mlp(head, jnp.concatenate([jax.nn.relu(features), action], axis=-1))[..., 0]
    return jnp.mean((guess - target) ** 2)


# ----------------------------------------------------------------------------------------------------------------------
# Adaptation: phi' and theta' of one task from logged transitions [row] of it


class Adapted(NamedTuple):
    """A task's networks."""

    value: Weights
    policy: Weights


def adapt_value(networks: Networks, logged: Logged, num_steps: int, config: MacawSettings) -> Weights:
    """phi' = phi - eta1 grad L_V(phi), `num_steps` times."""
    target = logged.return_to_go
    own_rates = rates(networks.value, networks.value_rates, config)
    if config.split_inner_batch and num_steps > 1:
        parts = in_parts((logged, target), num_steps)
        return descend(networks.value, own_rates, lambda weights, part: value_loss(weights, *part), num_steps, parts)
    return descend(networks.value, own_rates, lambda weights: value_loss(weights, logged, target), num_steps)


def adapt_policy(
    networks: Networks, adapted_value: Weights, logged: Logged, num_steps: int, config: MacawSettings
) -> Weights:
    """theta' = theta - alpha1 grad (L_AWR + lambda L_ADV)(theta, phi'), `num_steps` times; the head adapts with it."""
    gain = advantage(adapted_value, logged, config)
    split = len(networks.policy)

    def loss(weights: Weights, part: tuple[Logged, Array] = (logged, gain)) -> Array:
        logged, gain = part
        weight = action_weights(gain, config)
        mean, features = act_and_features(weights[:split], logged.transition.obs)
        total = policy_loss(mean, logged, weight, config)
        if config.advantage_head:
            strength = jax.nn.softplus(networks.head_weight)
            total = total + strength * head_loss(weights[split:], features, logged, gain, config)
        return total

    layers, stored = networks.policy + networks.head, networks.policy_rates + networks.head_rates
    whole = not config.split_inner_batch or num_steps < 2
    parts_of_steps = None if whole else in_parts((logged, gain), num_steps)
    return descend(layers, rates(layers, stored, config), loss, num_steps, parts_of_steps)[:split]


def adapt(networks: Networks, logged: Logged, num_steps: int, config: MacawSettings) -> Adapted:
    """Both networks after `num_steps` steps, the value network's first. All steps use all of `logged`, or
    each its own part (`split_inner_batch`)."""
    adapted_value = adapt_value(networks, logged, num_steps, config)
    constant = jax.lax.stop_gradient(adapted_value)
    return Adapted(adapted_value, adapt_policy(networks, constant, logged, num_steps, config))


# ----------------------------------------------------------------------------------------------------------------------
# The outer update


def outer_losses(networks: Networks, inner: Logged, outer: Logged, config: MacawSettings) -> tuple[Array, Array]:
    """(L_V(phi'), L_AWR(theta', phi')) of one task, adapted on `inner`, judged on `outer`; the first depends on phi
    and its rates alone, the second on theta, its rates, head and lambda alone."""
    adapted = adapt(networks, inner, config.num_inner_steps, config)
    target = outer.return_to_go
    if config.bootstrap != "none":
        mixed = jax.tree.map(
            lambda new, old: config.target_share * new + (1 - config.target_share) * old,
            adapted.value, all_weights(networks.value),
        )  # fmt: skip
        target = target + expected_after_end(mixed, outer, config)
    of_value = value_loss(adapted.value, outer, jax.lax.stop_gradient(target))
    weight = action_weights(advantage(adapted.value, outer, config), config)
    mean, _ = act_and_features(adapted.policy, outer.transition.obs)
    return of_value, policy_loss(mean, outer, weight, config)


def meta_loss(networks: Networks, drawn: Any, config: MacawSettings) -> tuple[Array, Metrics]:
    """What the outer update descends: the losses of the drawn tasks, (inner, outer) [task, row], their mean."""
    of_value, of_policy = jax.vmap(lambda inner, outer: outer_losses(networks, inner, outer, config))(*drawn)
    metrics = {"value_loss": jnp.mean(of_value), "policy_loss": jnp.mean(of_policy)}
    return metrics["value_loss"] + metrics["policy_loss"], metrics


class Optimisers(NamedTuple):
    """Adam's states: for the value network, for the policy and its head, for rates and the head's weight."""

    value: Any
    policy: Any
    adaptation: Any


def parts(networks: Networks) -> Optimisers:
    """What each optimiser changes."""
    adaptation = (networks.value_rates, networks.policy_rates, networks.head_rates, networks.head_weight)
    return Optimisers(networks.value, (networks.policy, networks.head), adaptation)


def adams(config: MacawSettings) -> Optimisers:
    """Adam with the learning rate of each part."""
    each = (config.value_learning_rate, config.learning_rate, config.rates_learning_rate)
    return Optimisers(*map(optax.adam, each))


def update(
    networks: Networks, optimisers: Optimisers, drawn: Any, share: float | Array, config: MacawSettings
) -> tuple[Networks, Optimisers, Metrics]:
    """One outer update on the drawn (inner, outer) transitions, [task, row]. `share`: a factor of the losses."""
    gradients, metrics = jax.grad(meta_loss, has_aux=True)(networks, drawn, config)
    gradients = jax.tree.map(lambda x: share * x, gradients)
    changed, states = [], []
    for each in zip(adams(config), parts(gradients), optimisers, parts(networks), strict=True):
        part, after = adam_step(*each)
        changed.append(part)
        states.append(after)
    of_value, (policy, head), adaptation = changed
    networks = Networks(of_value, policy, head, *adaptation)
    metrics["head_weight"] = jax.nn.softplus(networks.head_weight)
    for name, stored in (("value", networks.value_rates), ("policy", networks.policy_rates)):
        positive = [jax.nn.softplus(rate) for rate in jax.tree.leaves(stored)]
        metrics[f"{name}_inner_learning_rate"] = jnp.mean(jnp.stack(positive))
    return networks, Optimisers(*states), metrics


# ----------------------------------------------------------------------------------------------------------------------
# Meta-testing: the agent


@functools.cache
def make_agent(family: Family, config: MacawSettings) -> Agent:
    """MACAW as an Agent. It adapts to the logged transitions that it is given."""
    num_steps = config.num_test_steps
    return acting_agent(
        lambda networks: all_weights(networks.policy),
        lambda networks, logged: adapt(networks, logged, num_steps, config).policy, config,
    )  # fmt: skip


def frozen(memory: Any, family: Family, config: MacawSettings) -> Exported:
    """The adapted policy in a memory, for programs without JAX."""
    return Exported(*exporting.plain_policy([rows[0] for rows in memory.policy], family))


@functools.cache
def make_fine_tuning(family: Family, config: MacawSettings) -> FineTuning:
    """How MACAW continues in a task: by advantage-weighted regression of the adapted weights, generators left out."""

    def adapted(networks: Networks, logged: Logged, num_steps: int) -> fine_tuning.Networks:
        return fine_tuning.Networks(*adapt(networks, logged, num_steps, config))

    return fine_tuning.advantage_weighted(adapted, config)


# ----------------------------------------------------------------------------------------------------------------------
# Meta-training


@functools.partial(jax.jit, static_argnums=(0, 1))
def init_learner(family: Family, config: MacawSettings, key: Key) -> tuple[Networks, Optimisers]:
    """The networks and optimisers before the first update."""
    value_key, policy_key, head_key = jax.random.split(key, 3)
    of_value = transformed_layers(network_dims(family.obs_dim, 1, config), config, value_key)
    policy = init_policy(family, config, policy_key)
    features = network_dims(family.obs_dim, family.action_dim, config)[-2]
    head_dims = (features + family.action_dim, HEAD_UNITS, 1)
    head = transformed_layers(head_dims, config, head_key) if config.advantage_head else ()
    networks = Networks(
        of_value, policy, head, init_rates(of_value, config), init_rates(policy, config), init_rates(head, config),
        jnp.log(jnp.float32(config.head_weight)),
    )  # fmt: skip
    states = [adam.init(part) for adam, part in zip(adams(config), parts(networks), strict=True)]
    return networks, Optimisers(*states)


def init(family: Family, config: MacawSettings, seed: int) -> State:
    """The state before the first update."""
    network_key, run_key = jax.random.split(jax.random.key(seed))
    networks, optimisers = init_learner(family, config, network_key)
    return offline.begun(networks, optimisers, run_key)


def agent_params(state: State) -> Networks:
    """What acting needs, out of the state of a run."""
    networks: Networks = state.networks
    return networks


@functools.cache
def procedure(family: Family, config: MacawSettings) -> Procedure:
    """MACAW's part of the training loop."""

    def choose(logs: Logs, key: Key) -> tuple[Any, Any]:
        task_key, row_key = jax.random.split(key)
        num_train_tasks = logs.num_rows.shape[0]
        task = jax.random.randint(task_key, (config.meta_batch,), 0, num_train_tasks)
        share = config.meta_batch / num_train_tasks if config.divide_by_all_tasks else 1.0
        return inner_and_outer_rows(logs, task, family.horizon, config, row_key), jnp.float32(share)

    def learn(learner: Any, drawn: Any, share: Any) -> tuple[Any, Metrics]:
        networks, optimisers = learner
        networks, optimisers, metrics = update(networks, optimisers, drawn, share, config)
        return (networks, optimisers), metrics

    return Procedure(choose, learn, family.obs_dim, with_returns=True)


def meta_train(
    family: Family, config: MacawSettings, tasks: TaskSet, states: Sequence[State], logs: Logs
) -> Iterator[tuple[list[State], list[Metrics]]]:
    """Continues the runs of one or more seeds on the logs of the train tasks: (states, metrics) after every block."""
    check_logs(logs)
    return offline.meta_train(config, logs, states, procedure(family, config))
