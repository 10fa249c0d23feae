"""What a control step of lanes gives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class LaneStep(NamedTuple):
    """What one control step gives, side by side; float32 but for the flags."""

    obs: np.ndarray  # [lane, obs_dim]
    reward: np.ndarray  # [lane]
    training_reward: np.ndarray  # [lane]
    terminated: np.ndarray  # [lane] of bool
    success: np.ndarray | None = None  # [lane] of bool, where the family reports it
    diverged: np.ndarray | None = None  # [lane] of bool, where physics may: such a row means nothing else
