"""What a caller of `nacre.train` sees after every meta-iteration, and what the caller adds to the logs."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from nacre.errors import NacreError
from nacre.runs.directory import RunDirectory


class Iteration(NamedTuple):
    """A meta-iteration that was completed."""

    run: RunDirectory
    iteration: int  # completed so far
    env_steps: int
    grad_steps: int
    metrics: dict[str, float]  # as in the newest row of metrics.csv: means over the last block of updates
    returns: np.ndarray | None  # [repeat, task, episode] on test tasks; None where they were not evaluated now


OnIteration = Callable[[Iteration], Mapping[str, Any] | None]
"""Called after every meta-iteration of every run. What it returns, a dictionary of numbers, goes into the logs."""


def extra_metrics(returned: Any) -> dict[str, float]:
    """What `on_iteration` returned as numbers by name. Raises NacreError for what is none."""
    if returned is None:
        return {}
    if not isinstance(returned, Mapping):
        raise NacreError(f"on_iteration returned a {type(returned).__name__}; return a dictionary of numbers, or None.")
    found = {}
    for name, value in returned.items():
        if not isinstance(name, str) or not re.fullmatch(r"[\w./-]{1,80}", name):
            raise NacreError(f"on_iteration names a metric {str(name)[:80]!r}; use letters, digits and any of _ . / -")
        value = value.item() if hasattr(value, "item") and np.ndim(value) == 0 else value
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise NacreError(f"on_iteration returned {name} {str(value)[:80]}, which is not a finite number.")
        found[name] = float(value)
    return found
