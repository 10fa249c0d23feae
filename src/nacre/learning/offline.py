"""The training loop of offline methods: blocks of gradient updates on logged transitions.

A method gives a `Procedure`: which rows of the log an update learns from, and the update. Logs that fit into memory are
sampled inside the compiled block; larger ones stay in their file, and the same rows are read from it before the block.
Both ways give the same numbers.

    rows          [row, width]  a packed transition a row (`replay.pack`); episodes of a task lie together
    first_row     [task]        where a task's rows begin
    num_rows      [task]        how many it has
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nacre.learning.off_policy import UPDATES_PER_CALL
from nacre.learning.replay import uniform_index, unpack
from nacre.types import Key, Logged, Transition, stacked, stream, unstacked

Metrics = dict[str, Any]


class Logs(NamedTuple):
    """The logged transitions of some tasks: host arrays (perhaps of a file), or device arrays. A pytree."""

    rows: Any  # [row, width] float32
    return_to_go: Any  # [row] float32, for the discount that the logs were read with
    last_row: Any  # [row] int32: the row of the last step of its episode
    first_row: Any  # [task] int32
    num_rows: Any  # [task] int32

    @property
    def on_host(self) -> bool:
        """Whether the rows are read on the host, a block of updates at a time."""
        return isinstance(self.rows, np.ndarray)


def placed(logs: Logs, most_bytes: int) -> Logs:
    """The logs on the device where they take at most this many bytes; else as they are."""
    if sum(x.nbytes for x in logs) > most_bytes:
        return logs._replace(first_row=np.asarray(logs.first_row), num_rows=np.asarray(logs.num_rows))
    return Logs(*map(jnp.asarray, logs))


def uniform_rows(logs: Logs, task: Int[Array, " batch"], num: int, key: Key) -> Int[Array, "batch num"]:
    """Numbers of `num` rows of each of these tasks, uniformly with replacement."""
    first, size = jnp.asarray(logs.first_row)[task][:, None], jnp.asarray(logs.num_rows)[task][:, None]
    return first + uniform_index(key, (task.shape[0], num), size)


def contiguous_rows(
    logs: Logs, task: Int[Array, " batch"], num: int, key: Key, stride: int = 1
) -> Int[Array, "batch num"]:
    """Numbers of `num` rows of each of these tasks, every `stride`-th from a random one on; where the task has fewer,
    they begin again from its first."""
    first, size = jnp.asarray(logs.first_row)[task][:, None], jnp.asarray(logs.num_rows)[task][:, None]
    start = uniform_index(key, (task.shape[0], 1), jnp.maximum(size - num * stride, 0) + 1)
    return first + (start + stride * jnp.arange(num)) % size


def transitions(logs: Logs, at: Any, obs_dim: int) -> Transition:
    """The transitions in these rows, [*at, ...]."""
    rows: Any = read(logs.rows, np.asarray(at)) if logs.on_host else logs.rows[at]
    return unpack(rows, obs_dim)


def read(rows: Float[np.ndarray, "row width"], at: Int[np.ndarray, "*at"]) -> Float[np.ndarray, "*at width"]:
    """rows[at], read in rising order: a file that memory does not hold is then read from front to back, once."""
    order = np.argsort(at, axis=None)
    found = np.empty((at.size, rows.shape[-1]), rows.dtype)
    found[order] = rows[at.reshape(-1)[order]]
    return found.reshape(*at.shape, rows.shape[-1])


def logged(logs: Logs, at: Any, obs_dim: int) -> Logged:
    """The transitions in these rows as `Logged`: with return to go, steps to the end, last observation and discount."""
    transition, last = transitions(logs, at, obs_dim), logs.last_row[at]
    end = transitions(logs, last, obs_dim)
    steps = (last - at + 1).astype(np.float32)
    return Logged(transition, logs.return_to_go[at], steps, end.next_obs, end.discount)


class State(NamedTuple):
    """All that a run needs to continue. Every random number follows from `key` and a counter."""

    networks: Any
    optimisers: Any
    key: Key
    env_steps: np.int64  # 0: the data set is all there is
    grad_steps: np.int64
    meta_iterations: np.int64  # completed


def begun(networks: Any, optimisers: Any, key: Key) -> State:
    """The state before the first update."""
    return State(networks, optimisers, key, np.int64(0), np.int64(0), np.int64(0))


def transfer(into: State, source: State) -> State:
    """`into` with what `source` has learnt."""
    return into._replace(networks=source.networks)


Choose = Callable[[Logs, Key], tuple[Any, Any]]
"""(logs, key) -> (numbers of rows, a pytree of integer arrays; all else that is random, a pytree) of one update. It may
read `first_row` and `num_rows` only."""
Learn = Callable[[Any, Any, Any], tuple[Any, Metrics]]
"""((networks, optimisers), the pytree of numbers with the transitions in their place, the rest) ->
((networks, optimisers), metrics)."""


class Procedure(NamedTuple):
    """What a method adds to the loop. Equal functions must be the same objects at every call, or code compiles anew."""

    choose: Choose
    learn: Learn
    obs_dim: int
    with_returns: bool  # whether `learn` gets `Logged`, else `Transition`


def meta_train(
    config: Any, logs: Logs, states: Sequence[State], procedure: Procedure
) -> Iterator[tuple[list[State], list[Metrics]]]:
    """Continues the runs of one or more seeds, side by side, from states with equal numbers of updates.

    Yields (states, metrics [update] of each) after every block of updates. Asking for the next states uses up the ones
    before. `config` is an `OfflineSettings`.
    """
    states = list(states)
    num_updates = config.num_train_steps_per_iteration
    while states[0].meta_iterations < config.iterations:
        done = int(states[0].grad_steps) - int(states[0].meta_iterations) * num_updates
        size = min(UPDATES_PER_CALL, num_updates - done)
        states, metrics = train(states, logs, procedure, size)
        if done + size == num_updates:
            states = [state._replace(meta_iterations=state.meta_iterations + 1) for state in states]
        yield states, metrics


def train(
    states: Sequence[State], logs: Logs, procedure: Procedure, num_updates: int
) -> tuple[list[State], list[Metrics]]:
    """`num_updates` updates of every run in one compiled scan. Metrics are [update]."""
    learners = [(state.networks, state.optimisers) for state in states]
    keys, first = [state.key for state in states], np.int32(states[0].grad_steps)
    if logs.on_host:
        sizes = logs._replace(rows=None, return_to_go=None, last_row=None)
        chosen, rest = _chosen(sizes, keys, first, procedure=procedure, num_updates=num_updates)
        drawn = jax.tree.map(lambda at: _gather(logs, np.asarray(at), procedure), chosen)
        learners, metrics = _block_of_drawn(learners, drawn, rest, procedure=procedure)
    else:
        learners, metrics = _block(learners, logs, keys, first, procedure=procedure, num_updates=num_updates)
    after = [
        state._replace(networks=networks, optimisers=optimisers, grad_steps=state.grad_steps + num_updates)
        for state, (networks, optimisers) in zip(states, learners, strict=True)
    ]
    return after, metrics


def _gather(logs: Logs, at: Any, procedure: Procedure) -> Any:
    return (logged if procedure.with_returns else transitions)(logs, at, procedure.obs_dim)


def _choose_of_seeds(logs: Logs, keys: Sequence[Key], number: Any, procedure: Procedure) -> Any:
    """What update `number` of every run learns from, stacked [seed, ...]."""
    return stacked([procedure.choose(logs, jax.random.fold_in(stream(key, "train"), number)) for key in keys])


@functools.partial(jax.jit, static_argnames=("procedure", "num_updates"))
def _chosen(logs: Logs, keys: list[Key], first: Any, *, procedure: Procedure, num_updates: int) -> Any:
    """What each of `num_updates` updates learns from, [update, seed, ...]."""
    return jax.lax.map(lambda number: _choose_of_seeds(logs, keys, number, procedure), _numbers(first, num_updates))


def _numbers(first: Any, num_updates: int) -> Array:
    return first + jnp.arange(num_updates, dtype=jnp.int32)


@functools.partial(jax.jit, static_argnames=("procedure", "num_updates"), donate_argnames="learners")
def _block(
    learners: list[Any], logs: Logs, keys: list[Key], first: Any, *, procedure: Procedure, num_updates: int
) -> tuple[list[Any], list[Metrics]]:
    def body(carry: Any, number: Any) -> tuple[Any, Metrics]:
        chosen, rest = _choose_of_seeds(logs, keys, number, procedure)
        drawn = jax.tree.map(lambda at: _gather(logs, at, procedure), chosen)
        return jax.vmap(procedure.learn)(carry, drawn, rest)

    after, metrics = jax.lax.scan(body, stacked(learners), _numbers(first, num_updates))
    return unstacked(after, len(learners)), unstacked(metrics, len(learners), axis=1)


@functools.partial(jax.jit, static_argnames="procedure", donate_argnames="learners")
def _block_of_drawn(
    learners: list[Any], drawn: Any, rest: Any, *, procedure: Procedure
) -> tuple[list[Any], list[Metrics]]:
    def body(carry: Any, given: Any) -> tuple[Any, Metrics]:
        return jax.vmap(procedure.learn)(carry, *given)

    after, metrics = jax.lax.scan(body, stacked(learners), (drawn, rest))
    return unstacked(after, len(learners)), unstacked(metrics, len(learners), axis=1)
