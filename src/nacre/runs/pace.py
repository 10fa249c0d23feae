"""How long a run will still take, from what its updates, collections and evaluations took so far; how often jobs that
are no runs save and report."""

from __future__ import annotations

from collections import deque
from statistics import mean

SECONDS_BETWEEN_SAVES = 240.0
"""Of the state of a collection and of a fine-tuning."""
SECONDS_BETWEEN_REPORTS = 20.0
"""Lines about their progress are printed no more often."""
REMEMBERED = 20
"""Blocks of updates whose mean duration counts."""


class Pace:
    """Seconds by what they were spent on. What a process did first is left out: it holds the compilation."""

    def __init__(self, num_updates: int, evaluation_interval: int = 1):
        """`num_updates` of one iteration, and iterations from one evaluation to the next."""
        self._num_updates = num_updates
        self._evaluation_interval = evaluation_interval
        self._num_blocks = 0
        self._num_evaluations = 0
        self._of_update: deque[float] = deque(maxlen=REMEMBERED)
        self._of_collection: float | None = None
        self._of_evaluation = 0.0

    def block(self, seconds: float, grad_steps: int, size: int) -> None:
        """Takes in a block of `size` updates, up to update `grad_steps`; the first of an iteration collects too."""
        self._num_blocks += 1
        if self._num_blocks == 1:
            return
        first_of_iteration = (grad_steps - size) % self._num_updates == 0
        if not first_of_iteration:
            self._of_update.append(seconds / size)
        elif size == self._num_updates:  # a block is a whole iteration: its collection cannot be told apart
            self._of_collection = seconds
        elif self._of_update:
            self._of_collection = max(seconds - size * mean(self._of_update), 0.0)

    def evaluation(self, seconds: float) -> None:
        """Takes in the evaluations after an iteration."""
        self._num_evaluations += 1
        if self._num_evaluations > 1:
            self._of_evaluation = seconds

    def left(self, grad_steps: int, total: int) -> float | None:
        """Seconds from update `grad_steps` to update `total`; None before there is a basis to tell from."""
        if not self._of_update and self._of_collection is None:
            return None
        iterations = -(-total // self._num_updates) - -(-grad_steps // self._num_updates)
        of_update = mean(self._of_update) if self._of_update else 0.0
        # What is left of this iteration ends in an evaluation too, but has been collected for.
        evaluations = iterations + (grad_steps % self._num_updates > 0)
        collected = iterations * (self._of_collection or 0.0)
        evaluated = evaluations / self._evaluation_interval * self._of_evaluation
        return (total - grad_steps) * of_update + collected + evaluated


def duration(seconds: float) -> str:
    """Hours and minutes, minutes, or seconds."""
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min" if minutes else f"{int(seconds)} s"
