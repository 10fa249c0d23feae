"""Multi-task advantage-weighted regression with fine-tuning, a baseline of MACAW: no meta-learning.

One policy and one value network learn from the logs of all train tasks, and are told which of them they are in, as a
one-hot vector beside the observation. In a new task that vector is zero, and both networks are fine-tuned on logged
transitions of it. Settings: presets/multitask.py.
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
from nacre.learning import advantage_weighting, exporting, fine_tuning, offline
from nacre.learning.advantage_weighting import act_and_features, adam_step
from nacre.learning.fine_tuning import FineTuning
from nacre.learning.inner_loop import Memory, acting_agent
from nacre.learning.offline import Logs, Metrics, Procedure, State, transfer  # noqa: F401  (of this method too)
from nacre.learning.weight_transform import Weights, all_weights, init_layers
from nacre.presets.multitask import MultitaskSettings
from nacre.types import Agent, Key, Logged


class Networks(NamedTuple):
    """All that is learnt; dense layers."""

    value: Weights
    policy: Weights


class Optimisers(NamedTuple):
    """Adam for each network, or its state."""

    value: Any
    policy: Any


def told(logged: Logged, task: Float[Array, "*rows num_train_tasks"]) -> Logged:
    """The same with the task, one-hot or zero, behind every observation that is looked at."""
    transition = logged.transition._replace(obs=beside(logged.transition.obs, task))
    return logged._replace(transition=transition, last_obs=beside(logged.last_obs, task))


def beside(obs: Array, task: Float[Array, "*rows num_train_tasks"]) -> Array:
    """Observations with the task behind them."""
    return jnp.concatenate([obs, jnp.broadcast_to(task, (*obs.shape[:-1], task.shape[-1]))], axis=-1)


def value_loss(weights: Weights, logged: Logged, config: Any) -> Array:
    """E[(V(s) - R - gamma^(T - t) V(s_T))^2], the target without gradient."""
    target = logged.return_to_go
    if config.bootstrap != "none":
        target = target + advantage_weighting.expected_after_end(weights, logged, config)
    return advantage_weighting.value_loss(weights, logged, jax.lax.stop_gradient(target))


def policy_loss(weights: Weights, value: Weights, logged: Logged, config: Any) -> Array:
    """L_AWR of one task's batch."""
    weight = advantage_weighting.action_weights(advantage_weighting.advantage(value, logged, config), config)
    mean, _ = act_and_features(weights, logged.transition.obs)
    return advantage_weighting.policy_loss(mean, logged, weight, config)


def descend(
    networks: Networks, optimisers: Optimisers, adams: Optimisers, logged: Logged, config: Any
) -> tuple[Networks, Optimisers, Metrics]:
    """One Adam step of the value network, then one of the policy with its advantages, on `logged` [task, row]."""

    def mean_over_tasks(loss: Any, *weights: Weights) -> Array:
        return jnp.mean(jax.vmap(lambda own: loss(*weights, own, config))(logged))

    of_value, gradient = jax.value_and_grad(lambda weights: mean_over_tasks(value_loss, weights))(networks.value)
    value, value_state = adam_step(adams.value, gradient, optimisers.value, networks.value)
    of_policy, gradient = jax.value_and_grad(lambda weights: mean_over_tasks(policy_loss, weights, value))(
        networks.policy
    )
    policy, policy_state = adam_step(adams.policy, gradient, optimisers.policy, networks.policy)
    metrics = {"value_loss": of_value, "policy_loss": of_policy}
    return Networks(value, policy), Optimisers(value_state, policy_state), metrics


def train_adams(config: MultitaskSettings) -> Optimisers:
    """The optimisers of training."""
    return Optimisers(optax.adam(config.value_learning_rate), optax.adam(config.learning_rate))


def fine_tune(networks: Networks, logged: Logged, num_steps: int, config: MultitaskSettings) -> Networks:
    """The networks after `num_steps` Adam steps, from new optimisers, on one task's transitions [row]."""
    adams = Optimisers(*(optax.adam(config.inner_learning_rate),) * 2)
    batch = jax.tree.map(lambda x: x[None], told(logged, jnp.zeros(config.num_train_tasks)))
    optimisers = Optimisers(adams.value.init(networks.value), adams.policy.init(networks.policy))

    def step(_: Any, learner: tuple[Networks, Optimisers]) -> tuple[Networks, Optimisers]:
        return descend(*learner, adams, batch, config)[:2]

    networks, _ = jax.lax.fori_loop(0, num_steps, step, (networks, optimisers))
    return networks


@functools.cache
def make_agent(family: Family, config: MultitaskSettings) -> Agent:
    """The fine-tuned policy as an Agent. It is told no task."""
    num_steps, nothing = config.num_test_steps, jnp.zeros(config.num_train_tasks)

    def absorb(networks: Networks, logged: Logged) -> Weights:
        return fine_tune(networks, logged, num_steps, config).policy

    agent = acting_agent(lambda networks: networks.policy, absorb, config)

    def act(params: Networks, memory: Memory, obs: Array, key: Key, explore: bool) -> tuple[Array, Memory]:
        return agent.act(params, memory, beside(obs, nothing), key, explore)

    return agent._replace(act=act)


def frozen(memory: Any, family: Family, config: MultitaskSettings) -> Exported:
    """The adapted policy in a memory, for programs without JAX."""
    return Exported(*exporting.plain_policy([rows[0] for rows in memory.policy], family, config.num_train_tasks))


@functools.cache
def make_fine_tuning(family: Family, config: MultitaskSettings) -> FineTuning:
    """How both networks continue in a task after `fine_tune`, still told none."""

    def adapted(networks: Networks, logged: Logged, num_steps: int) -> fine_tuning.Networks:
        return fine_tuning.Networks(*fine_tune(networks, logged, num_steps, config))

    return fine_tuning.advantage_weighted(adapted, config, lambda obs: beside(obs, jnp.zeros(config.num_train_tasks)))


def init(family: Family, config: MultitaskSettings, seed: int) -> State:
    """The state before the first update. Raises NacreError where the number of train tasks is not known."""
    config.check_family(family)
    network_key, run_key = jax.random.split(jax.random.key(seed))
    networks, optimisers = _init_learner(family, config, network_key)
    return offline.begun(networks, optimisers, run_key)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _init_learner(family: Family, config: MultitaskSettings, key: Key) -> tuple[Networks, Optimisers]:
    value_key, policy_key = jax.random.split(key)
    dims = (family.obs_dim + config.num_train_tasks, *[config.hidden_dim] * config.num_hidden_layers)
    value, policy = init_layers((*dims, 1), 0, value_key), init_layers((*dims, family.action_dim), 0, policy_key)
    networks = Networks(all_weights(value), all_weights(policy))
    adams = train_adams(config)
    return networks, Optimisers(adams.value.init(networks.value), adams.policy.init(networks.policy))


def agent_params(state: State) -> Networks:
    """What acting needs, out of the state of a run."""
    networks: Networks = state.networks
    return networks


@functools.cache
def procedure(family: Family, config: MultitaskSettings) -> Procedure:
    """Multi-task regression's part of the training loop."""

    def choose(logs: Logs, key: Key) -> tuple[Any, Any]:
        task_key, row_key = jax.random.split(key)
        task = jax.random.randint(task_key, (config.meta_batch,), 0, logs.num_rows.shape[0])
        return offline.uniform_rows(logs, task, config.batch_size, row_key), task

    def learn(learner: Any, drawn: Logged, task: Any) -> tuple[Any, Metrics]:
        named = jax.vmap(told)(drawn, jax.nn.one_hot(task, config.num_train_tasks))
        networks, optimisers = learner
        networks, optimisers, metrics = descend(networks, optimisers, train_adams(config), named, config)
        return (networks, optimisers), metrics

    return Procedure(choose, learn, family.obs_dim, with_returns=True)


def meta_train(
    family: Family, config: MultitaskSettings, tasks: TaskSet, states: Sequence[State], logs: Logs
) -> Iterator[tuple[list[State], list[Metrics]]]:
    """Continues the runs of one or more seeds on the logs of the train tasks: (states, metrics) after every block."""
    return offline.meta_train(config, logs, states, procedure(family, config))
