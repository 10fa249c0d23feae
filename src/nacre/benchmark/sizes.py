"""How much each benchmark measures."""

from __future__ import annotations

ROUNDS = 7
"""Measurements of each figure, in turns with those of its ceiling, after one that compiles; the median counts."""
UPDATES_PER_ROUND = 10
CEILING_FLOPS = 5e8
"""Least work of a timed call of products, about: one of [4096, 300] x [300, 300] is 7e8."""
CEILING_FLOPS_OF_ACCELERATORS = 2e12
"""`CEILING_FLOPS` on accelerators: tens of milliseconds, beside which the cost of a call is negligible."""
SCALING_TASKS = (10, 100, 1_000, 10_000)
CONTROL_STEPS_PER_ROUND = 10_000
"""Control steps of all lanes together, about: in whole episodes."""
ACTING_STEPS = 2_000
"""Steps of the acting session that are timed, once near its beginning and once in its long context."""
LONG_CONTEXT = 10_000
"""Transitions the session has seen when it is timed for the second time."""
ITERATION_ROUNDS = 3
"""Meta-iterations that are timed, after one that compiles; the median counts."""
