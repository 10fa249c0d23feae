"""Returns and steps of each task of a data set, counted episode by episode."""

from __future__ import annotations

from typing import Any

import numpy as np

from nacre.data.episodes import SPLITS, LoggedEpisode

Statistics = dict[str, dict[str, list[Any]]]
"""Split -> 'episodes', 'steps', 'return_min', 'return_mean', 'return_max' of each task."""


class Counts:
    """Statistics that grow."""

    def __init__(self, num_tasks: dict[str, int]):
        self._returns: dict[str, list[list[float]]] = {split: [[] for _ in range(n)] for split, n in num_tasks.items()}
        self._steps = {split: np.zeros(number, np.int64) for split, number in num_tasks.items()}

    @property
    def steps(self) -> int:
        """Of all episodes."""
        return int(sum(steps.sum() for steps in self._steps.values()))

    def add(self, episode: LoggedEpisode) -> None:
        """One more episode."""
        self._steps[episode.split][episode.task] += episode.steps
        self._returns[episode.split][episode.task].append(float(np.sum(episode.reward, dtype=np.float64)))

    def told(self) -> Statistics:
        """What it came to."""

        def each(function: Any, returns: list[list[float]]) -> list[float]:
            return [float(function(of_task)) if of_task else 0.0 for of_task in returns]

        return {
            split: {
                "episodes": [len(of_task) for of_task in returns], "steps": [int(n) for n in self._steps[split]],
                "return_min": each(np.min, returns), "return_mean": each(np.mean, returns),
                "return_max": each(np.max, returns),
            }
            for split, returns in self._returns.items()
        }  # fmt: skip


def same(counted: Statistics, told: Statistics) -> bool:
    """Whether what a file tells is what was counted, but for rounding."""
    try:
        return all(
            np.shape(told[split][name]) == np.shape(values)
            and np.allclose(told[split][name], values, rtol=1e-6, atol=1e-6)
            for split in SPLITS
            for name, values in counted[split].items()
        )
    except (KeyError, TypeError, ValueError):
        return False
