"""The shapes that are written beside arrays are checked in every call that a test makes (see conftest.py)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jaxtyping
import pytest

from nacre.algorithms import pearl
from nacre.learning.on_policy import discounted_sums
from nacre.types import Belief

BELIEF = Belief(jnp.zeros((4, 3)), jnp.ones((4, 3)))


def test_a_transposed_array_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="discount"):
        discounted_sums(jnp.zeros((3, 4)), jnp.zeros((4, 3)))


def test_noise_of_a_single_lane_is_not_broadcast_to_all_of_them() -> None:
    assert pearl.sample_z(BELIEF, jnp.ones((4, 3))).shape == (4, 3)
    with pytest.raises(jaxtyping.TypeCheckError):
        pearl.sample_z(BELIEF, jnp.ones(3))


def test_a_wrong_shape_is_refused_while_a_program_is_traced() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        jax.jit(pearl.sample_z)(BELIEF, jnp.ones((1, 3)))
