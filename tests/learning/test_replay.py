"""Replay against a model in plain Python: one bounded deque a task, whatever is inserted, cleared and overwritten."""

from __future__ import annotations

import functools
from collections import deque
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.learning import replay as rings
from nacre.learning.replay import Replay
from nacre.types import Episode, Transition

NUM_TASKS, NUM_LANES, HORIZON, OBS_DIM, ACTION_DIM = 3, 3, 5, 2, 1
PAGE = 4
PADDING = 999_999
MANY = 400
"""Draws from a ring of at most 16: the chance to miss one of them is below 1e-9."""


@pytest.fixture(scope="module", autouse=True)
def small_pages():
    """Pages of four transitions, so that short sequences cross pages and wrap; two pages are loaded at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rings, "PAGE", PAGE)
        patch.setattr(rings, "PART", 2 * PAGE)
        yield


class Sizes(NamedTuple):
    capacity: int  # as asked for
    ring: int  # rounded up to pages
    total: int
    num_pages: int


ROOMY = Sizes(capacity=7, ring=8, total=1000, num_pages=6)
"""Every ring may grow to its capacity: the pool has all pages of all rings."""
TIGHT = Sizes(capacity=16, ring=16, total=20, num_pages=8)
"""The pool is smaller than all rings together: 20 // 4 pages and one more a task."""


def transitions(serial: np.ndarray) -> Transition:
    """One transition a serial number, from whose every field it can be read off; exact in float32."""
    s = serial.astype(np.float32)
    return Transition(
        obs=np.stack([s, -s], axis=-1),
        action=(s + 0.25)[..., None],
        reward=2 * s,
        training_reward=3 * s,
        discount=s % 2,
        next_obs=np.stack([s + 1, s + 0.5], axis=-1),
    )


def serials(sampled: Transition) -> list[int]:
    """The serial numbers of these transitions; all fields must tell the same."""
    serial = np.asarray(sampled.reward) / 2
    for ours, expected in zip(sampled, transitions(serial), strict=True):
        np.testing.assert_array_equal(ours, expected)
    return serial.astype(int).ravel().tolist()


# Compiled apart from the functions that other tests use, because PAGE is another here.
@jax.jit
def insert(replay: Replay, task: Any, episodes: Episode) -> Replay:
    return rings.insert(replay, task, episodes)


@jax.jit
def clear(replay: Replay, task: Any) -> Replay:
    return rings.clear(replay, task)


@jax.jit
def sample_all(replay: Replay, key: jax.Array) -> Transition:
    return rings.sample(replay, jnp.arange(NUM_TASKS), MANY, OBS_DIM, key)


class Insert(NamedTuple):
    task: tuple[int, ...]  # [lane]; lanes may share a task
    length: tuple[int, ...]  # [lane]


class Clear(NamedTuple):
    task: int


lanes_of = {"min_size": NUM_LANES, "max_size": NUM_LANES}
operations = st.lists(
    st.one_of(
        st.builds(
            Insert,
            st.lists(st.integers(0, NUM_TASKS - 1), **lanes_of).map(tuple),
            st.lists(st.integers(0, HORIZON), **lanes_of).map(tuple),
        ),
        st.builds(Clear, st.integers(0, NUM_TASKS - 1)),
    ),
    max_size=10,
)


class Played(NamedTuple):
    replay: Replay
    model: list[deque[int]]
    written: int


def nothing(sizes: Sizes) -> Played:
    replay = rings.empty(NUM_TASKS, sizes.capacity, sizes.total, OBS_DIM, ACTION_DIM)
    return Played(replay, [deque(maxlen=sizes.ring) for _ in range(NUM_TASKS)], 0)


def play(operations: list[Any], start: Played, total: int) -> Played:
    """Replay and model after these operations, as many of them as write no more than `total` transitions in all."""
    replay, model, written = start.replay, [ring.copy() for ring in start.model], start.written
    for operation in operations:
        if isinstance(operation, Clear):
            replay = clear(replay, np.array([operation.task]))
            model[operation.task].clear()
            continue
        if written + sum(operation.length) > total:
            break
        serial = np.full((NUM_LANES, HORIZON), PADDING)
        for lane, (task, length) in enumerate(zip(operation.task, operation.length, strict=True)):
            serial[lane, :length] = written + 1 + np.arange(length)
            model[task].extend(serial[lane, :length].tolist())
            written += length
        replay = insert(replay, np.array(operation.task), Episode(transitions(serial), np.array(operation.length)))
    return Played(replay, model, written)


def assert_holds(replay: Replay, model: list[deque[int]], key: int = 0) -> None:
    """Samples of every task are rows of its model, and all of its rows turn up."""
    assert np.asarray(replay.size).tolist() == [len(ring) for ring in model]
    sampled = jax.device_get(sample_all(replay, jax.random.key(key)))
    for task, ring in enumerate(model):
        if ring:
            assert set(serials(jax.tree.map(lambda x, t=task: x[t], sampled))) == set(ring)


def assert_pages_are_in_order(replay: Replay, sizes: Sizes) -> None:
    """The pool has not overflown, and no page belongs to two tasks."""
    taken = np.asarray(replay.pages_taken)
    pages = np.concatenate([ring[:n] for ring, n in zip(np.asarray(replay.pages), taken, strict=True)])
    assert int(replay.next_page) == taken.sum() == len(set(pages.tolist())) <= sizes.num_pages
    assert replay.pool.shape[0] == sizes.num_pages * PAGE


@pytest.mark.parametrize("sizes", [ROOMY, TIGHT], ids=["roomy", "tight"])
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(operations=operations)
def test_replay_holds_what_a_deque_a_task_would_hold(sizes, operations):
    replay, model, _ = play(operations, nothing(sizes), sizes.total)
    assert_pages_are_in_order(replay, sizes)
    assert_holds(replay, model)
    assert_has_moments(replay, model)


TINY = Sizes(capacity=16, ring=16, total=0, num_pages=3)
"""Three pages for rings that may grow to four each."""


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(operations=operations)
def test_what_does_not_fit_is_left_out_and_told_and_touches_nothing(operations):
    """A lane that needs a page too many is dropped, with all lanes after it; what was there before stays readable."""
    replay, model, serial, full = nothing(TINY).replay, [deque(maxlen=TINY.ring) for _ in range(NUM_TASKS)], 0, False
    taken = np.zeros(NUM_TASKS, int)
    for operation in operations:
        if isinstance(operation, Clear):
            replay = clear(replay, np.array([operation.task]))
            model[operation.task].clear()
            continue
        numbers = np.full((NUM_LANES, HORIZON), PADDING)
        for lane, (task, length) in enumerate(zip(operation.task, operation.length, strict=True)):
            numbers[lane, :length] = serial + 1 + np.arange(length)
            serial += length
            needs = -(-min(len(model[task]) + length, TINY.ring) // PAGE)
            full |= max(needs - taken[task], 0) > TINY.num_pages - taken.sum()
            if not full:
                taken[task] = max(needs, taken[task])
                model[task].extend(numbers[lane, :length].tolist())
        replay = insert(replay, np.array(operation.task), Episode(transitions(numbers), np.array(operation.length)))
    assert rings.is_full(replay) == full
    assert_holds(replay, model)
    pages = [ring[:n] for ring, n in zip(np.asarray(replay.pages), np.asarray(replay.pages_taken), strict=True)]
    assert set(np.concatenate(pages).tolist()) <= set(range(TINY.num_pages))


@pytest.mark.parametrize(("task", "length"), [(NUM_TASKS, 5), (-1, 5), (0, HORIZON + 1), (0, -1)], ids=str)
def test_an_insertion_for_no_task_or_of_no_length_is_left_out(task, length):
    replay, model, _ = play([Insert((0, 1, 2), (5, 5, 5))], nothing(ROOMY), 1000)
    episodes = Episode(transitions(np.full((1, HORIZON), PADDING)), np.array([length]))
    spoilt = jax.jit(rings.insert)(replay, np.array([task]), episodes)
    assert rings.is_full(spoilt) and not rings.is_full(replay)
    assert_holds(spoilt, model)


def assert_has_moments(replay: Replay, model: list[deque[int]]) -> None:
    """Of all transitions of all tasks, none twice, and nothing of what was overwritten, forgotten or padding."""
    held = transitions(np.array(sorted(serial for ring in model for serial in ring)))
    if len(held.reward):
        mean, std = rings.moments(replay, OBS_DIM)
        assert_close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-4)
        jax.tree.map(lambda ours, x: assert_close(ours, x.mean(0)), mean, held)
        jax.tree.map(lambda ours, x: assert_close(ours, x.std(0)), std, held)


def test_moments_need_no_second_pool():
    replay = jax.eval_shape(lambda: rings.empty(10, 10_000, 100_000, OBS_DIM, ACTION_DIM))
    needed = rings.moments.lower(replay, OBS_DIM).compile().memory_analysis().temp_size_in_bytes
    assert needed < replay.pool.size * 4 / 4


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(operations=operations, more=operations)
def test_a_saved_and_restored_replay_gives_the_same_samples_and_continues_the_same(operations, more):
    """Also into the larger pool of a longer run; what a checkpoint holds is only the filled part of the pool."""
    original = play(operations, nothing(TIGHT), TIGHT.total)
    saved = {name: values.copy() for name, values in rings.filled(original.replay).items()}
    assert len(saved["pool"]) == int(original.replay.next_page) * PAGE
    resumed = play(more, original, TIGHT.total)
    for total in (TIGHT.total, 32):
        template = rings.empty(NUM_TASKS, TIGHT.capacity, total, OBS_DIM, ACTION_DIM)
        rows = template.pool.shape[0]
        restored = original._replace(replay=rings.refill(template, saved))
        assert restored.replay.pool.shape[0] == rows
        assert_same_samples(restored.replay, original.replay)
        assert_holds(restored.replay, original.model)
        assert_same_samples(play(more, restored, TIGHT.total).replay, resumed.replay)


def assert_same_samples(a: Replay, b: Replay) -> None:
    holding = np.asarray(a.size) > 0
    for ours, theirs in zip(*(sample_all(replay, jax.random.key(1)) for replay in (a, b)), strict=True):
        np.testing.assert_array_equal(np.asarray(ours)[holding], np.asarray(theirs)[holding])


def test_an_episode_longer_than_what_is_left_of_the_ring_wraps():
    """Capacity 7 is rounded up to 8: of 5 + 5 transitions the two oldest are overwritten."""
    one_lane = [Insert((0, 1, 2), (5, 0, 0)), Insert((0, 1, 2), (5, 0, 0))]
    replay, model, _ = play(one_lane, nothing(ROOMY), 1000)
    assert replay.capacity == 8
    assert sorted(model[0]) == list(range(3, 11))
    assert_holds(replay, model)


def test_lanes_that_share_a_task_are_appended_lane_after_lane():
    replay, model, _ = play([Insert((1, 1, 1), (3, 3, 3))], nothing(ROOMY), 1000)
    assert sorted(model[1]) == list(range(2, 10))
    assert_holds(replay, model)


def test_clear_forgets_one_task_and_leaves_room_for_as_much_again():
    start = [Insert((0, 1, 2), (5, 5, 5))]
    replay, model, _ = play([*start, Clear(1)], nothing(ROOMY), 1000)
    assert np.asarray(replay.size).tolist() == [5, 0, 5]
    again, model, _ = play([*start, Clear(1), Insert((1, 1, 1), (5, 3, 0))], nothing(ROOMY), 1000)
    assert int(again.next_page) == int(replay.next_page), "its pages stay its own"
    assert sorted(model[1]) == list(range(16, 24))
    assert_holds(again, model)


def test_samples_are_uniform_over_the_ring():
    replay, model, _ = play([Insert((0, 0, 1), (5, 5, 5)), Insert((2, 2, 2), (1, 0, 0))], nothing(ROOMY), 1000)
    sampled = serials(jax.tree.map(lambda x: x[0], jax.device_get(sample_all(replay, jax.random.key(0)))))
    counts = np.array([sampled.count(serial) for serial in model[0]])
    assert counts.sum() == MANY
    # Chi-squared of 8 equal cells, 7 degrees of freedom: above 24.3 once in a thousand.
    assert ((counts - MANY / 8) ** 2 / (MANY / 8)).sum() < 24.3


def test_an_index_is_uniform_below_its_size_whatever_the_size():
    assert (np.asarray(rings.uniform_index(jax.random.key(0), (100,), 1)) == 0).all()
    sizes = jnp.array([[3], [1_000_000]])
    index = np.asarray(rings.uniform_index(jax.random.key(0), (2, 30_000), sizes))
    assert index.min() == 0 and (index < np.asarray(sizes)).all()
    assert ((np.bincount(index[0]) - 10_000) ** 2 / 10_000).sum() < 13.8  # chi-squared, 2 degrees: once in a thousand
    counts = np.histogram(index[1], bins=10, range=(0, 1_000_000))[0]
    assert ((counts - 3_000) ** 2 / 3_000).sum() < 27.9  # 9 degrees


def test_samples_are_new_with_a_new_key_and_the_same_with_the_same():
    replay, *_ = play([Insert((0, 1, 2), (5, 5, 5))], nothing(ROOMY), 1000)
    first, again, other = (np.asarray(sample_all(replay, jax.random.key(key)).reward) for key in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_an_episode_that_does_not_fit_a_ring_is_refused():
    replay = rings.empty(NUM_TASKS, PAGE, 100, OBS_DIM, ACTION_DIM)
    episodes = Episode(transitions(np.zeros((1, PAGE + 1))), np.array([1]))
    with pytest.raises(ValueError, match=r"5 transitions does not fit a ring of 4"):
        rings.insert(replay, jnp.array([0]), episodes)


@given(serial=st.lists(st.integers(0, 10**6), min_size=4, max_size=4))
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_unpack_undoes_pack(serial):
    given_transitions = transitions(np.array(serial))
    packed = rings.pack(given_transitions)
    assert (
        packed.shape
        == (len(serial), rings.row_width(OBS_DIM, ACTION_DIM))
        == (len(serial), 2 * OBS_DIM + ACTION_DIM + 3)
    )
    for ours, theirs in zip(rings.unpack(packed, OBS_DIM), given_transitions, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@given(
    num_tasks=st.integers(1, 5),
    capacity=st.integers(1, 30),
    amounts=st.lists(st.integers(0, 60), min_size=5, max_size=5),
)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_the_pool_has_pages_enough_however_the_transitions_fall_on_the_tasks(num_tasks, capacity, amounts):
    amounts = amounts[:num_tasks]
    ring_pages = -(-capacity // PAGE)
    needed = sum(min(ring_pages, -(-amount // PAGE)) for amount in amounts)
    assert needed <= rings.num_pages(num_tasks, capacity, sum(amounts))
