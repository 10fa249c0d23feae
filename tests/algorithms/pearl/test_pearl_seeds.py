"""PEARL: seeds side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pearl_parts import (
    DOUBLE_Q,
    FAMILY,
    GOALS,
    SMALL,
    TASKS,
    Falling,
    assert_trees_close,
    assert_trees_equal,
    change,
    collect,
    copied,
    train,
)

from nacre.algorithms import pearl
from nacre.learning import off_policy
from nacre.learning.collection import Phases

SEEDS_DRAWN = np.array([[0, 2, 0], [1, 1, 2]])


PHASES = Phases(straight=1, prior=1, posterior=2, extra_rl_posterior=1)


@pytest.mark.parametrize(
    ("family", "source", "phases"),
    [
        pytest.param(FAMILY, "collected", PHASES, id="to the horizon", marks=pytest.mark.slow),
        pytest.param(Falling(), "recent", PHASES, id="falling"),
        pytest.param(
            Falling(), "recent", Phases(extra_context_prior=1, extra_rl_posterior=2), id="the encoder's own episodes"
        ),
    ],
)
def test_seeds_side_by_side_collect_what_each_collects_alone(family, source, phases):
    """With their own parameters, tasks and random numbers. Where episodes end early, they need different numbers."""
    config = change(SMALL, num_straight_episodes=1, context=source)

    def start(seed: int) -> pearl.State:
        return collect(pearl.init(family, config, seed), np.arange(3), Phases(prior=1), config, family)

    procedure = pearl.procedure(family, config)
    together = off_policy.collect(family, config, GOALS, [start(1), start(2)], SEEDS_DRAWN, phases, procedure)
    for seed, drawn, state in zip((1, 2), SEEDS_DRAWN, together, strict=True):
        alone = collect(start(seed), drawn, phases, config, family)
        assert state.env_steps == alone.env_steps
        for ours, theirs in ((state.rl_buffer, alone.rl_buffer), (state.context_buffer, alone.context_buffer)):
            np.testing.assert_array_equal(ours.written, theirs.written)
            assert_trees_close(ours.pool, theirs.pool)
    assert (np.asarray(together[0].rl_buffer.pool[:20]) != np.asarray(together[1].rl_buffer.pool[:20])).any()


LEARNING: dict[str, Any] = dict(learning_rate=1e-3, num_train_steps_per_iteration=20)
WITHOUT_V = change(DOUBLE_Q, normalise_critics=True, **LEARNING)
"""The paper's networks learn side by side in tests/runs/test_seeds.py."""


def test_seeds_side_by_side_learn_what_each_learns_alone(collected):
    """Over 20 updates from equal states; rounding grows with every update."""
    config = WITHOUT_V
    buffers = dict(rl_buffer=collected.after.rl_buffer, context_buffer=collected.after.context_buffer)
    starts = [pearl.init(FAMILY, config, seed)._replace(**buffers) for seed in (1, 2)]
    states, metrics = off_policy.train(copied(starts), pearl.procedure(FAMILY, config), 20)
    for start, state, measured in zip(starts, states, metrics, strict=True):
        alone, measured_alone = train(copied(start), 20, config)
        assert_trees_close(state, alone)
        assert_trees_close(measured, measured_alone, rtol=1e-3)
    assert_trees_equal(states[0].rl_buffer, starts[0].rl_buffer)


@pytest.mark.slow
def test_seeds_side_by_side_go_through_a_run_together():
    """With V they do in tests/runs/test_seeds.py, and without it they learn so above."""
    starts = [pearl.init(FAMILY, WITHOUT_V, seed) for seed in (1, 2)]
    for states, metrics in pearl.meta_train(FAMILY, WITHOUT_V, TASKS, copied(starts)):  # noqa: B007
        assert [len(values["kl"]) for values in metrics] == [20, 20]
    assert [(s.env_steps, s.grad_steps, s.meta_iterations) for s in states] == [(60 + 2 * 240, 40, 2)] * 2
    for start, state in zip(starts, states, strict=True):
        (alone,) = list(pearl.meta_train(FAMILY, WITHOUT_V, TASKS, [copied(start)]))[-1][0]
        np.testing.assert_array_equal(state.rl_buffer.written, alone.rl_buffer.written)
        assert_trees_close(state.networks, alone.networks, rtol=1e-2, atol=1e-3)
