"""Standard normal noise of the actions that training collects, over the steps of an episode: white or pink."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from nacre.types import Key

PARTS = np.array([1.0, 8.0, 64.0], np.float32)
"""Pink noise is the sum of as many parts, each of which forgets itself by 1/e in so many steps."""
KEPT = np.exp(-1.0 / PARTS)


def begin(noise: str, shape: tuple[int, int], key: Key) -> Any:
    """What is remembered before the first step of every lane; shape is (lanes, action_dim). Nothing for white noise."""
    return jax.random.normal(jax.random.fold_in(key, 1), (*shape, len(PARTS))) if noise == "pink" else ()


def draw(remembered: Any, shape: tuple[int, ...], key: Key) -> tuple[Float[Array, "lane action_dim"], Any]:
    """(noise of this step, what is remembered after it)."""
    if isinstance(remembered, tuple):
        return jax.random.normal(key, shape), remembered
    fresh = jax.random.normal(key, remembered.shape)
    parts = KEPT * remembered + np.sqrt(1.0 - KEPT**2) * fresh
    return parts.sum(axis=-1) / np.sqrt(len(PARTS)), parts
