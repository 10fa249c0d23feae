"""A probe: which task a point in the space of beliefs stands for, learnt from beliefs about known tasks.

Ridge regression on the numbers of the point, their squares and products (Hoerl and Kennard 1970). The penalty is the
one that predicts tasks best that the regression has not seen, in five parts of the tasks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

PENALTIES = 10.0 ** np.arange(-4, 4)
NUM_PARTS = 5


class Probe(NamedTuple):
    """A fitted probe."""

    centre: np.ndarray  # [latent_dim]
    scale: np.ndarray  # [latent_dim]
    offset: np.ndarray  # [task_dim]
    weights: np.ndarray  # [feature, task_dim]
    error: np.ndarray  # [task_dim] standard deviation of its errors on tasks that it has not seen

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Tasks [..., task_dim] of points [..., latent_dim]."""
        return np.asarray(self.offset + _features((points - self.centre) / self.scale) @ self.weights)


def fit(points: np.ndarray, tasks: np.ndarray) -> Probe:
    """The probe of points [trial, latent_dim] whose tasks [trial, task_dim] are known."""
    centre, scale = points.mean(axis=0), np.maximum(points.std(axis=0), 1e-8)
    features = _features((points - centre) / scale)
    _, number = np.unique(tasks, axis=0, return_inverse=True)
    part = np.ravel(number) % NUM_PARTS  # all trials of a task are in one part
    errors = [_errors_unseen(features, tasks, part, penalty) for penalty in PENALTIES]
    best = int(np.argmin([np.mean((error / np.maximum(tasks.std(axis=0), 1e-8)) ** 2) for error in errors]))
    offset, weights = _ridge(features, tasks, PENALTIES[best])
    return Probe(centre, scale, offset, weights, errors[best].std(axis=0))


def _features(points: np.ndarray) -> np.ndarray:
    """The numbers, their squares and products, [..., feature]."""
    first, second = np.triu_indices(points.shape[-1])
    return np.concatenate([points, points[..., first] * points[..., second]], axis=-1)


def _ridge(features: np.ndarray, tasks: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    centre = features.mean(axis=0)
    x, y = features - centre, tasks - tasks.mean(axis=0)
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    return tasks.mean(axis=0) - centre @ weights, weights


def _errors_unseen(features: np.ndarray, tasks: np.ndarray, part: np.ndarray, penalty: float) -> np.ndarray:
    errors = np.zeros_like(tasks)
    for number in np.unique(part):
        held = part == number
        if held.all():
            continue
        offset, weights = _ridge(features[~held], tasks[~held], penalty)
        errors[held] = tasks[held] - offset - features[held] @ weights
    return errors
