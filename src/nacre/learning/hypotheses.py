"""Exploration by hypotheses: points in the space of tasks, tried in an order in which each is far from those before.

Farthest-first traversal (Gonzalez 1985): after k trials no hypothesis is farther from one that was tried than twice
what the best choice of k could do. nacre's own; the paper explores with z from the prior.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nacre.types import Key


class Tried(NamedTuple):
    """What is tried now, and how far every hypothesis is from all that were tried."""

    z: Float[Array, "lane latent_dim"]
    distance: Float[Array, "lane hypothesis"]  # squared, to the nearest; below 0: tried itself


def first(hypotheses: Float[Array, "hypothesis latent_dim"], num_lanes: int, key: Key) -> Tried:
    """A random hypothesis in each lane."""
    number = len(hypotheses)
    chosen = jax.random.randint(key, (num_lanes,), 0, number)
    return _try(hypotheses, jnp.full((num_lanes, number), jnp.inf), chosen)


def following(hypotheses: Float[Array, "hypothesis latent_dim"], tried: Tried) -> Tried:
    """The hypothesis that is farthest from those tried; when all were, again from the one that comes first."""
    return _try(hypotheses, tried.distance, jnp.argmax(tried.distance, axis=1))


def _try(hypotheses: Array, distance: Array, chosen: Array) -> Tried:
    z = hypotheses[chosen]
    nearest = jnp.minimum(distance, jnp.sum((hypotheses[None] - z[:, None]) ** 2, axis=-1))
    return Tried(z, nearest.at[jnp.arange(len(z)), chosen].set(-1.0))
