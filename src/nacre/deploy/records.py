"""An evaluation as a JSON object: what `nacre evaluate --json` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nacre.deploy.logged_tasks import Lines
from nacre.presets.trials import TrialSettings
from nacre.simulation.rollout import Evaluation, score, score_success


def recorded(
    evaluation: Evaluation, tasks: Sequence[dict[str, Any]], trials: TrialSettings, lines: Lines | None
) -> dict[str, Any]:
    """Its returns [repeat][task][episode], the tasks, how the trials were, and, where they are known, the normalised
    scores of the tasks and what others earn there."""
    returns, success, seen = evaluation
    data = {
        "returns": returns.tolist(),
        "tasks": list(tasks),
        "protocol": trials.protocol,
        "context_transitions": np.asarray(seen).tolist(),
        "scored_episode": returns.shape[2],
        "exploration_episodes": trials.exploration_episodes,
        "exploration": trials.exploration,
        "forgetting": trials.forgetting,
        "resample": trials.resample,
        "score": score(returns),
    }
    if success is not None:
        data |= {"success": success.tolist(), "success_rate": score_success(success)}
    if lines is None:
        return data
    normalised = lines.normalised(returns[:, :, -1].mean(axis=0))
    known = [value for value in normalised if value is not None]
    if known:
        data |= {"normalised": normalised, "normalised_score": float(np.mean(known))}
    if lines.named():
        data["lines"] = {name: values.tolist() for name, values in lines.named().items()}
    if lines.normalised_means():
        data["normalised_lines"] = lines.normalised_means()
    return data
