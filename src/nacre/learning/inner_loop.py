"""What methods share that adapt to a task by gradient steps on logged transitions of it: networks and their learning
rates of adaptation, the transitions that adaptation learns from and those that judge it, the agent.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from nacre.errors import NacreError
from nacre.families.family import Family, num_tasks
from nacre.learning import offline
from nacre.learning.advantage_weighting import act_and_features, with_noise
from nacre.learning.offline import Logs
from nacre.learning.replay import uniform_index
from nacre.learning.weight_transform import Layer, Layers, Weights, init_layers, num_parameters
from nacre.presets.macaw import AdaptingSettings, TransformSettings
from nacre.types import Agent, Key, Logged, with_fixed_memory


def network_dims(in_dim: int, out_dim: int, config: TransformSettings) -> list[int]:
    """Widths from input to output, for the weight transform that the settings want."""
    dims = [in_dim] + [config.hidden_dim] * config.num_hidden_layers + [out_dim]
    if config.weight_transform == "none-equal-size":
        wanted, depth = num_parameters(dims, config.latent_dim), config.num_hidden_layers
        sizes = ([in_dim] + [width] * depth + [out_dim] for width in itertools.count(1))
        dims = next(dims for dims in sizes if num_parameters(dims, 0) >= wanted)
    return dims


def init_policy(family: Family, config: TransformSettings, key: Key) -> Layers:
    """The layers of the policy."""
    return transformed_layers(network_dims(family.obs_dim, family.action_dim, config), config, key)


def transformed_layers(dims: Sequence[int], config: TransformSettings, key: Key) -> Layers:
    """Layers of these widths, with the weight transform that the settings want."""
    latent_dim = config.latent_dim if config.weight_transform == "linear" else 0
    return init_layers(dims, latent_dim, key, bias_transform=config.weight_transform == "bias")


def in_parts(logged: Any, num_parts: int) -> Any:
    """Logged transitions [row] as `num_parts` equal parts in their order, [part, row]; what is left over sits out.

    Raises NacreError where there are fewer transitions than parts.
    """
    number = jax.tree.leaves(logged)[0].shape[0]
    if number < num_parts:
        raise NacreError(
            f"{number} transitions cannot be cut into {num_parts} parts, one a gradient step; give the agent more, or "
            "set --split-inner-batch False."
        )
    size = number // num_parts
    return jax.tree.map(lambda x: x[: num_parts * size].reshape(num_parts, size, *x.shape[1:]), logged)


def init_rates(layers: Layers, config: TransformSettings) -> Layers:
    """What the learning rates of `layers` are softplus of, at the start."""
    return jax.tree.map(lambda _: jnp.log(jnp.float32(config.inner_learning_rate)), layers)


def rates(layers: Layers, stored: Layers, config: TransformSettings) -> Layers:
    """The learning rates of adaptation, one for each array of `layers`."""
    positive = jax.tree.map(jax.nn.softplus, stored)
    if not config.learn_inner_learning_rates:
        positive = jax.tree.map(lambda x: jnp.full_like(x, config.inner_learning_rate), positive)
    if config.adapt == "all" or config.weight_transform != "linear":
        return positive
    return tuple(Layer(jnp.zeros(()), rate.latent, jnp.zeros(())) for rate in positive)


def check_logs(logs: Logs) -> None:
    """Raises NacreError where a task has too few transitions for an inner and an outer batch that share none."""
    fewest = int(np.min(logs.num_rows))
    if fewest < 2:
        task = int(np.argmin(logs.num_rows))
        raise NacreError(
            f"train task {task} of the data set has {fewest} transition, but adaptation and its judgement need others; "
            "leave the task out with 'nacre data slice'."
        )


def inner_and_outer_rows(
    logs: Logs, task: Int[Array, " batch"], block: int, config: TransformSettings, key: Key
) -> tuple[Int[Array, "batch inner"], Int[Array, "batch outer"]]:
    """Rows that adaptation learns from, and those that judge it, of each of these tasks.

    'disjoint': the log is cut, from a random row on, into blocks of `block` rows; inner rows come from every second
    block, outer rows from the others, uniformly with replacement. So no row is in both, and hardly an episode, while
    over many updates every row serves both and early and late parts of the log meet in each. What is left over at the
    end, less than two blocks, sits out. Logs shorter than two blocks are cut into halves.
    """
    inner_key, outer_key, start_key = jax.random.split(key, 3)
    if config.inner_rows == "contiguous":
        inner = offline.contiguous_rows(logs, task, config.inner_batch_size, inner_key, config.inner_stride)
        return inner, offline.uniform_rows(logs, task, config.batch_size, outer_key)
    first, size = jnp.asarray(logs.first_row)[task][:, None], jnp.asarray(logs.num_rows)[task][:, None]
    length = jnp.clip(size // 2, 1, block)
    start = uniform_index(start_key, (task.shape[0], 1), size)

    def rows(num: int, offset: int | Array, key: Key) -> Array:
        at = uniform_index(key, (task.shape[0], num), jnp.maximum(size // (2 * length), 1) * length)
        return first + (start + offset + at // length * 2 * length + at % length) % size

    return rows(config.inner_batch_size, 0, inner_key), rows(config.batch_size, length, outer_key)


# ----------------------------------------------------------------------------------------------------------------------
# Meta-testing


class Memory(NamedTuple):
    """What the agent carries through a trial."""

    policy: Weights  # [lane, n] of each layer, adapted once; generators are not looked at again


def acting_agent(start: Any, absorb: Any, config: AdaptingSettings) -> Agent:
    """An agent that acts by a policy's weights, which only logged transitions change: `start` (params) -> weights,
    `absorb` (params, logged [row]) -> weights. It acts by the policy's mean."""

    def begin(params: Any, task: Any, key: Key) -> Memory:
        lanes = num_tasks(task)
        return Memory(jax.tree.map(lambda x: jnp.broadcast_to(x, (lanes, *x.shape)), start(params)))

    def act(params: Any, memory: Memory, obs: Array, key: Key, explore: bool) -> Array:
        mean = jax.vmap(lambda weights, obs: act_and_features(weights, obs)[0])(memory.policy, obs)
        return with_noise(mean, key, config) if explore else mean

    def absorbed(params: Any, memory: Memory, logged: Logged, key: Key) -> Memory:
        return Memory(jax.vmap(lambda own: absorb(params, own))(logged))

    return with_fixed_memory(act, begin)._replace(absorb=absorbed)
