"""JAX's random numbers, drawn by NumPy."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from nacre.deploy import numpy_networks as drawn
from nacre.deploy.numpy_session import ABSORBING

SEEDS = [0, 1, 1337, 2**31 - 1, 2**31, 2**32 - 1]


def words(key: jax.Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(key))


@pytest.mark.parametrize("seed", SEEDS)
def test_keys_of_seeds_their_parts_and_what_is_folded_into_them_are_those_of_jax(seed: int) -> None:
    theirs, ours = jax.random.key(seed), drawn.key_of(seed)
    assert np.array_equal(ours, words(theirs))
    for number in (1, 2, 3, 7):
        assert np.array_equal(drawn.split(ours, number), words(jax.random.split(theirs, number)))
    for number in (0, 5, 10_000, ABSORBING):
        assert np.array_equal(drawn.fold_in(ours, number), words(jax.random.fold_in(theirs, number)))


@pytest.mark.parametrize("size", [1, 5, 64, 1000])
def test_numbers_drawn_by_a_key_are_those_of_jax(size: int) -> None:
    for seed in SEEDS:
        theirs, ours = jax.random.key(seed), drawn.key_of(seed)
        assert np.array_equal(drawn.bits(ours, size), np.asarray(jax.random.bits(theirs, (size,))))
        uniform = np.asarray(jax.random.uniform(theirs, (1, size), minval=-1.0, maxval=1.0))[0]
        assert np.array_equal(drawn.uniform(ours, size, -1.0, 1.0), uniform)
        normal = np.asarray(jax.random.normal(theirs, (1, size)))[0]
        assert np.allclose(drawn.normal(ours, size), normal, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("number", [1, 2, 100, 65_537, 2**31 - 1])
def test_whole_numbers_drawn_by_a_key_are_those_of_jax(number: int) -> None:
    for seed in SEEDS:
        theirs = int(jax.random.randint(jax.random.key(seed), (1,), 0, number)[0])
        assert drawn.randint(drawn.key_of(seed), number) == theirs


def test_the_tails_of_the_normal_distribution_are_those_of_jax() -> None:
    theirs = np.asarray(jax.random.normal(jax.random.key(3), (100_000,)))
    ours = drawn.normal(drawn.key_of(3), 100_000)
    assert np.abs(theirs).max() > 4
    assert np.allclose(ours, theirs, rtol=2e-6, atol=1e-7)
    assert abs(ours.mean()) < 0.01 and abs(ours.std() - 1) < 0.01
