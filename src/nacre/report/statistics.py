"""Summaries over seeds that do not hang on one lucky run (Agarwal et al. 2021, arXiv 2108.13264)."""

from __future__ import annotations

import numpy as np

RESAMPLES = 2_000


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """The mean of the middle half of the seeds, [point] from scores [seed, point]; a seed may count in part."""
    ordered = np.sort(scores, axis=0)
    num_seeds = len(ordered)
    edges = np.clip(np.arange(num_seeds + 1) / num_seeds, 0.25, 0.75)
    return np.asarray((np.diff(edges)[:, None] * ordered.reshape(num_seeds, -1)).sum(axis=0) / 0.5).reshape(
        scores.shape[1:]
    )


def bootstrap_interval(scores: np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) [point]: where the interquartile mean of as many seeds, drawn anew from these, lies."""
    drawn = np.random.default_rng(seed).integers(len(scores), size=(RESAMPLES, len(scores)))
    means = np.stack([interquartile_mean(scores[index]) for index in drawn])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
