"""What on-policy methods share, apart from their losses (tests/algorithms/test_maml.py)."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from nacre.learning import on_policy


class State(NamedTuple):
    """As much of a method's state as the loop needs."""

    meta_iterations: int


def num_threads() -> set[int]:
    return {library["num_threads"] for library in on_policy.lapack().info() if library["user_api"] == "blas"}


def test_an_iteration_factorises_matrices_on_one_thread():
    """The caller's number of threads is as it was between iterations and after them."""
    if not num_threads():
        pytest.skip("threadpoolctl does not know the library here (Apple's Accelerate)")
    inside = []

    def iteration(state: State) -> tuple[State, dict[str, Any]]:
        inside.append(num_threads())
        return State(state.meta_iterations + 1), {}

    with on_policy.lapack().limit(limits=2, user_api="blas"):
        outside = [num_threads() for _ in on_policy.iterate(iteration, [State(0)], 2)]
        outside.append(num_threads())
    assert inside == [{1}, {1}] and outside == [{2}] * 3
