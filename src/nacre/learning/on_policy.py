"""What on-policy methods share: the Gaussian policy's densities, returns, the linear baseline, advantages, rollouts."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from threadpoolctl import ThreadpoolController

from nacre.families.family import Family, num_tasks, take
from nacre.learning.networks import GaussianPolicy, PolicyOutput, full_precision
from nacre.simulation.rollout import episode, side_by_side
from nacre.types import Agent, Episode, Key, Tasks, with_fixed_memory

RIDGE = 1e-5
"""Weight of the baseline's squared coefficients against its squared errors."""
ADVANTAGE_EPSILON = 1e-8
ROWS_PER_FEATURE = 10
"""Steps that the baseline has for every feature, at least; with fewer it would learn the returns by heart."""


class Rollouts(NamedTuple):
    """What a policy did. Leading axes [*tasks, rollout, time]; where not `real`, an episode had ended before."""

    obs: Float[Array, "*tasks rollout time obs_dim"]
    action: Float[Array, "*tasks rollout time action_dim"]
    reward: Float[Array, "*tasks rollout time"]
    real: Bool[Array, "*tasks rollout time"]


# ----------------------------------------------------------------------------------------------------------------------
# Diagonal Gaussians over actions


def log_density(policy: PolicyOutput, action: Array) -> Array:
    """log pi(a | s), [...] for actions [..., action_dim]; what the family clips, it clips afterwards."""
    error = (action - policy.mean) * jnp.exp(-policy.log_std)
    return -jnp.sum(0.5 * error**2 + policy.log_std + 0.5 * math.log(2 * math.pi), axis=-1)


def kl_divergence(old: PolicyOutput, new: PolicyOutput) -> Array:
    """KL(old || new), [...]."""
    ratio = jnp.exp(2 * (old.log_std - new.log_std))
    shift = ((old.mean - new.mean) * jnp.exp(-new.log_std)) ** 2
    return jnp.sum(0.5 * (ratio + shift - 1.0) + new.log_std - old.log_std, axis=-1)


def masked_mean(x: Array, real: Array) -> Array:
    """The mean over the real steps."""
    return jnp.sum(jnp.where(real, x, 0.0)) / jnp.maximum(jnp.sum(real), 1)


def mean_over_tasks(of_task: Callable[[Any], Any], tasks: Any) -> Any:
    """The mean of `of_task` over the leading axis of `tasks`, leaf by leaf.

    On an accelerator all at once. On a CPU one task after another, and gradients repeat its forward pass: so what
    it leaves behind stays in the cache, where all tasks at once would wait for memory.
    """
    one_by_one = jax.default_backend() == "cpu"
    found = jax.lax.map(jax.checkpoint(of_task), tasks) if one_by_one else jax.vmap(of_task)(tasks)
    return jax.tree.map(lambda x: jnp.mean(x, axis=0), found)


# ----------------------------------------------------------------------------------------------------------------------
# Advantages of one task's rollouts


def discounted_sums(x: Float[Array, "rollout time"], discount: Float[Array, "rollout time"]) -> Array:
    """sum_k x_{t+k} prod_{j<k} discount_{t+j}, for every t."""

    def step(after: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        total = now[0] + now[1] * after
        return total, total

    return jax.lax.scan(step, jnp.zeros(x.shape[0], x.dtype), (x.T, discount.T), reverse=True)[1].T


def baseline_features(rollouts: Rollouts) -> Float[Array, "rollout time features"]:
    """Powers of the number of real steps before, clipped observation, and its square (Duan et al. 2016).

    Where the task has too few real steps for that many features, the observation's are 0; where it could not have
    enough of them (a large robot's observation), they are left out.
    """
    time = (jnp.cumsum(rollouts.real, axis=-1) - rollouts.real)[..., None] / 100.0
    of_time = [time, time**2, time**3, jnp.ones_like(time)]
    needed = ROWS_PER_FEATURE * (2 * rollouts.obs.shape[-1] + len(of_time))
    if rollouts.real.size < needed:
        return jnp.concatenate(of_time, axis=-1)
    obs, enough = jnp.clip(rollouts.obs, -10.0, 10.0), jnp.sum(rollouts.real) >= needed
    return jnp.concatenate([*of_time, *(jnp.where(enough, x, 0.0) for x in (obs, obs**2))], axis=-1)


def fit_baseline(rollouts: Rollouts, returns: Float[Array, "rollout time"]) -> Float[Array, "rollout time"]:
    """The returns as ridge regression on the features predicts them.

    Least squares by QR of features that are scaled alike, which single precision bears; normal equations it does not.
    """
    features = baseline_features(rollouts)
    width = features.shape[-1]
    rows = jnp.where(rollouts.real[..., None], features, 0.0).reshape(-1, width)
    scale = jnp.sqrt(jnp.sum(rows**2, axis=0)) + 1e-6
    ridge = jnp.diag(math.sqrt(RIDGE) / scale)
    target = jnp.where(rollouts.real, returns, 0.0).reshape(-1)
    system = jnp.block([[rows / scale, target[:, None]], [ridge, jnp.zeros((width, 1), target.dtype)]])
    r = jnp.linalg.qr(system, mode="r")  # its last column is q.T @ target: computing q itself would take longer than r
    with full_precision():
        coefficients = jax.scipy.linalg.solve_triangular(r[:width, :width], r[:width, width]) / scale
        return features @ coefficients


def advantages(rollouts: Rollouts, discount: float, gae_lambda: float) -> Float[Array, "rollout time"]:
    """Generalised advantages (Schulman et al. 2016) over the linear baseline, normalised over the task's real steps.

    The value after a rollout's end is 0. Steps that are not real are passed over, wherever they stand.
    """
    real, reward = rollouts.real, jnp.where(rollouts.real, rollouts.reward, 0.0)
    returns = discounted_sums(reward, jnp.where(real, discount, 1.0))
    value = jnp.where(real, fit_baseline(rollouts, returns), 0.0)
    # The temporal differences add up to returns - value where lambda is 1; in general the recursion is the same with
    # the next real step's value, which passes backwards over what is not real.
    next_value = _next_real(value, real)
    differences = jnp.where(real, reward + discount * next_value - value, 0.0)
    found = discounted_sums(differences, jnp.where(real, discount * gae_lambda, 1.0))
    mean = masked_mean(found, real)
    std = jnp.sqrt(masked_mean((found - mean) ** 2, real))
    return jnp.where(real, (found - mean) / (std + ADVANTAGE_EPSILON), 0.0)


def _next_real(value: Array, real: Array) -> Array:
    """For every step the value of the next real one, 0 after the last."""

    def step(after: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        return jnp.where(now[1], now[0], after), after

    return jax.lax.scan(step, jnp.zeros(value.shape[0], value.dtype), (value.T, real.T), reverse=True)[1].T


# ----------------------------------------------------------------------------------------------------------------------
# Collection


@functools.cache
def policy_agent() -> Agent:
    """A Gaussian policy that remembers nothing: its parameters are all it acts on."""

    def act(params: GaussianPolicy, memory: Any, obs: Array, key: Key, explore: bool) -> Array:
        return draw_action(params(obs), key, explore)

    return with_fixed_memory(act, explores=True)


def draw_action(policy: PolicyOutput, key: Key, explore: bool) -> Array:
    """A sample of the Gaussian, or its mean."""
    if not explore:
        return policy.mean
    return policy.mean + jnp.exp(policy.log_std) * jax.random.normal(key, policy.mean.shape, policy.mean.dtype)


def collect(family: Family, policies: Any, tasks: Tasks, num_rollouts: int, key: Key) -> tuple[Rollouts, int]:
    """`num_rollouts` episodes of every task with its own policy (leaves [task, ...]): (rollouts, environment steps).

    All side by side. Learning is from `training_reward`, which differs from the reward in sparse families only.
    """
    each = num_tasks(tasks)
    lanes = take(tasks, np.repeat(np.arange(each), num_rollouts))
    memory = jnp.zeros(each * num_rollouts)
    keys = jax.random.split(key, each)
    _, played = episode(family, side_by_side(policy_agent(), each), policies, memory, lanes, keys, explore=True)
    return as_rollouts(played, each), int(np.sum(played.length))


@functools.partial(jax.jit, static_argnums=1)
def as_rollouts(played: Episode, num_tasks: int) -> Rollouts:
    """Episodes [lane] as rollouts [task, rollout]: the lanes of a task stand together."""
    transitions = played.transitions
    real = jnp.arange(transitions.reward.shape[1]) < jnp.asarray(played.length)[:, None]

    def blanked(x: Any) -> Array:  # whatever the padding holds, NaN perhaps
        return jnp.where(real.reshape(real.shape + (1,) * (x.ndim - 2)), x, 0.0)

    obs, action, reward = map(blanked, (transitions.obs, transitions.action, transitions.training_reward))
    lanes = Rollouts(obs, action, reward, real)
    return jax.tree.map(lambda x: x.reshape(num_tasks, -1, *x.shape[1:]), lanes)


def without_padding(data: Sequence[Any], real: Sequence[Bool[Array, "task rollout time"]]) -> list[Any]:
    """Data of steps, leaves [task, rollout, time, ...], as [task, 1, row, ...]: the real steps of a task, in order.

    So where episodes end early, an update costs what the steps that were taken cost, not what the horizon costs. Rows
    are rollout * time, halved as long as they hold the real steps of every task in all of the data: few numbers, as a
    program is compiled for each. Where a task has more than half of its steps, the data stay as they are.
    """
    most = max(int(jnp.max(jnp.sum(one, axis=(1, 2)))) for one in real)
    all_rows = real[0].shape[1] * real[0].shape[2]
    rows = halved(all_rows, most)
    return [one if rows == all_rows else _first_rows(one, of, rows) for one, of in zip(data, real, strict=True)]


def halved(rows: int, needed: int) -> int:
    """`rows`, or their half, quarter, eighth ..., the least that holds as many as are needed."""
    while rows > 1 and 2 * needed <= rows:
        rows //= 2
    return rows


@functools.partial(jax.jit, static_argnames="rows")
def _first_rows(data: Any, real: Array, rows: int) -> Any:
    order = jnp.argsort(~real.reshape(len(real), -1), axis=1, stable=True)[:, :rows]

    def of_task(x: Array, order: Array) -> Array:
        return x.reshape(-1, *x.shape[2:])[order][None]

    return jax.tree.map(lambda x: jax.vmap(of_task)(x, order), data)


def draw_tasks(family: Family, config: Any, tasks: Tasks, key: Key) -> Tasks:
    """The tasks of an iteration: some of the train tasks, with replacement, or (`fresh_tasks`) new ones."""
    if config.fresh_tasks:
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        return family.sample_tasks(rng, config.tasks_per_iteration)
    index = jax.random.randint(key, (config.tasks_per_iteration,), 0, config.num_train_tasks)
    return take(tasks, np.asarray(index))


@functools.cache
def lapack() -> ThreadpoolController:
    """Sets the number of threads of the library that XLA factorises matrices with on a CPU, for the whole process.

    Libraries that threadpoolctl does not know, as Apple's Accelerate, keep theirs.
    """
    jax.block_until_ready(jnp.linalg.qr(jnp.ones((1, 1))))  # loads that library
    return ThreadpoolController()


def iterate(
    iteration: Callable[[Any], tuple[Any, Any]], states: Sequence[Any], num_iterations: int
) -> Iterator[tuple[list[Any], list[Any]]]:
    """Repeats an iteration, (state) -> (state, metrics [update]), for the runs of one or more seeds in turn.

    Yields (states, metrics of each) after every iteration. A seed's programs have ended before the next seed's begin:
    two batched QR factorisations at once, of the baseline, can wait for each other's threads for ever on two cores.
    A factorisation has one thread: beside other processes, several would wait for each other at every column.
    """
    states = list(states)
    while states[0].meta_iterations < num_iterations:
        with lapack().limit(limits=1, user_api="blas"):
            results = [jax.block_until_ready(iteration(state)) for state in states]
        states = [state for state, _ in results]
        yield states, [metrics for _, metrics in results]
