"""Summaries over seeds that do not hang on one lucky run (Agarwal et al. 2021, arXiv 2108.13264)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 2_000
LEVEL = 0.95
"""Of intervals."""


class Estimate(NamedTuple):
    """A number and its bootstrap interval, whose ends are NaN for one seed alone, which tells nothing of the spread."""

    value: float
    low: float
    high: float


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """The mean of the middle half of the seeds, [point] from scores [seed, point]; a seed may count in part."""
    ordered = np.sort(scores, axis=0)
    num_seeds = len(ordered)
    edges = np.clip(np.arange(num_seeds + 1) / num_seeds, 0.25, 0.75)
    return np.asarray((np.diff(edges)[:, None] * ordered.reshape(num_seeds, -1)).sum(axis=0) / 0.5).reshape(
        scores.shape[1:]
    )


def bootstrap_interval(scores: np.ndarray, level: float = LEVEL, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) [point]: where the interquartile mean of as many seeds, drawn anew from these, lies."""
    means = np.stack([interquartile_mean(scores[index]) for index in _drawn(len(scores), seed)])
    return _quantiles(means, level)


def pooled_interquartile_mean(scores: np.ndarray) -> Estimate:
    """The interquartile mean of scores [seed, task] over seeds and tasks together.

    A resample draws seeds anew, each with all its tasks: they are of one network, so they do not vary apart.
    """
    value = float(interquartile_mean(scores.reshape(-1)))
    pooled = scores[_drawn(len(scores))].reshape(RESAMPLES, -1)  # [resample, seed and task]
    return _estimate(value, interquartile_mean(pooled.T), len(scores))


def probability_of_improvement(better: np.ndarray, worse: np.ndarray) -> Estimate:
    """How probably a run of one method is ahead of a run of another on a task; ties count half.

    Scores [seed, task] of both on the same tasks: the mean over tasks and over pairs of a seed of each. A resample
    draws the seeds of both anew.
    """
    wins = (np.sign(better[:, None] - worse[None]).mean(axis=2) + 1) / 2  # [seed, seed]
    counts = [_counts(len(scores), seed) for seed, scores in enumerate((better, worse))]
    resampled = np.einsum("ri,ij,rj->r", counts[0], wins, counts[1]) / wins.size
    return _estimate(float(wins.mean()), resampled, min(len(better), len(worse)))


def share_above(families: Sequence[np.ndarray], levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The performance profile: (share, low, high) [level] of seeds and tasks whose score is above each level.

    Scores [seed, task] of each family: the mean over families of their shares; a resample draws the seeds of each anew.
    The ends of the interval are NaN where a family has one seed.
    """
    by_seed = [(scores[:, :, None] > levels).mean(axis=1) for scores in families]  # [seed, level] of each
    share = np.mean([one.mean(axis=0) for one in by_seed], axis=0)
    if min(map(len, families)) == 1:
        return share, np.full_like(share, np.nan), np.full_like(share, np.nan)
    resampled = [_counts(len(one), seed) @ one / len(one) for seed, one in enumerate(by_seed)]
    return share, *_quantiles(np.mean(resampled, axis=0), LEVEL)


def _drawn(number: int, seed: int = 0) -> np.ndarray:
    """Seeds drawn with replacement, [resample, seed]."""
    return np.random.default_rng(seed).integers(number, size=(RESAMPLES, number))


def _counts(number: int, seed: int = 0) -> np.ndarray:
    """How often each seed was drawn, [resample, seed]."""
    counts = np.zeros((RESAMPLES, number))
    np.add.at(counts, (np.arange(RESAMPLES)[:, None], _drawn(number, seed)), 1)
    return counts


def _quantiles(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _estimate(value: float, resampled: np.ndarray, num_seeds: int) -> Estimate:
    if num_seeds == 1:
        return Estimate(value, np.nan, np.nan)
    low, high = _quantiles(resampled, LEVEL)
    return Estimate(value, float(low), float(high))
