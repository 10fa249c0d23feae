"""Replay: one ring per task, all rings in one pool of pages on the device, in float32.

A run knows how many transitions it will collect, but not which tasks will be drawn. So a task's ring is not an array of
its own: it is a row of a page table, and takes a page of the shared pool when it grows into it. The pool is as large as
the run needs and no larger, and the part of it that is filled is a prefix, which is what a checkpoint saves.

    pool   [num_pages * PAGE, width]      one packed transition a row; the discount of an episode's last is negative
    pages  [num_tasks, ring_pages]        page of the pool that holds the task's transitions p * PAGE ...
    written [num_tasks]                   transitions written since the last clear; the next goes to written % capacity
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nacre.types import Episode, Key, Transition

PAGE = 200
"""Transitions a page. A task wastes at most one page of the pool."""
PART = 500 * PAGE
"""Rows of the pool that are loaded at a time."""


class Replay(NamedTuple):
    """All tasks' rings. A pytree; every function below returns a new one."""

    pool: Float[Array, "rows width"]
    pages: Int[Array, "task ring_page"]
    written: Int[Array, " task"]
    pages_taken: Int[Array, " task"]
    next_page: Int[Array, ""]

    @property
    def capacity(self) -> int:
        """Transitions that one task's ring holds before it overwrites its oldest."""
        return self.pages.shape[1] * PAGE

    @property
    def size(self) -> Int[Array, " task"]:
        """Transitions that can be sampled now, for each task."""
        return jnp.minimum(self.written, self.capacity)


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def row_width(obs_dim: int, action_dim: int) -> int:
    """Floats in one packed transition."""
    return 2 * obs_dim + action_dim + 3


def num_pages(num_tasks: int, capacity: int, total: int) -> int:
    """Pages that hold `total` transitions however they fall on the tasks."""
    return min(num_tasks * _ceil_div(capacity, PAGE), total // PAGE + num_tasks)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def empty(num_tasks: int, capacity: int, total: int, obs_dim: int, action_dim: int) -> Replay:
    """Rings of `capacity` transitions each (rounded up to pages), for `total` transitions in all."""
    return Replay(
        pool=jnp.zeros((num_pages(num_tasks, capacity, total) * PAGE, row_width(obs_dim, action_dim)), jnp.float32),
        pages=jnp.zeros((num_tasks, _ceil_div(capacity, PAGE)), jnp.int32),
        written=jnp.zeros(num_tasks, jnp.int32),
        pages_taken=jnp.zeros(num_tasks, jnp.int32),
        next_page=jnp.zeros((), jnp.int32),
    )


def pack(transitions: Transition) -> Float[Array, "*rows width"]:
    """A transition as one row of floats: obs, action, reward, training_reward, discount, next_obs."""
    t = transitions
    scalars = jnp.stack([t.reward, t.training_reward, t.discount], axis=-1)
    return jnp.concatenate([t.obs, t.action, scalars, t.next_obs], axis=-1)


def unpack(rows: Float[Array, "*rows width"], obs_dim: int) -> Transition:
    """The inverse of `pack`, also of rows of the pool."""
    action_end = rows.shape[-1] - obs_dim - 3
    obs, action, scalars, next_obs = jnp.split(rows, [obs_dim, action_end, action_end + 3], axis=-1)
    return Transition(obs, action, scalars[..., 0], scalars[..., 1], jnp.abs(scalars[..., 2]), next_obs)


def _ends_marked(rows: Float[Array, "lane time width"], length: Any, obs_dim: int) -> Float[Array, "lane time width"]:
    """Packed episodes, with the sign of the discount that marks the last transition of each."""
    is_last = jnp.arange(rows.shape[1]) == length[:, None] - 1
    column = rows.shape[-1] - obs_dim - 1
    return rows.at[..., column].multiply(jnp.where(is_last, -1.0, 1.0))


def insert(replay: Replay, task: Int[Array, " lane"], episodes: Episode) -> Replay:
    """Appends every lane's episode to the ring of its task, lane after lane; lanes may share a task.

    What needs a page that the pool does not have, or is for no task of these, or longer than its rows, is left out,
    with all that comes after it: the replay is then as it was before, and `is_full` says so.
    """
    transitions = jax.tree.map(jnp.asarray, episodes.transitions)
    rows = pack(transitions).astype(replay.pool.dtype)
    rows = _ends_marked(rows, jnp.asarray(episodes.length), transitions.obs.shape[-1])
    horizon, capacity, ring_pages = rows.shape[1], replay.capacity, replay.pages.shape[1]
    pool_pages, num_tasks = replay.pool.shape[0] // PAGE, replay.pages.shape[0]
    if horizon > capacity:
        raise ValueError(f"an episode of {horizon} transitions does not fit a ring of {capacity}")

    def insert_lane(replay: Replay, lane: tuple[Array, Array, Array]) -> tuple[Replay, None]:
        task, rows, length = lane
        written = replay.written[task] + length
        # Take the pages that the ring grows into.
        taken = replay.pages_taken[task]
        needed = (jnp.minimum(written, capacity) + PAGE - 1) // PAGE
        next_page = replay.next_page + jnp.maximum(needed - taken, 0)
        fits = (next_page <= pool_pages) & (task >= 0) & (task < num_tasks) & (length >= 0) & (length <= horizon)
        slot = jnp.arange(ring_pages)
        fresh = (slot >= taken) & (slot < needed)
        ring = jnp.where(fresh, replay.next_page + slot - taken, replay.pages[task])
        # Write the real rows; padding goes out of bounds and is dropped.
        position = (replay.written[task] + jnp.arange(horizon)) % capacity
        row = ring[position // PAGE] * PAGE + position % PAGE
        row = jnp.where((jnp.arange(horizon) < length) & fits, row, replay.pool.shape[0])
        to = jnp.where(fits, task, num_tasks)  # out of bounds: dropped
        return Replay(
            pool=replay.pool.at[row].set(rows, mode="drop"),
            pages=replay.pages.at[to].set(ring, mode="drop"),
            written=replay.written.at[to].set(written, mode="drop"),
            pages_taken=replay.pages_taken.at[to].max(needed, mode="drop"),
            next_page=jnp.where(fits, next_page, pool_pages + 1),
        ), None

    lanes = (jnp.asarray(task), rows, jnp.asarray(episodes.length))
    return jax.lax.scan(insert_lane, replay, lanes)[0]


def is_full(replay: Replay) -> bool:
    """Whether an insertion was left out, for good. Waits for the insertions before."""
    return int(replay.next_page) > replay.pool.shape[0] // PAGE


def clear(replay: Replay, task: Int[Array, " tasks"]) -> Replay:
    """Forgets the transitions of these tasks; their pages stay theirs."""
    return replay._replace(written=replay.written.at[task].set(0))


def uniform_index(key: Key, shape: tuple[int, ...], size: Int[Array, ...] | int) -> Int[Array, "*shape"]:
    """Whole numbers from 0 to below `size` (broadcast to `shape`), each from one random word, where
    `jax.random.randint` takes two. For a size of 1e6 chances differ by 2e-4
    of themselves."""
    return (jax.random.bits(key, shape) % jnp.asarray(size, jnp.uint32)).astype(jnp.int32)


def sample(replay: Replay, task: Int[Array, " batch"], num: int, obs_dim: int, key: Key) -> Transition:
    """`num` transitions of each task, uniformly with replacement: [batch, num, ...]. Every ring must hold some."""
    at = uniform_index(key, (task.shape[0], num), replay.size[task][:, None])
    page = replay.pages[task[:, None], at // PAGE]
    return unpack(replay.pool[page * PAGE + at % PAGE], obs_dim)


class Steps(NamedTuple):
    """Transitions of each task, with those that followed in their episodes."""

    transitions: Transition  # [batch, num, step, ...]
    follows: Array  # [batch, num, step] of bool: belongs to the same episode as the first of its row

    @property
    def first(self) -> Transition:
        """The first transition of every row, [batch, num, ...]."""
        return jax.tree.map(lambda x: x[:, :, 0], self.transitions)

    def returns(self, discount: float) -> Transition:
        """One transition [batch, num, ...] a row, over all of its steps that follow: the first observation, action and
        reward; the discounted sum of training rewards; the last discount, times `discount` for every step after the
        first; the last next observation."""
        if self.follows.shape[-1] == 1:
            return self.first
        t, num_later = self.transitions, self.follows[..., 1:].sum(axis=-1)
        weights = discount ** jnp.arange(self.follows.shape[-1], dtype=jnp.float32)

        def last(x: Array) -> Array:
            at = num_later.reshape(*num_later.shape, *[1] * (x.ndim - 2))
            return jnp.take_along_axis(x, at, axis=2)[:, :, 0]

        return Transition(
            obs=t.obs[:, :, 0], action=t.action[:, :, 0], reward=t.reward[:, :, 0],
            training_reward=jnp.sum(jnp.where(self.follows, weights * t.training_reward, 0.0), axis=-1),
            discount=last(t.discount) * weights[num_later], next_obs=last(t.next_obs),
        )  # fmt: skip


def single(transitions: Transition) -> Steps:
    """Transitions [batch, num, ...] without those that followed."""
    alone = jax.tree.map(lambda x: x[:, :, None], transitions)
    return Steps(alone, jnp.ones(alone.reward.shape, bool))


def sample_steps(
    replay: Replay, task: Int[Array, " batch"], num: int, num_steps: int, obs_dim: int, key: Key,
    share: float = 1.0, least: int = 1,
) -> Steps:  # fmt: skip
    """`num` transitions of each task, the same that `sample` draws, and up to `num_steps - 1` that followed each.

    With a share below 1 they are drawn out of the newest alone: this share of a ring, but `least` where it holds them.
    """
    shape, size = (task.shape[0], num), replay.size[task][:, None]
    if share == 1.0:
        first = uniform_index(key, shape, size)
    else:
        newest = jnp.clip(jnp.ceil(share * size).astype(jnp.int32), jnp.minimum(least, size), size)
        first = (replay.written[task][:, None] - 1 - uniform_index(key, shape, newest)) % replay.capacity
    at = (first[..., None] + jnp.arange(num_steps)) % replay.size[task][:, None, None]
    page = replay.pages[task[:, None, None], at // PAGE]
    rows = replay.pool[page * PAGE + at % PAGE]
    continues = rows[..., rows.shape[-1] - obs_dim - 1] > 0
    follows = jnp.cumprod(jnp.concatenate([jnp.ones_like(continues[..., :1]), continues[..., :-1]], axis=-1), axis=-1)
    return Steps(unpack(rows, obs_dim), follows.astype(bool))


def sample_sequences(replay: Replay, task: Int[Array, " batch"], num: int, obs_dim: int, key: Key) -> Transition:
    """`num` transitions of each task in the order of their collection, from a random one on: [batch, num, ...].

    Where a ring holds fewer, they begin again from its oldest.
    """
    start = _start_of_stretch(replay, task, num, key)
    return unpack(_by_age(replay, task, start + jnp.arange(num)), obs_dim)


def sample_window(
    replay: Replay, task: Int[Array, " batch"], num: int, window: int, obs_dim: int, key: Key
) -> Transition:
    """`num` transitions of each task, uniformly with replacement out of `window` that were collected one after another,
    from a random one on: [batch, num, ...]. Where a ring holds fewer than `window`, out of all of them."""
    start_key, offset_key = jax.random.split(key)
    start = _start_of_stretch(replay, task, window, start_key)
    stretch = jnp.minimum(window, replay.size[task][:, None])
    offset = uniform_index(offset_key, (task.shape[0], num), stretch)
    return unpack(_by_age(replay, task, start + offset), obs_dim)


def _start_of_stretch(replay: Replay, task: Array, length: int, key: Key) -> Int[Array, "batch 1"]:
    """The age rank (0 the oldest) at which a random stretch of `length` transitions of each task begins."""
    return uniform_index(key, (task.shape[0], 1), jnp.maximum(replay.size[task][:, None] - length, 0) + 1)


def _by_age(replay: Replay, task: Array, rank: Array) -> Float[Array, "batch num width"]:
    """The packed transitions of each task at these age ranks, 0 the oldest; beyond the newest it begins again."""
    oldest = jnp.where(replay.written[task] > replay.capacity, replay.written[task] % replay.capacity, 0)[:, None]
    at = (oldest + rank % replay.size[task][:, None]) % replay.capacity
    page = replay.pages[task[:, None], at // PAGE]
    return replay.pool[page * PAGE + at % PAGE]


@functools.partial(jax.jit, static_argnames="obs_dim")
def moments(replay: Replay, obs_dim: int) -> tuple[Transition, Transition]:
    """Mean and standard deviation of every number of a transition, over all that the rings hold, page after page."""
    slot = jnp.arange(replay.pages.shape[1])
    page = jnp.where(slot < replay.pages_taken[:, None], replay.pages, replay.pool.shape[0])  # others: out of bounds
    held = jnp.clip(replay.size[:, None] - slot * PAGE, 0, PAGE)
    held_by_page = jnp.zeros(replay.pool.shape[0] // PAGE, jnp.int32).at[page].set(held, mode="drop")

    def mean(of_rows: Callable[[Array], Array]) -> Array:
        def add(page: Array, total: Array) -> Array:
            rows = pack(unpack(jax.lax.dynamic_slice_in_dim(replay.pool, page * PAGE, PAGE), obs_dim))
            holds = jnp.arange(PAGE)[:, None] < held_by_page[page]
            return total + jnp.sum(jnp.where(holds, of_rows(rows), 0.0), axis=0)

        total = jax.lax.fori_loop(0, replay.next_page, add, jnp.zeros(replay.pool.shape[1]))
        return total / jnp.maximum(jnp.sum(held), 1)

    centre = mean(lambda rows: rows)
    variance = mean(lambda rows: (rows - centre) ** 2)
    return unpack(centre, obs_dim), unpack(jnp.sqrt(variance), obs_dim)


def filled(replay: Replay) -> dict[str, np.ndarray]:
    """The replay as named host arrays, its pool cut to the pages in use: what a checkpoint saves. No copy on a CPU."""
    host = jax.tree.map(np.asarray, replay)
    return host._replace(pool=host.pool[: int(host.next_page) * PAGE])._asdict()


def refill(template: Replay, saved: dict[str, np.ndarray]) -> Replay:
    """The inverse of `filled`, in the template's sizes, perhaps larger, as in a longer run. Uses up the template."""
    pool = template.pool
    for start in range(0, len(saved["pool"]), PART):
        pool = _overwrite(pool, saved["pool"][start : start + PART], start)
    small = {name: jnp.array(saved[name]) for name in ("written", "pages_taken", "next_page")}
    return Replay(pool=pool, pages=_overwrite(template.pages, saved["pages"], 0), **small)


@functools.partial(jax.jit, donate_argnums=0)
def _overwrite(old: Array, new: Array, row: Array) -> Array:
    """`old` with `new` over its rows from `row` on, in place: a pool is too large to stand in memory twice."""
    return jax.lax.dynamic_update_slice(old, new.astype(old.dtype), (row, 0))
